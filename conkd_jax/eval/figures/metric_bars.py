"""Metric bars: item metrics of a run at several cut-offs, beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from conkd_jax.eval.figures.drawing import figure_file
from conkd_jax.eval.figures.palette import BLUE, GREY, INK
from conkd_jax.eval.figures.style import FAMILY_TITLES, drawable, short_number
from conkd_jax.eval.metrics.pairs import Number


def draw_metric_bars(
    ours: Mapping[str, Number],
    path: epath.PathLike,
    *,
    paper: Mapping[str, Number] | None = None,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    names: tuple[str, str] = ("this run", "paper"),
    families: Sequence[str] = ("rer", "prr", "f1"),
    title: str = "",
) -> None:
    """Draws bars of each family's metrics at k = 1, 10 and 50, the run's beside the paper's.

    Args:
      ours: the run's metrics by flat name, such as "f1@10".
      path: where the PNG goes.
      paper: the paper's metrics, likewise.
      intervals: 95 % intervals of the run's metrics, drawn as whiskers.
      names: labels of the two.
      families: names before the "@"; one panel each, left out where the run has none of it.
      title: of the whole figure.

    Raises:
      ValueError: the run has no metric of these families.
    """
    paper, intervals = paper or {}, intervals or {}
    panels = {family: [k for k in (1, 10, 50) if f"{family}@{k}" in ours] for family in families}
    panels = {family: ks for family, ks in panels.items() if ks}
    if not panels:
        raise ValueError(f"metric bars: expected some of {list(families)}, got {list(ours)}")
    with figure_file(path, (3.3 * len(panels) + 0.6, 3.4), title=title) as figure:
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=True).ravel()
        for ax, (family, ks) in zip(axes, panels.items(), strict=True):
            _draw_bars(ax, [f"{family}@{k}" for k in ks], ours, paper, intervals)
            ax.set_xticks(range(len(ks)), [f"@{k}" for k in ks])
            ax.set_title(FAMILY_TITLES.get(family, family))
            ax.tick_params(length=0)
        axes[0].margins(y=0.12)
        if paper:
            _name_bars(figure, names)


def _draw_bars(
    ax: Axes,
    metrics: Sequence[str],
    ours: Mapping[str, Number],
    paper: Mapping[str, Number],
    intervals: Mapping[str, tuple[float, float]],
) -> None:
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
