"""Prints scored runs as the paper's tables, compares two runs, and keeps the runs that docs quote.

    python -m conkd_jax.tables --table=2 runs/dialogpt_hard-mini-seed0 --format=markdown
    python -m conkd_jax.tables --table=5 docs/results/mini --figure=ladder.png
    python -m conkd_jax.tables --table=7 runs/dialogpt-mini-seed0 runs/dialogpt_hard-mini-seed0
    python -m conkd_jax.tables --compare runs/dialogpt-mini-seed0 runs/dialogpt_hard-mini-seed0
    python -m conkd_jax.tables --keep runs/dialogpt_hard-mini-seed0
    python -m conkd_jax.tables --pages

A run is a metrics.json, the folder that conkd_jax.train or conkd_jax.evaluate left, or a folder
that holds several of them at any depth; Table 7 (and 9, which is the same) and `--compare` read
predictions.jsonl, of a run's folder or by itself. `--figure` draws what is printed. `--keep` copies
a run's metrics.json into docs/results/ of this checkout; `--pages` makes the tables of README.md
and docs/results.md from what is kept there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import rich.console
from absl import app, flags, logging
from etils import epath

from conkd_jax.data.corpus import Corpus, CorpusError
from conkd_jax.eval import any_system, report
from conkd_jax.eval.metrics.bootstrap import bootstrap_intervals, compare_runs
from conkd_jax.eval.predictions import PredictionError, read_predictions
from conkd_jax.eval.tables import build as tables
from conkd_jax.eval.tables import figures as table_figures
from conkd_jax.eval.tables import formats as table_formats
from conkd_jax.eval.tables import paired, samples
from conkd_jax.eval.tables.build import Document, ResultTable, TableError
from conkd_jax.eval.tables.layouts import LAYOUTS

CHECKOUT = Path(__file__).resolve().parents[1]
KEPT_RESULTS = "docs/results/mini"
PAGES = {"README.md": ("short",), "docs/results.md": ("2", "3", "gate")}  # and their tables
FORMATS = ("terminal", "markdown", "latex")
SAMPLE_TABLES = ("7", "9")  # the paper has its sample outputs in two places
NUM_SAMPLES = 5

_TABLE = flags.DEFINE_string(
    "table", "", f"Which table: {', '.join((*LAYOUTS, *SAMPLE_TABLES))}; 7 and 9 are samples."
)
_COMPARE = flags.DEFINE_bool("compare", False, "Test two runs against each other, paired.")
_FORMAT = flags.DEFINE_enum("format", "terminal", FORMATS, "How the table is written.")
_FIGURE = flags.DEFINE_string("figure", "", "Draw the table, or the comparison, as this PNG too.")
_KEEP = flags.DEFINE_bool(
    "keep", False, "Copy the runs' metrics.json into docs/results/, to be committed."
)
_PAGES = flags.DEFINE_bool(
    "pages", False, f"Rewrite the tables of {' and '.join(PAGES)} from {KEPT_RESULTS}."
)


def main(argv: list[str]) -> None:
    """One of four things: a table, a comparison, runs to keep, the pages that show them."""
    runs = argv[1:]
    if bool(_TABLE.value) + _COMPARE.value + _KEEP.value + _PAGES.value != 1:
        raise app.UsageError("expected one of --table=NAME, --compare, --keep and --pages.")
    if _PAGES.value == bool(runs):
        raise app.UsageError(
            f"--pages takes no runs, it reads {KEPT_RESULTS}."
            if runs
            else "expected a run: a metrics.json, the folder of a run, or a folder of them."
        )
    if _FIGURE.value and not (_COMPARE.value or _TABLE.value in LAYOUTS):
        raise app.UsageError("--figure goes with a --table of numbers or with --compare.")
    try:
        if _PAGES.value:
            write_pages(CHECKOUT)
        elif _KEEP.value:
            for path in keep(read_runs(runs), CHECKOUT):
                print(path)
        elif _COMPARE.value:
            show(compare(runs, _FIGURE.value), _FORMAT.value)
        elif _TABLE.value in SAMPLE_TABLES:
            show_samples(runs, _FORMAT.value)
        else:
            table = tables.build(_TABLE.value, read_runs(runs))
            show(table, _FORMAT.value)
            if _FIGURE.value:
                table_figures.bars(table, _FIGURE.value)
    except (TableError, PredictionError, CorpusError) as error:
        sys.exit(f"conkd_jax.tables: {error}")


# --- runs ------------------------------------------------------------------------------------


def read_runs(runs: Iterable[epath.PathLike]) -> list[Document]:
    """The documents of runs, each file once.

    Raises:
      TableError: a run can't be found, or a file is no metrics.json.
    """
    files: dict[epath.Path, None] = {}
    for run in runs:
        found = _files(epath.Path(run))
        if not found:
            raise TableError(
                f"{run}: expected a metrics.json, the folder of a run, or a folder that holds "
                "metrics.json or seed<k>.json at some depth; found none."
            )
        files |= dict.fromkeys(path.resolve() for path in found)
    return [_document(path) for path in files]


def _files(path: epath.Path) -> list[epath.Path]:
    """A file itself; a run's metrics.json, without what lies below it; else those of subfolders."""
    if not path.is_dir():
        return [path] if path.exists() else []
    if (path / "metrics.json").exists():
        return [path / "metrics.json"]
    files = []
    for entry in sorted(path.iterdir()):
        if entry.is_dir():
            files += [] if entry.name.startswith(".") else _files(entry)
        elif entry.name.startswith("seed") and entry.suffix == ".json":
            files.append(entry)
    return files


def _document(path: epath.Path) -> Document:
    try:
        document = json.loads(path.read_text())
    except ValueError as error:  # bad UTF-8 is one too
        raise TableError(f"{path}: expected a metrics.json; it is no JSON: {error}") from error
    return tables.checked(document, str(path))


def prediction_files(runs: Iterable[epath.PathLike]) -> dict[str, epath.Path]:
    """The predictions of runs, by what the runs are called.

    Raises:
      TableError: a run has none, or two are called the same.
    """
    found: dict[str, epath.Path] = {}
    for run in runs:
        path = epath.Path(run)
        path = path / "predictions.jsonl" if path.is_dir() else path
        if not path.exists():
            raise TableError(
                f"{run}: expected a predictions.jsonl, or the folder of a run with one in it; "
                "found none."
            )
        name = any_system.system_name(path)
        if name in found:
            raise TableError(f"{found[name]} and {path}: expected runs of different names.")
        found[name] = path
    return found


# --- what is printed -------------------------------------------------------------------------


def show(table: ResultTable, form: str) -> None:
    """Prints a table in one of `FORMATS`."""
    if form == "terminal":
        shown = table_formats.terminal(table)
        table_formats.wide_console(shown).print(shown)
    else:
        formats = {"markdown": table_formats.markdown, "latex": table_formats.latex}
        print(formats[form](table), end="")


def compare(runs: Sequence[str], figure: str = "") -> ResultTable:
    """Two runs on the same responses, tested against each other.

    Args:
      runs: two of them.
      figure: where recall, ReR, PrR and F1 of both over k are drawn, if anywhere.

    Raises:
      TableError: there are not two, or they did not answer the same responses.
      PredictionError: a file is no predictions.jsonl.
    """
    files = prediction_files(runs)
    if len(files) != 2:
        raise TableError(f"--compare: expected two runs, got {len(files)}.")
    names = tuple(files)
    first, second = (any_system.statistics(path) for path in files.values())
    try:
        found = compare_runs(first, second)
    except ValueError as error:
        raise TableError(f"{names[0]} and {names[1]}: {error}.") from error
    if figure:
        curves = {
            name: any_system.statistics(path, ks=any_system.CURVE_KS)
            for name, path in files.items()
        }
        table_figures.over_k(
            {name: curve.metrics() for name, curve in curves.items()},
            figure,
            intervals={name: bootstrap_intervals(curve) for name, curve in curves.items()},
        )
    return paired.table((names[0], names[1]), found, num_dialogues=len(first.turns))


def show_samples(runs: Sequence[str], form: str) -> None:
    """Prints what the runs answered to the same histories.

    Raises:
      TableError: a run can't be found, or they have no history in common.
      PredictionError: a file is no predictions.jsonl.
      CorpusError: a run's corpus, which has the titles, is damaged.
    """
    files = prediction_files(runs)
    systems = {name: list(read_predictions(path)) for name, path in files.items()}
    titles: dict[int, str] = {}
    for path in files.values():
        corpus = path.parent / "artifacts" / "corpus"
        if corpus.exists():
            items = Corpus.open(corpus).items
            titles |= dict(zip(items.movie_ids.tolist(), items.titles, strict=True))
    try:
        chosen, total = samples.side_by_side(systems, num_samples=NUM_SAMPLES, with_items=True)
    except ValueError as error:
        raise TableError(str(error)) from error
    if form == "terminal":
        rich.console.Console().print(samples.terminal(chosen, titles))
        print(f"{len(chosen)} of {total:,} responses that name an item, spread over the split.")
    elif form == "markdown":
        print(samples.markdown(chosen, titles), end="")
    else:
        print(samples.latex(chosen, titles, table_formats.latex_text), end="")


# --- what is kept ----------------------------------------------------------------------------


def keep(documents: Iterable[Document], checkout: Path) -> list[str]:
    """Writes documents where they are committed, their commands without folders of this machine.

    Returns:
      The files, from the checkout's root.

    Raises:
      TableError: a file there is of another split, or two of the documents go to one file.
    """
    goals: dict[str, Document] = {}
    for document in documents:
        path = tables.commit_path(document)
        if path in goals:
            raise TableError(f"{path}: expected one run for each file, got two.")
        if (checkout / path).exists():
            kept = _document(epath.Path(checkout / path))["split"]
            if kept != document["split"]:
                raise TableError(
                    f"{path} holds scores on {kept}, the run has {document['split']}: expected "
                    "the same split. Delete that file if this run is to take its place."
                )
        goals[path] = document
    for path, document in goals.items():
        command = tables.portable_command(document["command"])
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        report.write_json(checkout / path, {**document, "command": command})
    return list(goals)


def pages(checkout: Path) -> dict[str, str]:
    """The text of each of `PAGES` as the committed results make it.

    Raises:
      TableError: a page has no place for them, or a committed file is no metrics.json.
    """
    documents = [_document(path) for path in _files(epath.Path(checkout / KEPT_RESULTS))]
    made = {}
    for name, shown in PAGES.items():
        text = (checkout / name).read_text(encoding="utf-8")
        try:
            made[name] = table_formats.with_results(text, documents, shown)
        except TableError as error:
            raise TableError(f"{name}: {error}") from error
    return made


def write_pages(checkout: Path) -> None:
    """Writes what `pages` gives; a file takes its name once it is whole."""
    for name, text in pages(checkout).items():
        partial = checkout / f"{name}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(checkout / name)


def run() -> None:
    """The command line; a user's mistake ends in one message, not in a traceback."""
    logging.set_verbosity(logging.WARNING)  # libraries' own news; ours is printed
    app.run(main)


if __name__ == "__main__":
    run()
