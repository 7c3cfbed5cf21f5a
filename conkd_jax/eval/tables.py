"""The paper's tables with our rows in them: contents of `metrics.json` -> rows.

Knows no file and no markup (`table_formats` writes the rows), and measures nothing. A table is one
entry of `LAYOUTS`; its caption says of our rows what their documents say, and nothing is typed in
but the paper's own numbers (`paper`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from conkd_jax.eval import paper, report
from conkd_jax.eval.paper import PaperRow

Document = Mapping  # what `report.metrics_json` gives

ABSENT = "–"

_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "config": str,
    "preset": str,
    "split": str,
    "seed": int,
    "n_responses": int,
    "metrics": Mapping,
    "command": str,
    "machine": (Mapping, str),
}


class TableError(ValueError):
    """Documents that make no table. The message says what was expected and what came."""


@dataclasses.dataclass(frozen=True)
class Column:
    """A metric in a table.

    Attributes:
      title: its head.
      metric: the name in `metrics.json`.
      better: which end is marked as best; None marks nothing.
      digits: after the point.
    """

    title: str
    metric: str
    better: Literal["higher", "lower"] | None = "higher"
    digits: int = 3


@dataclasses.dataclass(frozen=True)
class Layout:
    """A kind of table.

    Attributes:
      title: what stands over it.
      columns: its metrics, left to right.
      note: what a reader has to know about these metrics; may be empty.
      reference: a row of the paper that stands below all of ours, whatever systems they are.
    """

    title: str
    columns: tuple[Column, ...]
    note: str = ""
    reference: PaperRow | None = None


def _at_k(title: str, metric: str) -> tuple[Column, ...]:
    return tuple(Column(f"{title}@{k}", f"{metric}@{k}") for k in (1, 10, 50))


LAYOUTS: Mapping[str, Layout] = {
    "1": Layout(
        "Table 1. What the recommender knows and what is said",
        (*_at_k("R", "recall"), *_at_k("ReR", "rer"), Column("Mismatch", "mismatch", "lower")),
        "R: the recommender alone; ReR: the responses.",
    ),
    "2": Layout(
        "Table 2. Items in responses",
        (
            *_at_k("ReR", "rer"),
            *_at_k("PrR", "prr"),
            *_at_k("F1", "f1"),
            Column("Rec Ratio", "rec_ratio"),
        ),
    ),
    "3": Layout(
        "Table 3, its automatic part. Words",
        (
            Column("PPL", "ppl", "lower", digits=2),
            *(Column(f"DIST-{n}", f"dist-{n}") for n in (2, 3, 4)),
        ),
        "Which form of perplexity the paper prints is not known; ours counts items and words.",
    ),
    "gate": Layout(
        "The gate",
        (
            Column("λ_r", "lambda_r", None),
            Column("λ_v", "lambda_v", None),
            Column("train λ_r", "train_lambda_r", None),
            Column("train λ_v", "train_lambda_v", None),
            Column("η", "eta", None),
            *_at_k("hit", "tf_hit"),
            Column("student λ_r", "student_lambda_r", None),
            Column("Turn accuracy", "classifier_accuracy"),
            Column("base rate", "classifier_base_rate", None),
        ),
        "λ_r, λ_v: the dialogue teacher's mean mass on items, on item steps and on word steps of "
        "gold responses (train: optimistic, it was fitted to them); student λ_r: the scored "
        "system's. hit: the gold item among the k best, at item steps. Turn accuracy: the turn "
        "classifier's, beside the share of the larger class.",
        PaperRow("§3.4, on KGSF", "§3.4", paper.GATE_MEANS),
    ),
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A number as printed."""

    text: str
    mark: Literal["best", "second"] | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """One system: a config of ours, all its seeds together, or the paper's."""

    label: str
    cells: tuple[Cell, ...]
    is_paper: bool = False


@dataclasses.dataclass(frozen=True)
class ResultTable:
    """A filled table: groups of our rows, each closed by the paper's row that they stand against.

    Attributes:
      layout: its columns.
      groups: rows, top to bottom.
      caption: where our numbers come from and how to read the marks.
    """

    layout: Layout
    groups: tuple[tuple[Row, ...], ...]
    caption: str


# --- documents -------------------------------------------------------------------------------


def checked(document: object, name: str) -> Document:
    """The document, if it is what `metrics.json` holds.

    Args:
      document: parsed JSON.
      name: the file, for the message.

    Raises:
      TableError: it is anything else.
    """
    wrong = "no JSON object"
    if isinstance(document, Mapping):
        bad = [key for key, kind in _FIELDS.items() if not isinstance(document.get(key), kind)]
        if not bad and all(isinstance(v, int | float) for v in document["metrics"].values()):
            return document
        wrong = f"missing or of another type: {', '.join(bad) or 'a value of metrics'}"
    raise TableError(
        f"{name}: expected a metrics.json that conkd_jax.train or conkd_jax.evaluate left; {wrong}."
    )


def commit_path(document: Document) -> str:
    """Where the document of a run that the docs quote is committed, from the checkout's root.

    >>> commit_path({"preset": "mini", "config": "ablations/cross_fitted", "seed": 2})
    'docs/results/mini/ablations/cross_fitted/seed2.json'

    Raises:
      TableError: the config has no plain path under configs/.
    """
    parts = document["config"].split("/")
    if not all(re.fullmatch(r"[\w-][\w.-]*", part) for part in (document["preset"], *parts)):
        raise TableError(
            f"config {document['config']!r}, preset {document['preset']!r}: expected a config by "
            "its path under configs/, without '.py'."
        )
    return f"docs/results/{document['preset']}/{document['config']}/seed{document['seed']}.json"


def portable_command(command: str) -> str:
    """A run's command without the folders of the machine that it ran on.

    >>> portable_command("/opt/conkd_jax/train.py --config=configs/dialogpt.py --workdir=/disk/1")
    'python -m conkd_jax.train --config=configs/dialogpt.py --workdir=DIR'
    """
    command = re.sub(r"^\S*\bconkd_jax/(\w+)\.py\b", r"python -m conkd_jax.\1", command)
    command = re.sub(r"(?<=[\s=])/\S*?/(?=configs/\S+\.py)", "", command)
    return re.sub(r"(^|(?<=[\s=]))/\S*", "DIR", command)


# --- documents to rows -----------------------------------------------------------------------


def build(name: str, documents: Sequence[Document]) -> ResultTable:
    """A table of runs: each of our rows above the paper's row for its system.

    Runs that differ in their seed alone are one row, mean ± sample standard deviation. Best and
    second best are marked among our rows, by the numbers as they are printed.

    Args:
      name: a key of `LAYOUTS`.
      documents: contents of `metrics.json`, one or more.

    Raises:
      TableError: there is no such table or no document, a seed of a config comes twice, or the
        documents are of several presets, splits or numbers of responses.
    """
    if name not in LAYOUTS:
        raise TableError(f"table {name!r}: expected one of {', '.join(LAYOUTS)}.")
    _expect_one_setting(documents)
    layout = LAYOUTS[name]
    runs: dict[str, list[Document]] = {}
    for document in sorted(documents, key=lambda d: d["seed"]):
        runs.setdefault(document["config"], []).append(document)
    values = {config: _values(of_config) for config, of_config in runs.items()}
    marks = [_marks(column, values) for column in layout.columns]
    groups = []
    for row, configs in _beside_the_paper(values):
        group = [_our_row(config, values[config], layout.columns, marks) for config in configs]
        groups.append((*group, *_paper_rows(row, layout.columns)))
    if layout.reference is not None:
        groups.append(_paper_rows(layout.reference, layout.columns))
    return ResultTable(layout, tuple(groups), _caption(runs))


def _expect_one_setting(documents: Sequence[Document]) -> None:
    if not documents:
        raise TableError("expected at least one run, got none.")
    for field in ("preset", "split", "n_responses"):
        found: dict[object, str] = {}
        for document in documents:
            found.setdefault(document[field], f"{document['config']} seed {document['seed']}")
        if len(found) > 1:
            which = "; ".join(f"{value} ({run})" for value, run in found.items())
            raise TableError(
                f"{field}: expected the same in every run of a table, got {which}. "
                "Make a table of each."
            )


def _values(runs: Sequence[Document]) -> dict[str, tuple[float, float | None]]:
    """(mean, sd) of each metric of one config; the sd of a single run is None."""
    if len(runs) == 1:
        return {name: (value, None) for name, value in runs[0]["metrics"].items()}
    try:
        return dict(report.across_seeds(runs))
    except ValueError as error:
        raise TableError(f"{runs[0]['config']}: {error}") from error


def _marks(
    column: Column, values: Mapping[str, Mapping[str, tuple[float, float | None]]]
) -> dict[str, Literal["best", "second"]]:
    """The mark of each config in a column: none if all print alike, "second" from three up."""
    printed = {
        config: round(metrics[column.metric][0], column.digits)
        for config, metrics in values.items()
        if column.metric in metrics
    }
    order = sorted(set(printed.values()), reverse=column.better == "higher")
    if column.better is None or len(order) < 2:
        return {}
    marks: dict[str, Literal["best", "second"]] = {}
    for config, value in printed.items():
        if value == order[0]:
            marks[config] = "best"
        elif value == order[1] and len(printed) > 2:
            marks[config] = "second"
    return marks


def _beside_the_paper(configs: Mapping[str, object]) -> list[tuple[PaperRow | None, list[str]]]:
    """Configs by the paper's row they stand against, in the paper's order, ablations after their
    parent; configs without one come last, each alone."""
    order = [row.name for row in (*paper.SYSTEMS.values(), *paper.ABLATIONS.values())]
    rows: dict[str, PaperRow] = {}
    groups: dict[str, list[str]] = {}
    alone: list[tuple[PaperRow | None, list[str]]] = []
    for config in sorted(configs, key=lambda name: ("/" in name, name)):
        row = paper.paper_row(config)
        if row is None:
            alone.append((None, [config]))
        else:
            rows[row.name] = row
            groups.setdefault(row.name, []).append(config)
    return [(rows[name], groups[name]) for name in sorted(groups, key=order.index)] + alone


def _our_row(
    config: str,
    values: Mapping[str, tuple[float, float | None]],
    columns: Sequence[Column],
    marks: Sequence[Mapping[str, Literal["best", "second"]]],
) -> Row:
    cells = []
    for column, of_column in zip(columns, marks, strict=True):
        text = ABSENT
        if column.metric in values:
            mean, deviation = values[column.metric]
            text = f"{mean:.{column.digits}f}"
            text += "" if deviation is None else f" ± {deviation:.{column.digits}f}"
        cells.append(Cell(text, of_column.get(config)))
    return Row(config, tuple(cells))


def _paper_rows(row: PaperRow | None, columns: Sequence[Column]) -> tuple[Row, ...]:
    """The paper's row, unless it has no number for any of the columns."""
    if row is None or not any(column.metric in row.metrics for column in columns):
        return ()
    cells = tuple(
        Cell(
            f"{row.metrics[column.metric]:.{column.digits}f}"
            if column.metric in row.metrics
            else ABSENT
        )
        for column in columns
    )
    return (Row(f"paper: {row.name}", cells, is_paper=True),)


def _caption(runs: Mapping[str, Sequence[Document]]) -> str:
    documents = [document for of_config in runs.values() for document in of_config]
    first = documents[0]
    seeds = {config: _seeds(of_config) for config, of_config in runs.items()}
    if len(set(seeds.values())) == 1:
        said = seeds[first["config"]]
    else:
        said = "; ".join(f"{config}: {of_config}" for config, of_config in seeds.items())
    machines = " and ".join(dict.fromkeys(machine_text(d["machine"]) for d in documents))
    parts = [
        f"Our rows: preset {first['preset']}, {first['split']} split, "
        f"{first['n_responses']:,} responses; {said}; made on {machines}."
    ]
    if any(len(of_config) > 1 for of_config in runs.values()):
        parts.append("Mean ± standard deviation over students; teachers are shared.")
    if len(runs) > 1:
        parts.append("Bold: best of our rows.")
    if len(runs) > 2:
        parts.append("Underlined: second best of our rows.")
    parts.append("Rows of the paper: as printed there, on ReDial's test split.")
    return " ".join(parts)


def _seeds(runs: Sequence[Document]) -> str:
    seeds = ", ".join(str(document["seed"]) for document in runs)
    return f"seed {seeds}" if len(runs) == 1 else f"seeds {seeds}"


def machine_text(machine: Mapping | str) -> str:
    """A machine in words.

    >>> machine_text({"platform": "Linux", "cpus": 2, "devices": "1 x cpu", "jax": "0.10.2"})
    '1 x cpu, 2 CPU cores, jax 0.10.2'
    """
    if isinstance(machine, str):
        return machine
    known = (("devices", "{}"), ("cpus", "{} CPU cores"), ("jax", "jax {}"))
    told = [form.format(machine[key]) for key, form in known if key in machine]
    return ", ".join(told or (f"{key} {value}" for key, value in machine.items()))
