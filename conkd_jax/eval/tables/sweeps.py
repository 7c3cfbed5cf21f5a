"""A sweep as a table and a figure of runs that differ in one field.

Reads metrics.json documents only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from etils import epath

from conkd_jax.eval.document import Document
from conkd_jax.eval.figures.drawing import figure_file
from conkd_jax.eval.tables.formats import table_as_markdown
from conkd_jax.eval.tables.table import Column, Layout, ResultTable, Row, number_cell
from conkd_jax.io.files import write_json, write_whole

Documents = Mapping[str, Document]  # of every run, by "<field>=<value>"

COLUMNS = tuple(
    Column(name, name, digits=2 if name == "ppl" else 3)
    for name in ("f1@1", "f1@10", "f1@50", "rec_ratio", "tf_hit@10", "tf_hit@50", "ppl", "dist-2")
)
PANELS = (("f1@1", "f1@10", "f1@50"), ("rec_ratio",), ("ppl",))


def write_sweep(folder: epath.PathLike, field: str, documents: Documents) -> ResultTable:
    """Writes sweep.json, sweep.md and sweep.png into a folder.

    Args:
      folder: the folder that holds the folders of the runs.
      field: the field that was swept.
      documents: the document of every run.

    Returns:
      The table.
    """
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    table = sweep_table(field, documents)
    write_json(folder / "sweep.json", {"field": field, "runs": dict(documents)})
    write_whole(folder / "sweep.md", table_as_markdown(table))
    draw_sweep(field, documents, folder / "sweep.png")
    return table


def sweep_table(field: str, documents: Documents) -> ResultTable:
    """Returns a table with a row for every value of the field.

    Args:
      field: the field that was swept.
      documents: the document of every run.
    """
    layout = Layout(_title(field, documents), COLUMNS, row_title=field.rsplit(".", 1)[-1])
    rows = tuple(
        Row(
            _value(label),
            tuple(number_cell(column, run["metrics"].get(column.metric)) for column in COLUMNS),
        )
        for label, run in documents.items()
    )
    return ResultTable(layout, (rows,))


def draw_sweep(field: str, documents: Documents, path: epath.PathLike) -> None:
    """Draws F1, Rec Ratio and PPL over the values; bars are 95 % intervals where a run has them.

    Args:
      field: the field that was swept.
      documents: the document of every run.
      path: where the PNG goes.
    """
    values = [_value(label) for label in documents]
    runs = list(documents.values())
    size, title = (3.6 * len(PANELS), 3.4), _title(field, documents)
    with figure_file(path, size, title=title) as figure:
        for ax, names in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
            for name in names:
                found = [run["metrics"].get(name, float("nan")) for run in runs]
                bars = whiskers(name, found, runs)
                ax.errorbar(values, found, yerr=bars, marker="o", capsize=3, label=name)
            ax.set_xlabel(field)
            ax.legend(frameon=False, fontsize="small")


def whiskers(name: str, found: Sequence[float], documents: Sequence[Document]):
    """Returns distances from each value down and up to its interval, [2, runs].

    Args:
      name: a metric.
      found: its value in every run.
      documents: the document of every run.

    Returns:
      None unless every run has an interval.
    """
    pairs = [document.get("intervals", {}).get(name) for document in documents]
    if None in pairs:
        return None
    low = [max(value - pair[0], 0.0) for value, pair in zip(found, pairs, strict=True)]
    high = [max(pair[1] - value, 0.0) for value, pair in zip(found, pairs, strict=True)]
    return [low, high]


def _value(label: str) -> str:
    return label.split("=", 1)[-1]


def _title(field: str, documents: Documents) -> str:
    splits = sorted({document["split"] for document in documents.values()})
    return f"{field} on {', '.join(splits)}"
