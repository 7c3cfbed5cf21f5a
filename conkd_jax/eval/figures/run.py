"""The figures of a run: curves of a training, and metrics beside the paper's.

Each function takes plain numbers and a path and draws one PNG. Nothing here reads a run or computes
a metric; `drawing` says what all figures look like, `gate_figures` draws the gate at work, and
`table_figures` whole tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib
from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from conkd_jax.eval.figures.style import (
    BLUE,
    GREY,
    INK,
    MARGIN,
    STYLE,
    VERMILION,
    drawable,
    finish,
    short_number,
)
from conkd_jax.eval.metrics.items import Number


def loss_curves(
    history: Sequence[Mapping[str, Number]],
    path: epath.PathLike,
    *,
    title: str = "",
    best_step: int | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """One small panel a metric over the steps of a training, its last value written at its end.

    Args:
      history: lines of `history.jsonl`: a "step" and any metrics, not all in every line.
      path: where the PNG goes.
      title: of the whole figure.
      best_step: the step that was kept; marked where given.
      names: which metrics, in order; by default all of them, "loss" first.

    Raises:
      ValueError: if the history holds none of them.
    """
    series = _series(history, names)
    if not series:
        raise ValueError(f"loss curves: expected metrics {names or ''} in the history, got none")
    columns = min(3, len(series))
    rows = math.ceil(len(series) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * columns + MARGIN, 2.5 * rows + MARGIN))
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
        finish(figure, title, path)


def metric_bars(
    ours: Mapping[str, Number],
    path: epath.PathLike,
    *,
    paper: Mapping[str, Number] | None = None,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    names: tuple[str, str] = ("this run", "paper"),
    families: Sequence[str] = ("rer", "prr", "f1"),
    title: str = "",
) -> None:
    """Bars of each family's metrics at k = 1, 10, 50, ours beside the paper's, values written on
    them.

    Args:
      ours, paper: flat names and values, such as "f1@10".
      path: where the PNG goes.
      intervals: 95 % intervals of ours, drawn as whiskers.
      names: what the two are called.
      families: what stands before "@"; one panel each, left out where we have none of it.
      title: of the whole figure.

    Raises:
      ValueError: if we have none of the families.
    """
    paper, intervals = paper or {}, intervals or {}
    panels = {family: [k for k in (1, 10, 50) if f"{family}@{k}" in ours] for family in families}
    panels = {family: ks for family, ks in panels.items() if ks}
    if not panels:
        raise ValueError(f"metric bars: expected some of {list(families)}, got {list(ours)}")
    labels = {"rer": "ReR@k", "prr": "PrR@k", "f1": "F1@k", "recall": "Recall@k (recommender)"}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.3 * len(panels) + 0.6, 3.4))
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=True).ravel()
        for ax, (family, ks) in zip(axes, panels.items(), strict=True):
            _draw_bars(ax, [f"{family}@{k}" for k in ks], ours, paper, intervals)
            ax.set_xticks(range(len(ks)), [f"@{k}" for k in ks])
            ax.set_title(labels.get(family, family))
            ax.tick_params(length=0)
        axes[0].margins(y=0.12)
        if paper:
            _name_bars(figure, names)
        finish(figure, title, path)


def _series(history, names) -> dict[str, tuple[list, list]]:
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


def _draw_bars(ax: Axes, metrics: Sequence[str], ours, paper, intervals) -> None:
    width = 0.38 if paper else 0.6
    for place, name in enumerate(metrics):
        bars = [(place - (width / 2 if paper else 0), ours[name], BLUE)]
        if name in paper:
            bars.append((place + width / 2, paper[name], GREY))
        for x, value, color in bars:
            low, high = intervals.get(name, (value, value)) if color == BLUE else (value, value)
            ax.bar(x, value, width * 0.92, color=color)
            if high > low:
                whisker = [[max(0.0, value - low)], [max(0.0, high - value)]]
                ax.errorbar(x, value, whisker, color=INK, linewidth=1.2, capsize=2.5)
            ax.annotate(
                short_number(value),
                (x, max(high, value)),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )


def _name_bars(figure: Figure, names: tuple[str, str]) -> None:
    figure.legend(
        [Patch(color=BLUE), Patch(color=GREY)],
        [drawable(name) for name in names],
        loc="outside lower center",
        ncols=2,
        frameon=False,
    )
