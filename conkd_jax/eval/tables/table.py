"""What a table is: a layout of columns, and groups of rows of cells.

`build`, `paired` and `sweeps` make tables, `formats` writes them and `figures` draws them. This
module rounds numbers for print and computes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from conkd_jax.errors import UserError
from conkd_jax.eval.tables.paper import PaperRow

ABSENT = "–"  # a cell without a number

Mark = Literal["best", "second"]


class TableError(UserError, ValueError):
    """Documents that can't stand in one table. The message says what was expected and found."""


@dataclasses.dataclass(frozen=True)
class Column:
    """A metric in a table.

    Attributes:
      title: its head.
      metric: its name in `metrics.json`, or a name that `build` derives from the metrics there.
      better: which end is marked as best; None marks nothing.
      digits: digits after the decimal point.
      within_backbone: whether it compares systems with the same words only: beside several
        backbones, nothing is marked.
    """

    title: str
    metric: str
    better: Literal["higher", "lower"] | None = "higher"
    digits: int = 3
    within_backbone: bool = False


@dataclasses.dataclass(frozen=True)
class Layout:
    """A kind of table.

    Attributes:
      title: the title above it.
      columns: its metrics, left to right.
      note: what a reader must know about these metrics; may be empty.
      reference: a row of the paper that stands below all of ours, whatever systems they are.
      is_ladder: rows are the steps of the paper's ablation rather than systems.
      recipe: how to score a run for these metrics, where an ordinary run has none of them.
      row_title: the head of the column of labels; may be empty.
      has_paper: whether rows of the paper stand in the table.
      required: metrics of which a run must have one; empty for those of the columns.
    """

    title: str
    columns: tuple[Column, ...]
    note: str = ""
    reference: PaperRow | None = None
    is_ladder: bool = False
    recipe: str = ""
    row_title: str = ""
    has_paper: bool = True
    required: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Cell:
    """A number, as printed and as it is.

    Attributes:
      text: as printed.
      mark: its place among our rows.
      value: the number, or the mean over seeds; None where there is none.
      deviation: the sample standard deviation over seeds; None for a single run.
      interval: the 95 % interval of a single run as printed, "" where none is shown.
    """

    text: str
    mark: Mark | None = None
    value: float | None = None
    deviation: float | None = None
    interval: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """One system: a run of ours, all its seeds together, or one to compare with.

    Attributes:
      label: its name.
      cells: its numbers, one for each column.
      is_paper: whether it is no run: a row of the paper, or a trivial system.
    """

    label: str
    cells: tuple[Cell, ...]
    is_paper: bool = False


@dataclasses.dataclass(frozen=True)
class ResultTable:
    """A filled table.

    Attributes:
      layout: its columns.
      groups: rows, top to bottom; in a table of runs each group ends with the paper's row.
      caption: where our numbers come from and how to read the marks.
    """

    layout: Layout
    groups: tuple[tuple[Row, ...], ...]
    caption: str = ""


def number_cell(
    column: Column,
    value: float | None,
    deviation: float | None = None,
    mark: Mark | None = None,
    interval: Sequence[float] = (),
) -> Cell:
    """Returns a number as a column prints it.

    Args:
      column: the column; it has the digits.
      value: the number; None gives a dash.
      deviation: its standard deviation over seeds, if it is a mean.
      mark: its place among our rows.
      interval: the ends of its 95 % interval, or nothing.

    >>> number_cell(Column("PPL", "ppl", digits=1), 17.25, 0.5).text
    '17.2 ± 0.5'
    >>> number_cell(Column("F1@1", "f1@1"), 0.107, interval=(0.098, 0.1164)).interval
    '.098–.116'
    """
    text = ABSENT if value is None else f"{value:.{column.digits}f}"
    text += "" if deviation is None else f" ± {deviation:.{column.digits}f}"
    ends = (f"{end:.{column.digits}f}".removeprefix("0") for end in interval)
    return Cell(text, mark, value, deviation, "–".join(ends))
