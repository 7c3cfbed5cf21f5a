"""The figure of an analysis of cold items: two curves over training frequency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from matplotlib.axes import Axes

from conkd_jax.eval.cold_items.groups import BAND_NAMES
from conkd_jax.eval.cold_items.report import AT
from conkd_jax.eval.figures.drawing import figure_file
from conkd_jax.eval.figures.palette import BLUE, GREEN, GREY, INK, PURPLE, VERMILION
from conkd_jax.eval.figures.style import drawable

COLORS = (INK, BLUE, GREEN, VERMILION, PURPLE, GREY)
MARKERS = "osD^vP"
LEAST_LIFT = 0.3  # where the logarithmic axis begins; what is below stands there


def draw_cold_items(document: Mapping[str, Any], path: epath.PathLike) -> None:
    """Draws hit@50 by band, among all items, and as a multiple of chance within the band.

    Args:
      document: of the analysis.
      path: where the PNG goes.
    """
    names = [name for name in BAND_NAMES if document["groups"][name]["gold"]]
    title = f"Items by mentions in training text, {document['split']}"
    with figure_file(path, (9.0, 4.0), title=title) as figure:
        left, right = figure.subplots(1, 2)
        for place, system in enumerate(document["systems"]):
            _draw(left, system, names, f"hit@{AT}", place, dict.fromkeys(names, 1.0))
            by_chance = {
                name: document["groups"][name]["chance"][f"hit@{AT}_in_group"] for name in names
            }
            _draw(right, system, names, f"hit@{AT}_in_group", place, by_chance)
        left.set_title(f"hit@{AT} among all items")
        left.set_ylim(bottom=0)
        right.set_title(f"hit@{AT} within the group, times chance")
        right.set_yscale("log")
        ticks = (0.5, 1, 2, 5, 10, 20)
        right.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        right.set_yticks([], minor=True)
        right.set_ylim(bottom=LEAST_LIFT)
        right.axhline(1.0, color=INK, linestyle="--", linewidth=1)
        for ax in (left, right):
            labels = [f"{name}\n{document['groups'][name]['gold']:,} gold" for name in names]
            ax.set_xticks(range(len(names)), labels)
            ax.tick_params(length=0)
            ax.set_xlabel("mentions in training text")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)


def _draw(
    ax: Axes,
    system: Mapping[str, Any],
    names: Sequence[str],
    metric: str,
    place: int,
    unit: Mapping[str, float],
) -> None:
    """Draws a system's curve of a metric in units, with its intervals as whiskers."""
    color, marker = COLORS[place % len(COLORS)], MARKERS[place % len(MARKERS)]
    shift = 0.06 * place
    points = []
    for x, name in enumerate(names):
        value = system["metrics"].get(name, {}).get(metric)
        if value is None:
            continue
        low, high = system["intervals"].get(name, {}).get(metric, (value, value))
        points.append([x + shift, *(max(end / unit[name], 0.0) for end in (value, low, high))])
    x, values, lows, highs = zip(*points, strict=True)
    whiskers = [
        [max(0.0, value - low) for value, low in zip(values, lows, strict=True)],
        [max(0.0, high - value) for value, high in zip(values, highs, strict=True)],
    ]
    ax.errorbar(
        x,
        values,
        whiskers,
        color=color,
        marker=marker,
        markersize=5,
        linewidth=1.5,
        elinewidth=1,
        capsize=2.5,
        label=drawable(system["name"]),
    )
