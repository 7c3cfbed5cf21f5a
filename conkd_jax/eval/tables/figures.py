"""Figures of results: a table as panels of bars, and metrics over k as lines.

A figure of a table shows its rows, ours in colour and the paper's in grey. This module reads no run
and computes no metric.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from etils import epath
from matplotlib.axes import Axes

from conkd_jax.eval.figures.drawing import figure_file
from conkd_jax.eval.figures.palette import BLUE, GREEN, GREY, INK, PURPLE, VERMILION
from conkd_jax.eval.figures.style import FAMILY_TITLES, MARGIN, drawable, short_number
from conkd_jax.eval.metrics.pairs import Number
from conkd_jax.eval.tables.table import ABSENT, Cell, ResultTable, Row

_LINES = ((BLUE, "-"), (VERMILION, "--"), (GREEN, "-."), (PURPLE, ":"))


def draw_table(table: ResultTable, path: epath.PathLike) -> None:
    """Draws a table: a panel for each column, a bar with its value for each row.

    Whiskers are the standard deviation over seeds. Columns without numbers are left out.

    Args:
      table: what `build_table` returned.
      path: where the PNG goes.

    Raises:
      ValueError: if no row has a number.
    """
    rows = _places(table)
    panels = [
        (column, [row.cells[i] for row, _ in rows])
        for i, column in enumerate(table.layout.columns)
        if any(row.cells[i].value is not None for row, _ in rows)
    ]
    if not panels:
        raise ValueError(f"{table.layout.title}: expected rows with numbers to draw, got none")
    across = 4 if len(panels) == 4 else min(len(panels), 3)  # @1, @10, @50 side by side
    down = math.ceil(len(panels) / across)
    bottom = rows[-1][1]
    labels = max(len(row.label) for row, _ in rows) * 0.075
    size = (labels + 2.3 * across + MARGIN, (0.27 * (bottom + 1) + 0.6) * down + 0.6)
    title = table.layout.title
    with figure_file(path, size, title=title, style={"axes.grid.axis": "x"}) as figure:
        axes = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
        for ax, (column, cells) in zip(axes, panels, strict=False):
            _draw_column(ax, rows, cells)
            arrow = {"higher": " ↑", "lower": " ↓", None: ""}[column.better]
            ax.set_title(drawable(column.title + arrow))
        axes[0].set_yticks([at for _, at in rows], [drawable(row.label) for row, _ in rows])
        axes[0].set_ylim(bottom + 0.6, -0.6)  # shared; the first row on top
        for ax in axes:
            ax.tick_params(axis="y", labelsize=9)
        for ax in axes[len(panels) :]:
            ax.remove()


def draw_over_k(
    systems: Mapping[str, Mapping[str, Number]],
    path: epath.PathLike,
    *,
    intervals: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
    families: Sequence[str] = ("recall", "rer", "prr", "f1"),
    title: str = "",
) -> None:
    """Draws metrics over k: a panel for each metric, a line with its 95 % band for each system.

    Args:
      systems: flat metrics of each system, such as "f1@10", at any cut-offs.
      path: where the PNG goes.
      intervals: 95 % intervals of each system's metrics.
      families: names of metrics, without "@k"; one is left out where no system has it at two
        cut-offs.
      title: title of the whole figure.

    Raises:
      ValueError: if there is nothing to draw.
    """
    intervals = intervals or {}
    curves = {
        family: {name: _curve(metrics, family) for name, metrics in systems.items()}
        for family in families
    }
    panels = {
        family: {name: curve for name, curve in of.items() if len(curve) > 1}
        for family, of in curves.items()
    }
    panels = {family: of for family, of in panels.items() if of}
    if not panels:
        raise ValueError(f"over k: expected two cut-offs of some of {list(families)}, got none")
    with figure_file(path, (3.1 * len(panels) + MARGIN, 3.4), title=title) as figure:
        axes = figure.subplots(1, len(panels), squeeze=False).ravel()
        for ax, (family, of_family) in zip(axes, panels.items(), strict=True):
            for name, curve in of_family.items():
                color, style = _LINES[list(systems).index(name) % len(_LINES)]
                ks = list(curve)
                ax.plot(ks, list(curve.values()), style, color=color, label=drawable(name))
                found = [intervals.get(name, {}).get(f"{family}@{k}") for k in ks]
                bands = [(math.nan, math.nan) if band is None else band for band in found]
                ax.fill_between(ks, *zip(*bands, strict=True), color=color, alpha=0.15, linewidth=0)
            ax.set_title(FAMILY_TITLES.get(family, family))
            ax.set_xlabel("k")
            ax.set_xlim(1, max(max(curve) for curve in of_family.values()))
            ax.set_ylim(bottom=0)
        lines = {}  # by name: not every panel has every system
        for ax in axes:
            handles, names = ax.get_legend_handles_labels()
            lines |= dict(zip(names, handles, strict=True))
        if len(systems) > 1:
            figure.legend(
                list(lines.values()),
                list(lines),
                loc="outside lower center",
                ncols=len(lines),
                frameon=False,
            )


def _places(table: ResultTable) -> list[tuple[Row, float]]:
    """Returns every row with its height on the page, downwards, with a gap between groups."""
    places, at = [], 0.0
    for group in table.groups:
        for row in group:
            places.append((row, at))
            at += 1
        at += 0.5 if group else 0
    return places


def _draw_column(ax: Axes, rows: Sequence[tuple[Row, float]], cells: Sequence[Cell]) -> None:
    for (row, place), cell in zip(rows, cells, strict=True):
        if cell.value is None:
            ax.annotate(ABSENT, (0, place), xytext=(3, 0), textcoords="offset points", va="center")
            continue
        color = GREY if row.is_paper else BLUE
        ax.barh(place, cell.value, 0.8, color=color)
        end = max(0.0, cell.value)
        if cell.deviation is not None:
            ax.errorbar(cell.value, place, xerr=cell.deviation, color=INK, linewidth=1, capsize=2)
            end = max(end, cell.value + cell.deviation)
        ax.annotate(
            short_number(cell.value),
            (end, place),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            fontweight="bold" if cell.mark == "best" else None,
        )
    ax.margins(x=0.22)
    ax.tick_params(length=0)


def _curve(metrics: Mapping[str, Number], family: str) -> dict[int, float]:
    """Returns the values of a family by k, in ascending order of k."""
    prefix = f"{family}@"
    found = {
        int(name.removeprefix(prefix)): float(value)
        for name, value in metrics.items()
        if name.startswith(prefix) and name.removeprefix(prefix).isdigit()
    }
    return dict(sorted(found.items()))
