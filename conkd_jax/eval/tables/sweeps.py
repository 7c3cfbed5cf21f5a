"""A sweep read as one: a table and a figure of the runs that differ in one number.

Knows metrics.json documents; knows no config and no stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import rich.table
from etils import epath

from conkd_jax.eval import report
from conkd_jax.eval.figures.drawing import figure_file

COLUMNS = ("f1@1", "f1@10", "f1@50", "rec_ratio", "tf_hit@10", "tf_hit@50", "ppl", "dist-2")
PANELS = (("f1@1", "f1@10", "f1@50"), ("rec_ratio",), ("ppl",))


def write(
    folder: epath.PathLike, field: str, documents: Mapping[str, Mapping[str, Any]]
) -> rich.table.Table:
    """Writes sweep.json, sweep.md and sweep.png into a folder.

    Args:
      folder: where the runs' own folders lie.
      field: the field that was swept.
      documents: metrics.json of every run, by "<field>=<value>".

    Returns:
      The table, for the terminal.
    """
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    report.write_json(folder / "sweep.json", {"field": field, "runs": dict(documents)})
    (folder / "sweep.md").write_text(markdown(field, documents))
    figure(field, documents, folder / "sweep.png")
    return terminal(field, documents)


def cells(document: Mapping[str, Any]) -> list[str]:
    """The columns of a run as text, a dash for what it has not."""
    metrics = document["metrics"]
    digits = {"ppl": 2}
    return [
        f"{metrics[name]:.{digits.get(name, 3)}f}" if name in metrics else "–" for name in COLUMNS
    ]


def terminal(field: str, documents: Mapping[str, Mapping[str, Any]]) -> rich.table.Table:
    """The table as `conkd_jax.train` prints it."""
    table = rich.table.Table(title=f"{field} on {_split(documents)}")
    for column in (field.rsplit(".", 1)[-1], *COLUMNS):
        table.add_column(column, justify="right")
    for label, document in documents.items():
        table.add_row(value_of(label), *cells(document))
    return table


def markdown(field: str, documents: Mapping[str, Mapping[str, Any]]) -> str:
    """The table for a document."""
    header = (field.rsplit(".", 1)[-1], *COLUMNS)
    rows = [header, ("---:",) * len(header)]
    rows += [(value_of(label), *cells(document)) for label, document in documents.items()]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return f"{field}, scored on {_split(documents)}\n\n" + "\n".join(lines) + "\n"


def figure(field: str, documents: Mapping[str, Mapping[str, Any]], path: epath.PathLike) -> None:
    """F1, Rec Ratio and PPL over the values; bars are 95 % intervals where a run has them."""
    values = [value_of(label) for label in documents]
    runs = list(documents.values())
    title = f"{field} on {_split(documents)}"
    with figure_file(path, (3.6 * len(PANELS), 3.4), title=title) as drawn:
        for ax, names in zip(drawn.subplots(1, len(PANELS)), PANELS, strict=True):
            for name in names:
                found = [run["metrics"].get(name, float("nan")) for run in runs]
                bars = whiskers(name, found, runs)
                ax.errorbar(values, found, yerr=bars, marker="o", capsize=3, label=name)
            ax.set_xlabel(field)
            ax.legend(frameon=False, fontsize="small")


def value_of(label: str) -> str:
    """The value in "<field>=<value>"."""
    return label.split("=", 1)[-1]


def whiskers(name: str, found: Sequence[float], documents: Sequence[Mapping]):
    """Distances from each value down and up to its interval, [2, runs]; None without intervals."""
    pairs = [document.get("intervals", {}).get(name) for document in documents]
    if None in pairs:
        return None
    low = [max(value - pair[0], 0.0) for value, pair in zip(found, pairs, strict=True)]
    high = [max(pair[1] - value, 0.0) for value, pair in zip(found, pairs, strict=True)]
    return [low, high]


def _split(documents: Mapping[str, Mapping[str, Any]]) -> str:
    return ", ".join(sorted({document["split"] for document in documents.values()}))
