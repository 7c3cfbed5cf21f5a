"""Prints scored runs as the paper's tables, compares two runs, and updates docs/results.

    python -m conkd_jax.tables --table=2 runs/dialogpt_hard-mini-seed0 --format=markdown
    python -m conkd_jax.tables --table=5 docs/results/mini --figure=ladder.png
    python -m conkd_jax.tables --table=7 runs/dialogpt-mini-seed0 runs/dialogpt_hard-mini-seed0
    python -m conkd_jax.tables --compare runs/dialogpt-mini-seed0 runs/dialogpt_hard-mini-seed0
    python -m conkd_jax.tables --compare --over=trainings runs/dialogpt-mini-* runs/kgsf-mini-*
    python -m conkd_jax.tables --curves runs/dialogpt_hard+* --json=curves.json --figure=curves.png
    python -m conkd_jax.tables --said docs/results/mini --json=said.json --figure=said.png
    python -m conkd_jax.tables --keep runs/dialogpt_hard-mini-seed0
    python -m conkd_jax.tables --pages

A run is a metrics.json, a folder written by conkd_jax.train or conkd_jax.evaluate, or a folder that
contains several of them at any depth. Tables 7 and 9 (which are the same) and `--compare` read
predictions.jsonl, given as a run's folder or as a file. `--compare --over=trainings` takes several
trainings of two rows and compares their metrics with a t-test paired by seed. `--curves` shows the
dev scores of trainings over their epochs: where NLL and hit@50 turn, and whether hit@50 still rises
at the end. `--said` shows how much of what its recommender knows each system says: ReR@10 over
R@10. `--json` writes a comparison, the points of curves or the numbers of `--said` into a file.
`--figure` draws the table, the comparison, the curves or `--said`. `--keep` copies a run's
metrics.json into docs/results/ of this checkout; `--pages` rewrites the tables of README.md,
docs/results.md and docs/systems.md from the runs that are kept there.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from absl import flags
from etils import epath

from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.config.files import HOME, IS_CHECKOUT
from conkd_jax.eval.predictions import read_predictions
from conkd_jax.eval.tables.build import build_table, build_tables
from conkd_jax.eval.tables.comparison_file import comparison_document
from conkd_jax.eval.tables.curves import (
    curves_document,
    curves_summary,
    draw_curves,
    read_curves,
    with_and_without_curves,
    without_curves,
)
from conkd_jax.eval.tables.documents import (
    keep_documents,
    portable_command,
    read_documents,
    write_document,
)
from conkd_jax.eval.tables.figures import draw_table
from conkd_jax.eval.tables.formats import table_as_latex, table_as_markdown
from conkd_jax.eval.tables.layouts import LAYOUTS
from conkd_jax.eval.tables.pages import PAGES, write_pages
from conkd_jax.eval.tables.paired import comparison_table, draw_both, paired_test
from conkd_jax.eval.tables.said import draw_said, said_document, said_of_known
from conkd_jax.eval.tables.samples import (
    samples_as_latex,
    samples_as_markdown,
    samples_for_terminal,
    samples_side_by_side,
)
from conkd_jax.eval.tables.table import ResultTable, TableError
from conkd_jax.eval.tables.trainings import compare_trainings
from conkd_jax.runs.document import machine
from conkd_jax.runs.finished import open_answers

CHECKOUT = HOME  # whose docs are written; only where there is one
FORMATS = ("terminal", "markdown", "latex")
SAMPLE_TABLES = ("7", "9")  # the paper shows sample responses in two places
NUM_SAMPLES = 5

OPTIONS = flags.FlagValues()
_TABLE = flags.DEFINE_string(
    "table",
    "",
    f"The table to print: {', '.join((*LAYOUTS, *SAMPLE_TABLES))}. 7 and 9 show sample responses.",
    flag_values=OPTIONS,
)
_COMPARE = flags.DEFINE_bool(
    "compare", False, "Compare two runs with a paired test.", flag_values=OPTIONS
)
_OVER = flags.DEFINE_enum(
    "over",
    "dialogues",
    ("dialogues", "trainings"),
    "What --compare pairs: the dialogues of two runs, or the trainings of two rows, by seed.",
    flag_values=OPTIONS,
)
_CURVES = flags.DEFINE_bool(
    "curves", False, "Show the dev scores of trainings over their epochs.", flag_values=OPTIONS
)
_SAID = flags.DEFINE_bool(
    "said",
    False,
    "Show ReR@10 of systems over their recommenders' R@10.",
    flag_values=OPTIONS,
)
_JSON = flags.DEFINE_string(
    "json",
    "",
    "With --compare, --curves or --said: also write what is shown, unrounded, into this JSON file, "
    "to be committed.",
    flag_values=OPTIONS,
)
_FORMAT = flags.DEFINE_enum(
    "format", "terminal", FORMATS, "The format of the table.", flag_values=OPTIONS
)
_FIGURE = flags.DEFINE_string(
    "figure",
    "",
    "Also draw the table, the comparison, the curves or --said into this PNG file.",
    flag_values=OPTIONS,
)
_INTERVALS = flags.DEFINE_bool(
    "intervals",
    None,
    "Show 95 % intervals in rows of one run; by default in every table but --table=short.",
    flag_values=OPTIONS,
)
_KEEP = flags.DEFINE_bool(
    "keep",
    False,
    "Copy the runs' metrics.json into docs/results/, to be committed.",
    flag_values=OPTIONS,
)
_PAGES = flags.DEFINE_bool(
    "pages",
    False,
    f"Rewrite the tables of {', '.join(PAGES)} from docs/results/.",
    flag_values=OPTIONS,
)


def main(argv: list[str]) -> None:
    """Prints a table, compares runs, keeps runs, or rewrites pages."""
    runs = argv[1:]
    _check_options(runs)
    if (_PAGES.value or _KEEP.value) and not IS_CHECKOUT:
        raise UsageError(
            "--keep and --pages write into the docs of a checkout, and this package was installed "
            "without one. Run them with the Python of a checkout's environment."
        )
    if _PAGES.value:
        write_pages(CHECKOUT)
    elif _KEEP.value:
        command_line.show(*keep_documents(read_documents(runs), CHECKOUT))
    elif _COMPARE.value and _OVER.value == "trainings":
        show_trainings(runs)
    elif _COMPARE.value:
        show_comparison({name: answers.file for name, answers in open_answers(runs).items()})
    elif _CURVES.value:
        show_curves(runs)
    elif _SAID.value:
        show_said(runs)
    elif _TABLE.value in SAMPLE_TABLES:
        show_samples(runs, _FORMAT.value)
    else:
        documents = read_documents(runs)
        tables = build_tables(_TABLE.value, documents, intervals=_INTERVALS.value)
        for number, table in enumerate(tables):
            if number:
                command_line.show("")  # ends a table of Markdown
            show_table(table, _FORMAT.value)
        if _FIGURE.value:
            draw_table(build_table(_TABLE.value, documents), _FIGURE.value)


def _check_options(runs: Sequence[str]) -> None:
    shown = (bool(_TABLE.value), _COMPARE.value, _CURVES.value, _SAID.value)
    if sum((*shown, _KEEP.value, _PAGES.value)) != 1:
        raise UsageError(
            "expected one of --table=NAME, --compare, --curves, --said, --keep and --pages."
        )
    if _PAGES.value and runs:
        raise UsageError("--pages takes no runs; it reads those in docs/results/.")
    if not _PAGES.value and not runs:
        raise UsageError("expected runs: metrics.json files, folders of runs, or folders of them.")
    has_file = _COMPARE.value or _CURVES.value or _SAID.value
    if _JSON.value and not has_file:
        raise UsageError(
            "--json needs --compare, --curves or --said: it is the file that these are written to."
        )
    if _OVER.value == "trainings" and (not _COMPARE.value or _FIGURE.value):
        raise UsageError("--over=trainings needs --compare, and has no --figure.")
    if _FIGURE.value and not (has_file or _TABLE.value in LAYOUTS):
        raise UsageError("--figure needs a --table of numbers, --compare, --curves or --said.")


def show_comparison(files: Mapping[str, epath.Path]) -> None:
    """Compares two runs, writes the file and the figure that are asked for, and prints a table."""
    test = paired_test(files)
    if _JSON.value:
        document = comparison_document(test, files, command=" ".join(sys.argv), machine=machine())
        write_document(_JSON.value, document)
    if _FIGURE.value:
        draw_both(files, _FIGURE.value)
    table = comparison_table(test.names, test.comparisons, paired_over=test.paired_over)
    show_table(table, _FORMAT.value)


def show_trainings(runs: Sequence[str]) -> None:
    """Compares two rows over their trainings, writes the file that is asked for, prints a table."""
    test = compare_trainings(read_documents(runs))
    if _JSON.value:
        write_document(_JSON.value, test.document(command=portable_command(" ".join(sys.argv))))
    table = comparison_table(test.names, test.comparisons, paired_over=test.paired_over)
    show_table(table, _FORMAT.value)


def show_curves(runs: Sequence[str]) -> None:
    """Prints where the dev scores of runs turn; writes the files that are asked for.

    Runs without dev scores are named below, and the others are shown.

    Raises:
      TableError: no run has any.
    """
    found, others = with_and_without_curves(read_documents(runs))
    if not found:
        raise TableError(
            "expected runs with dev scores, got none\n" + "\n".join(without_curves(others))
        )
    curves = read_curves(found)
    if _JSON.value:
        command = portable_command(" ".join(sys.argv))
        write_document(_JSON.value, curves_document(curves, command=command))
    if _FIGURE.value:
        draw_curves(curves, _FIGURE.value, title="Dev scores of trainings")
    command_line.show(*curves_summary(curves))
    if others:
        command_line.show("", *without_curves(others))


def show_said(runs: Sequence[str]) -> None:
    """Prints Table 1, and writes its ReR@10 over R@10 into the files that are asked for."""
    documents = read_documents(runs)
    said = said_of_known(documents)
    if _JSON.value:
        command = portable_command(" ".join(sys.argv))
        write_document(_JSON.value, said_document(said, documents, command=command))
    if _FIGURE.value:
        draw_said(said, _FIGURE.value)
    show_table(build_table("1", documents), _FORMAT.value)


def show_table(table: ResultTable, form: str) -> None:
    """Prints a table in one of `FORMATS`."""
    if form == "terminal":
        command_line.show(table)
    else:
        written = {"markdown": table_as_markdown, "latex": table_as_latex}[form]
        command_line.show(written(table).rstrip("\n"))


def show_samples(runs: Sequence[str], form: str) -> None:
    """Prints responses of the runs to the same histories, in one of `FORMATS`."""
    found = open_answers(runs)
    systems = {name: list(read_predictions(answers.file)) for name, answers in found.items()}
    titles = {item: title for each in found.values() for item, title in each.titles.items()}
    try:
        chosen, total = samples_side_by_side(systems, num_samples=NUM_SAMPLES, with_items=True)
    except ValueError as error:
        raise TableError(str(error)) from error
    if form == "terminal":
        command_line.show(
            samples_for_terminal(chosen, titles),
            f"{len(chosen)} of {total:,} responses with an item, spread over the split.",
        )
    else:
        written = {"markdown": samples_as_markdown, "latex": samples_as_latex}[form]
        command_line.show(written(chosen, titles).rstrip("\n"))


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS, positional="RUN…")


if __name__ == "__main__":
    run()
