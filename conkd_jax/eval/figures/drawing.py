"""How a figure becomes a file: without pyplot, so without a display and without global state."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from typing import Any

import matplotlib
from etils import epath
from matplotlib.figure import Figure

from conkd_jax.eval.figures.style import STYLE, drawable
from conkd_jax.io.files import write_whole


@contextlib.contextmanager
def figure_file(
    path: epath.PathLike,
    size: tuple[float, float],
    *,
    title: str = "",
    style: Mapping[str, Any] | None = None,
) -> Iterator[Figure]:
    """Yields a figure in the project's style, and writes it as a PNG when the block ends.

    The same numbers make the same bytes. Nothing is written if the block raises.

    Args:
      path: where the PNG goes.
      size: width and height in inches.
      title: of the whole figure.
      style: settings of matplotlib that differ from `STYLE`.

    Yields:
      An empty figure.
    """
    settings: dict[Any, Any] = {**STYLE, **({} if style is None else style)}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=size)
        yield figure
        if title:
            figure.suptitle(drawable(title), x=0.01, ha="left", fontweight="bold")
        image = io.BytesIO()
        # matplotlib would write its version into the file, and other versions other bytes
        figure.savefig(image, format="png", metadata={"Software": None})
    write_whole(path, image.getvalue())
