"""Tables of runs: contents of `metrics.json` -> rows of ours beside the paper's.

A table is one entry of `layouts.LAYOUTS`. This module reads no file, writes no markup (`formats`
and `figures` do) and measures nothing; the only numbers that were typed in are the paper's
(`paper`) and those of CRSLab (`reruns`).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from conkd_jax.eval.document import EXTERNAL, SYNTHETIC, Document, document_label
from conkd_jax.eval.metrics.trivial import CHANCE, POPULARITY, REPEAT
from conkd_jax.eval.tables.beside import paper_row_name
from conkd_jax.eval.tables.caption import runs_caption
from conkd_jax.eval.tables.layouts import LAYOUTS, TOGETHER, WITHOUT_INTERVALS
from conkd_jax.eval.tables.paper import (
    ABLATIONS,
    SYSTEMS,
    PaperRow,
    ablation_row,
    ablation_step,
    paper_row,
)
from conkd_jax.eval.tables.reruns import RERUNS
from conkd_jax.eval.tables.seeds import across_seeds
from conkd_jax.eval.tables.table import (
    Column,
    Layout,
    Mark,
    ResultTable,
    Row,
    TableError,
    number_cell,
)

TRIVIAL_LABELS = {
    POPULARITY: "popularity",
    REPEAT: "just mentioned, then popularity",
    CHANCE: "chance",
}
Values = Mapping[str, tuple[float, float | None]]  # (mean, sd) of each metric


def build_tables(
    name: str, documents: Sequence[Document], *, intervals: bool | None = None
) -> list[ResultTable]:
    """Returns a table with those that are printed above and below it; the last has the caption.

    Args:
      name: as of `build_table`.
      documents: as of `build_table`.
      intervals: as of `build_table`; None means all tables but those of `WITHOUT_INTERVALS`.

    Raises:
      TableError: as `build_table`, for the named table.
    """
    if intervals is None:
        intervals = name not in WITHOUT_INTERVALS
    tables = [
        build_table(other, documents, intervals=intervals)
        for other in TOGETHER.get(name, (name,))
        if other == name or has_numbers(other, documents)
    ]
    return [*(dataclasses.replace(table, caption="") for table in tables[:-1]), tables[-1]]


def has_numbers(name: str, documents: Sequence[Document]) -> bool:
    """Whether some document has what a table is about."""
    wanted = _required(LAYOUTS[name])
    return any(metric in document["metrics"] for document in documents for metric in wanted)


def build_table(
    name: str,
    documents: Sequence[Document],
    *,
    intervals: bool = False,
    trivial_at_steps: bool = False,
) -> ResultTable:
    """Returns a table of runs, each of our rows above the paper's row for its system.

    Runs that differ in their seed alone are one row, mean ± sample standard deviation. Best and
    second best are marked among our rows, by the numbers as they are printed. A table with
    recall of the recommender ends with that of trivial systems.

    Args:
      name: a key of `LAYOUTS`.
      documents: contents of `metrics.json`, one or more.
      intervals: whether rows of a single run show their 95 % intervals over dialogues.
      trivial_at_steps: whether each of our rows is followed by those of trivial systems that
        recommend at its item steps, where it has their numbers.

    Raises:
      TableError: there is no such table or no document, a seed of a config comes twice, none of the
        documents has any of the table's metrics, or they are of several presets, splits or numbers
        of responses.
    """
    if name not in LAYOUTS:
        raise TableError(f"table {name!r}: expected one of {', '.join(LAYOUTS)}.")
    _expect_one_setting(documents)
    layout = LAYOUTS[name]
    runs: dict[str, list[Document]] = {}
    for document in sorted(documents, key=lambda d: d["seed"]):
        runs.setdefault(document_label(document), []).append(document)
    values = {label: _values(of_label) for label, of_label in runs.items()}
    _expect_numbers(layout, values)
    has_backbones = len({document["backbone"] for document in documents}) > 1
    marks = [
        {} if column.within_backbone and has_backbones else _marks(column, values)
        for column in layout.columns
    ]
    ends = {
        label: of[0].get("intervals", {}) if intervals and len(of) == 1 else {}
        for label, of in runs.items()
    }
    is_real = all(document["preset"] != SYNTHETIC for document in documents)
    has_paper = layout.has_paper and is_real
    groups = []
    for row, labels in _beside_the_paper(runs, layout.is_ladder, is_real):
        ours = []
        for label in labels:
            ours.append(_our_row(label, values[label], ends[label], layout.columns, marks))
            ours += _rows_at_steps(values[label], layout.columns) if trivial_at_steps else []
        groups.append((*ours, *(_paper_rows(row, layout.columns) if has_paper else ())))
    groups.append(trivial_rows(layout.columns, documents))
    if layout.reference is not None and has_paper:
        groups.append(_paper_rows(layout.reference, layout.columns))
    shown = {row.label for group in groups for row in group}
    caption = runs_caption(
        runs,
        has_paper=has_paper,
        has_intervals=any(ends.values()),
        reruns=[rerun for rerun in RERUNS.values() if rerun.name in shown],
    )
    return ResultTable(layout, tuple(filter(None, groups)), caption)


def trivial_rows(columns: Sequence[Column], documents: Sequence[Document]) -> tuple[Row, ...]:
    """Returns the recall of trivial systems, which is the same beside every run of a split.

    Args:
      columns: those of the recommender's recall are filled.
      documents: the first that has the numbers gives them.
    """
    rows = []
    for rule, label in TRIVIAL_LABELS.items():
        names = [f"{c.metric}_{rule}" if c.metric.startswith("recall@") else "" for c in columns]
        found = [d["metrics"] for d in documents if any(name in d["metrics"] for name in names)]
        if found:
            cells = zip(columns, map(found[0].get, names), strict=True)
            rows.append(Row(label, tuple(number_cell(*cell) for cell in cells), is_paper=True))
    return tuple(rows)


def _expect_one_setting(documents: Sequence[Document]) -> None:
    if not documents:
        raise TableError("expected at least one run, got none.")
    for field in ("preset", "split", "n_responses"):
        found: dict[object, str] = {}
        for document in documents:
            if (field, document[field]) != ("preset", EXTERNAL):  # it stands beside any of ours
                run = f"{document_label(document)} seed {document['seed']}"
                found.setdefault(document[field], run)
        if len(found) > 1:
            which = "; ".join(f"{value} ({run})" for value, run in found.items())
            raise TableError(
                f"{field}: expected the same in every run of a table, got {which}. "
                "Make a table of each."
            )


def _required(layout: Layout) -> Sequence[str]:
    return layout.required or [column.metric for column in layout.columns]


def _expect_numbers(layout: Layout, values: Mapping[str, Values]) -> None:
    wanted = _required(layout)
    if not any(metric in metrics for metrics in values.values() for metric in wanted):
        recipe = f"; {layout.recipe}" if layout.recipe else ""
        raise TableError(
            f"{layout.title}: expected runs with some of {', '.join(wanted)}, got none{recipe}."
        )


def _values(runs: Sequence[Document]) -> Values:
    """Returns (mean, sd) of each metric of one row; the sd of a single run is None."""
    runs = [{**run, "metrics": _with_kept(run["metrics"])} for run in runs]
    if len(runs) == 1:
        return {name: (value, None) for name, value in runs[0]["metrics"].items()}
    try:
        return dict(across_seeds(runs))
    except ValueError as error:
        raise TableError(f"{document_label(runs[0])}: {error}") from error


def _with_kept(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """Adds the share of the recommender's recall that reaches the responses, ReR@k / R@k.

    >>> round(_with_kept({"recall@1": 0.034, "rer@1": 0.008})["kept@1"], 4)
    0.2353
    """
    kept = {
        f"kept@{k}": metrics[f"rer@{k}"] / metrics[f"recall@{k}"]
        for k in (1, 10, 50)
        if f"rer@{k}" in metrics and metrics.get(f"recall@{k}")
    }
    return {**metrics, **kept}


def _marks(column: Column, values: Mapping[str, Values]) -> dict[str, Mark]:
    """Returns the mark of each row in a column.

    No row has one if all print alike; "second" needs three rows. Values count as they are printed,
    so that two rows that look alike are marked alike.
    """
    printed = {
        label: round(metrics[column.metric][0], column.digits)
        for label, metrics in values.items()
        if column.metric in metrics
    }
    order = sorted(set(printed.values()), reverse=column.better == "higher")
    if column.better is None or len(order) < 2:
        return {}
    marks: dict[str, Mark] = {}
    for label, value in printed.items():
        if value == order[0]:
            marks[label] = "best"
        elif value == order[1] and len(printed) > 2:
            marks[label] = "second"
    return marks


def _beside_the_paper(
    runs: Mapping[str, Sequence[Document]], is_ladder: bool, has_paper: bool
) -> list[tuple[PaperRow | None, list[str]]]:
    """Groups rows by the paper's row that they stand against, in the paper's order.

    Rows without one come last, each alone, in the order of the ablation's steps.

    Args:
      runs: documents of each of our rows.
      is_ladder: whether the paper's rows are those of its ablation, Tables 5 and 6.
      has_paper: whether the paper has any row to stand against.
    """
    find = ablation_row if is_ladder else paper_row
    names = {label: paper_row_name(of_label[0]) for label, of_label in runs.items()}
    rows: dict[str, PaperRow | None] = {
        label: find(names[label], of_label[0]["backbone"]) if has_paper else None
        for label, of_label in runs.items()
    }
    order = [row.name for row in (*SYSTEMS.values(), *ABLATIONS.values())]
    steps: list[str | None] = list(ABLATIONS)

    def place(label: str) -> tuple:
        row, step = rows[label], ablation_step(names[label])
        at_row = order.index(row.name) if row else len(order)
        at_step = steps.index(step) if step else len(steps)
        return (at_row, at_step, "/" in label, label)  # an ablation comes after its parent

    groups = []
    for row, labels in itertools.groupby(sorted(runs, key=place), rows.__getitem__):
        if row is None:
            groups += [(None, [label]) for label in labels]
        else:
            groups.append((row, list(labels)))
    return groups


def _our_row(
    label: str,
    values: Values,
    intervals: Mapping[str, Sequence[float]],
    columns: Sequence[Column],
    marks: Sequence[Mapping[str, Mark]],
) -> Row:
    cells = [
        number_cell(
            column,
            *values.get(column.metric, (None, None)),
            mark=of_column.get(label),
            interval=intervals.get(column.metric, ()),
        )
        for column, of_column in zip(columns, marks, strict=True)
    ]
    return Row(label, tuple(cells))


def _rows_at_steps(values: Values, columns: Sequence[Column]) -> list[Row]:
    """Returns what a row's item steps get with a trivial list; no row without any number."""
    rows = []
    for rule in (POPULARITY, REPEAT):
        found = [values.get(f"{column.metric}_{rule}", (None, None)) for column in columns]
        if any(value is not None for value, _ in found):
            cells = zip(columns, found, strict=True)
            label = f"{TRIVIAL_LABELS[rule]}, at these steps"
            rows.append(Row(label, tuple(number_cell(c, *f) for c, f in cells), is_paper=True))
    return rows


def _paper_rows(row: PaperRow | None, columns: Sequence[Column]) -> tuple[Row, ...]:
    """Returns the paper's row as it is printed, and below it that of a re-run.

    One that has no number for any column is left out.
    """
    if row is None:
        return ()
    printed = {f"paper: {row.name}": row.metrics}
    if rerun := RERUNS.get(row.name):
        printed[rerun.name] = rerun.metrics
    return tuple(
        Row(label, tuple(number_cell(c, metrics.get(c.metric)) for c in columns), is_paper=True)
        for label, metrics in printed.items()
        if any(column.metric in metrics for column in columns)
    )
