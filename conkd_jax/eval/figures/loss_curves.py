"""Loss curves: the metrics of a training over its steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from etils import epath
from matplotlib.axes import Axes

from conkd_jax.eval.figures.drawing import figure_file
from conkd_jax.eval.figures.palette import BLUE, GREY, VERMILION
from conkd_jax.eval.figures.style import MARGIN, drawable
from conkd_jax.eval.metrics.pairs import Number


def draw_loss_curves(
    history: Sequence[Mapping[str, Number]],
    path: epath.PathLike,
    *,
    title: str = "",
    best_step: int | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """Draws each metric of a training in a panel of its own, with its last value beside the curve.

    Args:
      history: lines of `history.jsonl`: a "step" and any metrics, not all in every line.
      path: where the PNG goes.
      title: of the whole figure.
      best_step: the step whose parameters were kept; marked where given.
      names: which metrics, in order; None for all of them, "loss" first.

    Raises:
      ValueError: the history holds none of them.
    """
    series = _series(history, names)
    if not series:
        raise ValueError(f"loss curves: expected metrics {names or ''} in the history, got none")
    columns = min(3, len(series))
    rows = math.ceil(len(series) / columns)
    size = (3.6 * columns + MARGIN, 2.5 * rows + MARGIN)
    with figure_file(path, size, title=title) as figure:
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
        for ax, (name, (steps, values)) in zip(axes, series.items(), strict=False):
            is_dev = name.startswith(("dev", "valid"))
            color = VERMILION if is_dev else BLUE
            marker = "o" if len(steps) <= 25 else None
            ax.plot(steps, values, color=color, linewidth=1.8, marker=marker, markersize=3.5)
            ax.set_title(drawable(name))
            _note_last(ax, steps, values, color)
            if best_step is not None:
                ax.axvline(best_step, color=GREY, linestyle=":", linewidth=1.2)
        last = max(steps[-1] for steps, _ in series.values())
        axes[0].set_xlim(0, 1.26 * last or 1)  # shared; room for the last values
        for ax in axes[len(series) :]:
            ax.remove()
        for ax in axes[: len(series)][-columns:]:
            ax.set_xlabel("step")
            ax.tick_params(labelbottom=True)
        if best_step is not None:
            axes[0].set_title(f"dotted: kept, step {best_step:,}", loc="right", fontsize=8)


def _series(
    history: Sequence[Mapping[str, Number]], names: Sequence[str] | None
) -> dict[str, tuple[list, list]]:
    """(steps, values) of each metric, where the metric is finite."""
    found: dict[str, tuple[list, list]] = {}
    for line in history:
        for name, value in line.items():
            if name != "step" and math.isfinite(value):
                steps, values = found.setdefault(name, ([], []))
                steps.append(line["step"])
                values.append(value)
    if names is None:
        names = sorted(found, key=lambda name: (name != "loss", name != "dev_loss"))
    return {name: found[name] for name in names if name in found}


def _note_last(ax: Axes, steps: list, values: list, color: str) -> None:
    ax.annotate(
        f"{values[-1]:,.0f}" if abs(values[-1]) >= 1000 else f"{values[-1]:.3g}",
        (steps[-1], values[-1]),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        color=color,
        fontweight="bold",
        annotation_clip=False,
    )
    ax.margins(y=0.15)
