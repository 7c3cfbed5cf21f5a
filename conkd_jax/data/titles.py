"""Item titles by id, as CSV files list them: ReDial's movie list, or a list of your own."""

from __future__ import annotations

import csv
import itertools
import urllib.parse
from collections.abc import Iterator, Sequence

from conkd_jax.data.mentions import mention_id
from conkd_jax.io.files import read_csv


def titles_from_csv(
    content: bytes,
    where: str,
    error: type[Exception],
    remedy: str,
    *,
    columns: Sequence[str] = (),
) -> dict[int, str]:
    """Reads the item ids and titles in the first two columns of a CSV file.

    A row that can't be read is an error, and so is an id that is listed twice: an item that is
    silently lost or renamed changes what every later number is about.

    Args:
      content: the file.
      where: its name, for messages.
      error: the exception class for a file that can't be used.
      remedy: the end of its message, such as "Fetch the official movie list again".
      columns: the names that the first columns must have; if empty, a first row without an item id
        is taken for a header.

    Returns:
      The title of every item id, in file order.

    Raises:
      error: the file is not UTF-8, is not such a list, or has no item; the message names the line.
    """
    try:
        return _titles(read_csv(content.decode("utf-8")), columns)
    except UnicodeDecodeError as wrong:
        line = content.count(b"\n", 0, wrong.start) + 1
        got = f"got the byte 0x{content[wrong.start]:02x}"
        raise error(f"{where}, line {line}: expected UTF-8 text, {got}. {remedy}.") from wrong
    except csv.Error as wrong:
        raise error(f"{where}, {wrong}. {remedy}.") from wrong


def readable_title(title: str) -> str:
    """Returns a title without URL escapes and repeated spaces.

    >>> readable_title("Why Him%3F  (2016)")  # as it is in ReDial
    'Why Him? (2016)'
    """
    return " ".join(urllib.parse.unquote(title).split())


def _titles(rows: Iterator[tuple[int, list[str]]], columns: Sequence[str]) -> dict[int, str]:
    """Raises `csv.Error` for rows that are no items."""
    first = next(rows, (1, []))
    header = [name.strip() for name in first[1]]
    if columns and header[: len(columns)] != list(columns):
        found = ", ".join(header[:5]) or "none"
        raise csv.Error(
            f"line {first[0]}: expected the columns {', '.join(columns)}, …; found {found}"
        )
    if not columns and _item_id(header) is not None:
        rows = itertools.chain([first], rows)
    titles: dict[int, str] = {}
    lines: dict[int, int] = {}
    for line, row in rows:
        item, title = _item_id(row), "".join(row[1:2])
        if item is None or not title.strip():
            raise csv.Error(f"line {line}: expected item id and title, got {row[:2]}")
        if len(title.splitlines()) > 1:
            raise csv.Error(f"line {line}: expected a title on one line, got {title[:60]!r}")
        if item in titles:
            raise csv.Error(
                f"line {line}: expected each item once, got {item} as in line {lines[item]}"
            )
        titles[item], lines[item] = readable_title(title), line
    if not titles:
        raise csv.Error("line 1: expected rows of item id and title, found none")
    return titles


def _item_id(row: Sequence[str]) -> int | None:
    cell = row[0].strip() if row else ""
    return mention_id(cell) if cell.isascii() and cell.isdecimal() else None
