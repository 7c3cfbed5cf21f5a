"""Two runs on the same responses as one table: both values, the difference, its interval, p.

Formats the result of `bootstrap.compare_runs`.
"""

from __future__ import annotations

from collections.abc import Mapping

from conkd_jax.eval.metrics.bootstrap import LEVEL, Comparison
from conkd_jax.eval.report import SECTIONS, number
from conkd_jax.eval.tables.build import Cell, ResultTable, Row
from conkd_jax.eval.tables.layouts import Column, Layout

SIGNIFICANT = 0.05


def table(
    names: tuple[str, str], comparisons: Mapping[str, Comparison], *, num_dialogues: int
) -> ResultTable:
    """The comparison of two runs, metrics by section; what differs at p < .05 is marked.

    Args:
      names: what the two runs are called.
      comparisons: the result of `bootstrap.compare_runs`.
      num_dialogues: how many dialogues both answered.
    """
    first, second = (Column(name, "", None) for name in names)
    layout = Layout(
        f"{names[1]} against {names[0]}",
        (
            first,
            second,
            Column("difference", "", None),
            Column(f"{LEVEL} % interval", "", None),
            Column("p", "", None),
        ),
    )
    groups = []
    for section in SECTIONS.values():
        rows = [_row(name, comparisons[name]) for name in section if name in comparisons]
        groups += [tuple(rows)] if rows else []
    caption = (
        f"Paired over {num_dialogues:,} dialogues: intervals by bootstrap, p by exchanging the "
        f"two runs' answers to a dialogue, two-sided and for each metric alone. Bold: p < "
        f"{SIGNIFICANT}. DIST-n, coverage and Gini are no means over dialogues and have no test."
    )
    return ResultTable(layout, tuple(groups), caption)


def _row(name: str, found: Comparison) -> Row:
    is_clear = found.p_value < SIGNIFICANT
    sign = "+" if found.difference >= 0 else ""
    cells = (
        Cell(number(name, found.first)),
        Cell(number(name, found.second)),
        Cell(f"{sign}{number(name, found.difference)}", "best" if is_clear else None),
        Cell(f"{number(name, found.low)} to {number(name, found.high)}"),
        Cell(f"{found.p_value:.3f}"),
    )
    return Row(name, cells)
