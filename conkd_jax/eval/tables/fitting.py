"""Fits a table to a terminal: columns that have no room go into further blocks below the first."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

UNLIMITED = 10_000  # columns: more than any table has
LEAST_LABEL = 16  # columns that labels keep, however wide a number is


def needed_width(table: RenderableType, console: Console) -> int:
    """The number of columns at which nothing in a table is wrapped."""
    options = console.options.update(width=UNLIMITED)
    return Measurement.get(console, options, table).maximum


def in_blocks(table: Table, console: Console) -> list[RenderableType]:
    """Returns what to print so that the table fits a console.

    A table that is too wide becomes several with the same rows, one below the other; each begins
    with the first column, and the caption comes last. Long labels are wrapped if need be. A table
    whose columns may all be wrapped is left to rich.

    Args:
      table: any table.
      console: where it will be printed.
    """
    width = console.width
    is_rigid = any(column.no_wrap for column in table.columns)
    if not is_rigid or needed_width(table, console) <= width:
        return [table]
    others = range(1, len(table.columns))
    widest = max((needed_width(_part(table, [place]), console) for place in others), default=0)
    room = max(LEAST_LABEL, width - widest)
    blocks, start = [], 1
    while start < len(table.columns):
        end = start + 1
        while end < len(table.columns) and _fits(table, [0, *range(start, end + 1)], room, console):
            end += 1
        blocks.append(_part(table, [0, *range(start, end)], label_width=room))
        start = end
    blocks[0].title = table.title
    caption = table.caption
    return [*blocks, caption if isinstance(caption, Text) else Text(str(caption or ""))]


def _fits(table: Table, places: Sequence[int], label_width: int, console: Console) -> bool:
    part = _part(table, places, label_width=label_width)
    return needed_width(part, console) <= console.width


def _part(table: Table, places: Sequence[int], *, label_width: int | None = None) -> Table:
    """Some columns of a table, without title and caption.

    Args:
      table: the whole table.
      places: the columns to keep, left to right.
      label_width: the most columns of text that the first of them may take.
    """
    part = Table(box=table.box, title_justify=table.title_justify)
    for place in places:
        column = table.columns[place]
        most = label_width if place == 0 else None
        part.add_column(
            column.header,
            justify=column.justify,
            no_wrap=column.no_wrap and most is None,
            overflow="fold" if most else column.overflow,
            max_width=max(1, most - 4) if most else column.max_width,
        )
    cells = [list(table.columns[place].cells) for place in places]
    for row, of_row in zip(table.rows, zip(*cells, strict=True), strict=True):
        part.add_row(*of_row, style=row.style, end_section=row.end_section)
    return part
