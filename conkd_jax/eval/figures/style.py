"""What every figure looks like, and how it becomes a file.

Figures are made without pyplot, so that they leave no state behind and need no display; colours are
Okabe and Ito's, which people with colour blindness tell apart, and text stands beside what it
names. The same numbers make the same bytes. Knows nothing of what is drawn.
"""

from __future__ import annotations

import functools
import io
from typing import Any

from etils import epath
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
GREY, INK = "#9A9A9A", "#222222"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.parse_math": False,
    "figure.dpi": 130,
    "figure.constrained_layout.use": True,
}
MARGIN = 0.25  # around panels, in inches


def short_number(value: float) -> str:
    """Three digits, and no zero before the point.

    >>> short_number(0.0234), short_number(12.412), short_number(-0.5)
    ('.023', '12.41', '-.500')
    """
    if abs(value) >= 10:
        return f"{value:.2f}"
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def shortened(text: str, limit: int = 22) -> str:
    """The text, cut to a number of characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def drawable(text: str) -> str:
    """The text on one line, with "□" for what the font has no glyph of (emoji, for example)."""
    glyphs = _glyphs()
    return "".join(c if ord(c) in glyphs else " " if c.isspace() else "□" for c in text)


def finish(figure: Figure, title: str, path: epath.PathLike) -> None:
    """Gives the figure its title and writes it as a PNG."""
    if title:
        figure.suptitle(drawable(title), x=0.01, ha="left", fontweight="bold")
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})
    epath.Path(path).write_bytes(image.getvalue())


@functools.cache
def _glyphs() -> frozenset[int]:
    family = STYLE["font.family"]
    fonts = (findfont(family), findfont(FontProperties(family=[family], weight="bold")))
    return frozenset.intersection(*(frozenset(FT2Font(font).get_charmap()) for font in fonts))
