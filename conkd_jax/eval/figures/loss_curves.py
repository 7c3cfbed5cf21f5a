"""Loss curves: the metrics of a training over its steps."""

from __future__ import annotations

import itertools
import math
import statistics
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
    new_loss_after: int = 0,
) -> None:
    """Draws each metric of a training in a panel of its own, with its last value beside the curve.

    A training metric is a mean over the steps since the previous line. Lines of a few steps only,
    next to an evaluation, would be kinks; they are averaged with the line that follows, by their
    numbers of steps.

    Args:
      history: lines of `history.jsonl`: a "step" and any metrics, not all in every line.
      path: where the PNG goes.
      title: of the whole figure.
      best_step: the step whose parameters were kept; marked where given.
      names: which metrics, in order; None for all of them, "loss" first.
      new_loss_after: the step after which the training had another loss; the curves of training
        metrics are interrupted there. 0 for none.

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
            if not is_dev:
                steps, values = _without_short_windows(steps, values, new_loss_after)
            num_before = 0 if is_dev else sum(step <= new_loss_after for step in steps)
            for part in filter(
                lambda part: steps[part], (slice(num_before), slice(num_before, None))
            ):
                ax.plot(
                    steps[part],
                    values[part],
                    color=color,
                    linewidth=1.8,
                    marker=marker,
                    markersize=3.5,
                )
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
    by_step = {line["step"]: line for line in history}  # of a step that was done twice, the last
    for _, line in sorted(by_step.items()):
        for name, value in line.items():
            if name != "step" and math.isfinite(value):
                steps, values = found.setdefault(name, ([], []))
                steps.append(line["step"])
                values.append(value)
    if names is None:
        names = sorted(found, key=lambda name: (name != "loss", name != "dev_loss"))
    return {name: found[name] for name in names if name in found}


def _without_short_windows(steps: list, values: list, boundary: int) -> tuple[list, list]:
    """Averages windows of less than half the usual length with the next one.

    The last window is averaged with the one before, and none across a boundary.

    Args:
      steps: the last step of each window.
      values: the mean over each window.
      boundary: a step that ends a window for good; 0 for none.
    """
    lengths = [end - start for start, end in itertools.pairwise([0, *steps])]
    least = statistics.median(lengths) / 2
    merged: list[tuple[int, float, float]] = []  # last step, mean, number of steps
    for place, (step, value, length) in enumerate(zip(steps, values, lengths, strict=True)):
        is_short_end = length < least and place == len(steps) - 1
        if merged and (merged[-1][2] < least or is_short_end):
            before, mean, number = merged[-1]
            if not before <= boundary < step:
                total = number + length
                merged[-1] = (step, (mean * number + value * length) / total, total)
                continue
        merged.append((step, value, length))
    return [step for step, _, _ in merged], [mean for _, mean, _ in merged]


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
