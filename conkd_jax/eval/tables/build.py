"""The paper's tables with our rows in them: contents of `metrics.json` -> rows.

Knows no file and no markup (`table_formats` writes the rows, `table_figures` draws them), and
measures nothing. A table is one entry of `layouts.LAYOUTS`; its caption says of our rows what their
documents say, and nothing is typed in but the paper's own numbers (`paper`).
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from conkd_jax.errors import UserError
from conkd_jax.eval import report
from conkd_jax.eval.report import EXTERNAL, SYNTHETIC, label_of
from conkd_jax.eval.tables import paper
from conkd_jax.eval.tables.layouts import LAYOUTS, Column, Layout
from conkd_jax.eval.tables.paper import PaperRow

Document = Mapping  # what `report.metrics_json` gives
Values = Mapping[str, tuple[float, float | None]]  # (mean, sd) of each metric

ABSENT = "–"
DECODINGS: Mapping[str, str] = {  # what a row's label means, told wherever there is such a row
    "mass": "+mass: the best item is said wherever all items together have more than half of the "
    "probability; not the paper's rule.",
    "novel": "+novel: no item that the dialogue has named before may be said.",
    "once": "+once: no item may be said twice in a response.",
}

_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "config": str,
    "preset": str,
    "backbone": str,
    "split": str,
    "seed": int,
    "n_responses": int,
    "metrics": Mapping,
    "command": str,
    "machine": (Mapping, str),
}


class TableError(UserError, ValueError):
    """Documents that make no table. The message says what was expected and what came."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A number as printed, and as it is.

    Attributes:
      text: as printed.
      mark: its place among our rows.
      value, deviation: mean and sample standard deviation; None where there is none.
    """

    text: str
    mark: Literal["best", "second"] | None = None
    value: float | None = None
    deviation: float | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """One system: a run of ours, all its seeds together, or the paper's."""

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
        f"{name}: expected a metrics.json that conkd_jax.train or conkd_jax.evaluate left, of this "
        f"version; {wrong}."
    )


def commit_path(document: Document) -> str:
    """Where the document of a run that the docs quote is committed, from the checkout's root.

    >>> run = {"preset": "mini", "config": "ablations/vanilla", "backbone": "kgsf", "seed": 2}
    >>> commit_path(run | {"metrics": {"ppl": 40.0}})
    'docs/results/mini/ablations/vanilla-kgsf/seed2.json'
    >>> commit_path(run | {"metrics": {"ms_per_token": 5.3}})
    'docs/results/latency/mini/ablations/vanilla-kgsf/seed2.json'

    Raises:
      TableError: the config has no plain path under configs/.
    """
    label, parts = label_of(document), document["config"].split("/")
    if not all(re.fullmatch(r"[\w-][\w.-]*", part) for part in (document["preset"], *parts)):
        raise TableError(
            f"config {document['config']!r}, preset {document['preset']!r}: expected a config by "
            "its path under configs/, without '.py'."
        )
    kind = "latency/" if "ms_per_token" in document["metrics"] else ""
    return f"docs/results/{kind}{document['preset']}/{label}/seed{document['seed']}.json"


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
        runs.setdefault(label_of(document), []).append(document)
    values = {label: _values(of_label) for label, of_label in runs.items()}
    _expect_numbers(layout, values)
    marks = [_marks(column, values) for column in layout.columns]
    has_paper = all(document["preset"] != SYNTHETIC for document in documents)
    groups = []
    for row, labels in _beside_the_paper(runs, layout.is_ladder, has_paper):
        group = [_our_row(label, values[label], layout.columns, marks) for label in labels]
        groups.append((*group, *_paper_rows(row, layout.columns)))
    if layout.reference is not None and has_paper:
        groups.append(_paper_rows(layout.reference, layout.columns))
    return ResultTable(layout, tuple(groups), _caption(runs, has_paper))


def _expect_one_setting(documents: Sequence[Document]) -> None:
    if not documents:
        raise TableError("expected at least one run, got none.")
    for field in ("preset", "split", "n_responses"):
        found: dict[object, str] = {}
        for document in documents:
            if (field, document[field]) != ("preset", EXTERNAL):  # it stands beside any of ours
                found.setdefault(document[field], f"{label_of(document)} seed {document['seed']}")
        if len(found) > 1:
            which = "; ".join(f"{value} ({run})" for value, run in found.items())
            raise TableError(
                f"{field}: expected the same in every run of a table, got {which}. "
                "Make a table of each."
            )


def _expect_numbers(layout: Layout, values: Mapping[str, Values]) -> None:
    wanted = [column.metric for column in layout.columns]
    if not any(metric in metrics for metrics in values.values() for metric in wanted):
        recipe = f"; {layout.recipe}" if layout.recipe else ""
        raise TableError(
            f"{layout.title}: expected runs with some of {', '.join(wanted)}, got none{recipe}."
        )


def _values(runs: Sequence[Document]) -> Values:
    """(mean, sd) of each metric of one row; the sd of a single run is None."""
    runs = [{**run, "metrics": _with_drops(run["metrics"])} for run in runs]
    if len(runs) == 1:
        return {name: (value, None) for name, value in runs[0]["metrics"].items()}
    try:
        return dict(report.across_seeds(runs))
    except ValueError as error:
        raise TableError(f"{label_of(runs[0])}: {error}") from error


def _with_drops(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """The metrics, and what the response loses of the recommender's recall, 1 - ReR@k / R@k.

    >>> round(_with_drops({"recall@1": 0.034, "rer@1": 0.008})["drop@1"], 4)
    0.7647
    """
    drops = {
        f"drop@{k}": 1 - metrics[f"rer@{k}"] / metrics[f"recall@{k}"]
        for k in (1, 10, 50)
        if f"rer@{k}" in metrics and metrics.get(f"recall@{k}")
    }
    return {**metrics, **drops}


def _marks(column: Column, values: Mapping[str, Values]) -> dict[str, Literal["best", "second"]]:
    """The mark of each row in a column: none if all print alike, "second" from three up."""
    printed = {
        label: round(metrics[column.metric][0], column.digits)
        for label, metrics in values.items()
        if column.metric in metrics
    }
    order = sorted(set(printed.values()), reverse=column.better == "higher")
    if column.better is None or len(order) < 2:
        return {}
    marks: dict[str, Literal["best", "second"]] = {}
    for label, value in printed.items():
        if value == order[0]:
            marks[label] = "best"
        elif value == order[1] and len(printed) > 2:
            marks[label] = "second"
    return marks


def _beside_the_paper(
    runs: Mapping[str, Sequence[Document]], is_ladder: bool, has_paper: bool
) -> list[tuple[PaperRow | None, list[str]]]:
    """Rows by the paper's row they stand against, in the paper's order; those without one last and
    each alone, in the order of the ablation's steps.

    Args:
      runs: documents of each of our rows.
      is_ladder: whether the paper's rows are those of its ablation, Tables 5 and 6.
      has_paper: whether the paper has any row to stand against.
    """
    find = paper.ablation_row if is_ladder else paper.paper_row
    rows: dict[str, PaperRow | None] = {
        label: find(of_label[0]["config"], of_label[0]["backbone"]) if has_paper else None
        for label, of_label in runs.items()
    }
    order = [row.name for row in (*paper.SYSTEMS.values(), *paper.ABLATIONS.values())]
    steps: list[str | None] = list(paper.ABLATIONS)

    def place(label: str) -> tuple:
        row, step = rows[label], paper.ablation_step(runs[label][0]["config"])
        at_row = order.index(row.name) if row else len(order)
        at_step = steps.index(step) if step else len(steps)
        return (at_row, at_step, "/" in label, label)

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
    columns: Sequence[Column],
    marks: Sequence[Mapping[str, Literal["best", "second"]]],
) -> Row:
    cells = []
    for column, of_column in zip(columns, marks, strict=True):
        mean, deviation = values.get(column.metric, (None, None))
        text = ABSENT if mean is None else f"{mean:.{column.digits}f}"
        text += "" if deviation is None else f" ± {deviation:.{column.digits}f}"
        cells.append(Cell(text, of_column.get(label), mean, deviation))
    return Row(label, tuple(cells))


def _paper_rows(row: PaperRow | None, columns: Sequence[Column]) -> tuple[Row, ...]:
    """The paper's row, unless it has no number for any of the columns."""
    if row is None or not any(column.metric in row.metrics for column in columns):
        return ()
    cells = []
    for column in columns:
        value = row.metrics.get(column.metric)
        text = ABSENT if value is None else f"{value:.{column.digits}f}"
        cells.append(Cell(text, value=value))
    return (Row(f"paper: {row.name}", tuple(cells), is_paper=True),)


def _caption(runs: Mapping[str, Sequence[Document]], has_paper: bool) -> str:
    documents = [document for of_label in runs.values() for document in of_label]
    trained = [document for document in documents if document["preset"] != EXTERNAL]
    first = documents[0]
    parts = []
    if trained:
        ours = {label: of for label, of in runs.items() if of[0]["preset"] != EXTERNAL}
        seeds = {label: _seeds(of_label) for label, of_label in ours.items()}
        said = "; ".join(f"{label}: {of_label}" for label, of_label in seeds.items())
        if len(set(seeds.values())) == 1:
            said = next(iter(seeds.values()))
        machines = " and ".join(dict.fromkeys(machine_text(d["machine"]) for d in trained))
        parts.append(
            f"Our rows: preset {trained[0]['preset']}, {first['split']} split, "
            f"{first['n_responses']:,} responses; {said}; made on {machines}."
        )
    if len(trained) < len(documents):
        others = ", ".join(dict.fromkeys(label_of(d) for d in documents if d not in trained))
        parts.append(
            f"Scored from predictions that this project did not make, on {first['split']}, "
            f"{first['n_responses']:,} responses: {others}."
        )
    parts += [text for name, text in DECODINGS.items() if _is_decoded(documents, name)]
    if any(len(of_label) > 1 for of_label in runs.values()):
        parts.append(f"Mean ± standard deviation over {_what_seeds_change(runs)}.")
    if len(runs) > 1:
        parts.append("Bold: best of our rows.")
    if len(runs) > 2:
        parts.append("Underlined: second best of our rows.")
    if has_paper:
        parts.append("Rows of the paper: as printed there, on ReDial's test split.")
    return " ".join(parts)


def _is_decoded(documents: Sequence[Document], name: str) -> bool:
    return any(name in document.get("decoding", "").split("+") for document in documents)


def _what_seeds_change(runs: Mapping[str, Sequence[Document]]) -> str:
    """Whether the runs of a row share their teachers, in words, for rows of several runs."""
    retrained = [
        label
        for label, of_label in runs.items()
        if len({document.get("teacher_seed", 0) for document in of_label}) > 1
    ]
    if not retrained:
        return "students; teachers are shared"
    if len(retrained) == sum(len(of_label) > 1 for of_label in runs.values()):
        return "trainings, recommender and teachers included"
    return f"students that share their teachers; of {', '.join(retrained)} over all trainings"


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
