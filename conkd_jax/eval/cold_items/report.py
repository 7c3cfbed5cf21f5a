"""The tables of an analysis of cold items, made from its document alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from conkd_jax.eval.cold_items.groups import (
    ALL,
    BAND_NAMES,
    COLD,
    COLD_WITH_FACTS,
    COLD_WITHOUT_FACTS,
)
from conkd_jax.eval.figures.style import short_number
from conkd_jax.eval.metrics.pairs import Number
from conkd_jax.eval.tables.formats import markdown_grid, markdown_title
from conkd_jax.eval.tables.table import ABSENT, Cell, Column, Layout, ResultTable, Row, TableError

AT = 50  # the cut-off of the tables; the document has the others
_MARKS = ("<!-- cold items -->", "<!-- /cold items -->")


def tables_of(document: Mapping[str, Any]) -> tuple[ResultTable, ...]:
    """The tables of a document, in the order of reading."""
    if not document["groups"][COLD]["movies"]:
        return (_ranking_table(document),)
    return (
        _ranking_table(document),
        _knowledge_table(document),
        _presence_table(document),
        _level_table(document),
    )


def summary(document: Mapping[str, Any]) -> str:
    """One sentence: how many items are cold, and what share of the gold items they are."""
    cold, everything = document["groups"][COLD], document["groups"][ALL]
    if not cold["movies"]:
        return f"Training text names all {everything['movies']:,} items: there are no cold ones."
    return (
        f"{cold['movies']:,} of {everything['movies']:,} items are cold: no training text names "
        f"them. They are {cold['gold']:,} of the {everything['gold']:,} items that references of "
        f"{document['split']} name."
    )


def expect_marks(page: str) -> None:
    """Checks that a page has a place for the tables.

    Raises:
      TableError: the page has not its two marks in their order, each once.
    """
    if re.findall("|".join(_MARKS), page) != [*_MARKS]:
        raise TableError(
            f"expected one {_MARKS[0]!r} and, after it, one {_MARKS[1]!r} in the page."
        )


def page_with_tables(page: str, document: Mapping[str, Any]) -> str:
    """A page of Markdown, see `expect_marks`, with a document's tables between its two marks."""
    before, _, rest = page.partition(_MARKS[0])
    _, _, after = rest.partition(_MARKS[1])
    parts = [f"{markdown_title(table)}\n\n{markdown_grid(table)}" for table in tables_of(document)]
    return (
        f"{before}{_MARKS[0]}\n{summary(document)}\n\n"
        + "\n\n".join(parts)
        + (f"\n{_MARKS[1]}{after}")
    )


# --- the tables ----------------------------------------------------------------------------------


def _ranking_table(document: Mapping[str, Any]) -> ResultTable:
    groups, names = document["groups"], BAND_NAMES
    counts = tuple(
        Row(label, tuple(Cell(f"{groups[name][field]:,}") for name in names), is_paper=True)
        for label, field in (("items", "movies"), ("gold items", "gold"))
    )
    return _of_groups(
        document,
        names,
        f"hit@{AT}",
        title=f"hit@{AT} by how often training text names the item",
        note="Ranks among all items, at the item steps of the references; below, 95 % intervals "
        "over dialogues.",
        above=counts,
        with_intervals=True,
    )


def _knowledge_table(document: Mapping[str, Any]) -> ResultTable:
    names = (*BAND_NAMES, COLD_WITH_FACTS, COLD_WITHOUT_FACTS)
    shown = [name for name in names if document["groups"][name]["movies"]]
    return _of_groups(
        document,
        shown,
        f"hit@{AT}_in_group",
        title=f"hit@{AT} among the items of the same group",
        note="Elsewhere: by the scores at steps of other dialogues. On the right: cold items with "
        "edges in the knowledge graph, and without.",
    )


def _of_groups(
    document: Mapping[str, Any],
    names: Sequence[str],
    metric: str,
    *,
    title: str,
    note: str,
    above: Sequence[Row] = (),
    with_intervals: bool = False,
) -> ResultTable:
    """A table of one metric with a column for each group."""
    elsewhere = f"{metric}_elsewhere"
    columns = tuple(Column(_heading(name), metric, None) for name in names)
    chance = tuple(_number(document["groups"][name], "chance", metric) for name in names)
    rows = []
    for system in document["systems"]:
        rows.append(_system_row(system, system["name"], names, metric, with_intervals))
        if elsewhere in system["metrics"].get(ALL, {}):
            rows.append(_system_row(system, "… elsewhere", names, elsewhere, False))
    layout = Layout(title, columns, note, has_paper=False)
    return ResultTable(layout, ((*above, Row("chance", chance, is_paper=True)), tuple(rows)))


def _system_row(
    system: Mapping[str, Any],
    label: str,
    names: Sequence[str],
    metric: str,
    with_intervals: bool,
) -> Row:
    cells = []
    for name in names:
        value = system["metrics"].get(name, {}).get(metric)
        ends = system["intervals"].get(name, {}).get(metric, ())
        cells.append(_cell(value, ends if with_intervals else ()))
    return Row(label, tuple(cells))


def _presence_table(document: Mapping[str, Any]) -> ResultTable:
    cold, everything = document["groups"][COLD], document["groups"][ALL]
    places = ("top@50", "mass")
    counted = ("named", "named_cold", "distinct_cold", "right_cold")
    titles = ("top 50", "mass", "named", "cold", "distinct", "right")
    columns = tuple(map(Column, titles, (*places, *counted)))
    shares = (
        ("share of the catalogue", cold["movies"] / everything["movies"]),
        ("share of gold items", cold["gold"] / everything["gold"]),
    )
    above = tuple(
        Row(label, (*(_cell(share) for _ in places), *(Cell(ABSENT) for _ in counted)), True)
        for label, share in shares
    )
    rows = []
    for system in document["systems"]:
        said = system["said"] or {}
        cells = [_number(system["metrics"], COLD, metric) for metric in places]
        cells += [Cell(f"{said[name]:,}" if said else ABSENT) for name in counted]
        rows.append(Row(system["name"], tuple(cells)))
    note = (
        "Their share of the 50 best places and of the probability of all items, at those steps. "
        "Of the items that responses name: how many are cold, how many different ones, how many "
        "right."
    )
    layout = Layout("Cold items in lists and in responses", columns, note, has_paper=False)
    return ResultTable(layout, (above, tuple(rows)))


def _level_table(document: Mapping[str, Any]) -> ResultTable:
    columns = (
        Column("constant", "offset", None, 2),
        *(Column(f"cold @{k}", f"hit@{k}") for k in (10, 50)),
        *(Column(f"all @{k}", f"hit@{k}") for k in (10, 50)),
    )
    rows = []
    for system in document["systems"]:
        found = system["levelled"]
        rows.append(Row(system["name"], (Cell(ABSENT), *_hits(system["metrics"]))))
        if found:
            constant = Cell(f"{found['offset']:.2f}", value=found["offset"])
            rows.append(Row("… levelled", (constant, *_hits(found["metrics"]))))
    note = (
        "A constant on the scores of cold items gives them their share of gold items among the "
        "ten best places (it is set on these very steps)."
    )
    layout = Layout("hit@k with cold items levelled", columns, note, has_paper=False)
    return ResultTable(layout, (tuple(rows),))


def _hits(metrics: Mapping[str, Any]) -> tuple[Cell, ...]:
    return tuple(_number(metrics, name, f"hit@{k}") for name in (COLD, ALL) for k in (10, 50))


def _number(named: Mapping[str, Any], *path: str) -> Cell:
    """The number at a path of nested mappings, or a dash."""
    value: Any = named
    for key in path:
        value = value.get(key, {})
    return _cell(value if isinstance(value, int | float) else None)


def _cell(value: Number | None, interval: Sequence[float] = ()) -> Cell:
    if value is None:
        return Cell(ABSENT)
    ends = "–".join(f"{end:.2f}".removeprefix("0") for end in interval)
    return Cell(short_number(value), value=value, interval=ends)


def _heading(name: str) -> str:
    return {COLD_WITH_FACTS: "facts", COLD_WITHOUT_FACTS: "none"}.get(name, name)
