"""Measures how systems rank and name items that no training text names.

    python -m conkd_jax.cold_items RUN…
    python -m conkd_jax.cold_items RUN… --json=FILE.json --figure=FILE.png --page=FILE.md

Reads finished runs on one split of one corpus, and their recommenders; nothing is trained or
decoded. Prints hit@50 by how often training text names an item, once among all items and once
among the items of the same group; how much room cold items have in lists and in responses; and
what would change if cold items as a group were scored higher. docs/cold_items.md shows the result
on ReDial, docs/metrics.md explains each number.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags
from etils import epath

from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.eval.cold_items.document import ColdItemAnalysis
from conkd_jax.eval.cold_items.figure import draw_cold_items
from conkd_jax.eval.cold_items.groups import item_groups, training_splits
from conkd_jax.eval.cold_items.report import expect_marks, page_with_tables, summary, tables_of
from conkd_jax.eval.cold_items.said import said
from conkd_jax.eval.tables.comparison_file import system_identity
from conkd_jax.eval.tables.documents import portable_command, write_document
from conkd_jax.eval.tables.table import TableError
from conkd_jax.io.files import write_whole
from conkd_jax.runs.document import machine
from conkd_jax.runs.finished import SPLITS, Run, RunError
from conkd_jax.runtime import parallel
from conkd_jax.stages.systems.item_steps import language_model_steps, recommender_steps

RECOMMENDER = "recommender"
WIDTH = 80  # of the printed sentence

OPTIONS = flags.FlagValues()
_SPLIT = flags.DEFINE_enum(
    "split",
    None,
    SPLITS,
    "The split; it must have been evaluated. If not given: that of the first run.",
    flag_values=OPTIONS,
)
_JSON = flags.DEFINE_string(
    "json", "", "Also write all numbers into this JSON file, to be committed.", flag_values=OPTIONS
)
_FIGURE = flags.DEFINE_string(
    "figure", "", "Also draw the two curves into this PNG file.", flag_values=OPTIONS
)
_PAGE = flags.DEFINE_string(
    "page",
    "",
    "Also write the tables into this Markdown file, between its two marks.",
    flag_values=OPTIONS,
)


def main(argv: list[str]) -> None:
    """Prints the analysis of the runs, and writes the files that are asked for."""
    if len(argv) < 2:
        raise UsageError("expected runs: folders written by conkd_jax.train.")
    if _PAGE.value:
        read_page(_PAGE.value)
    document = analysis_of(open_runs(argv[1:], _SPLIT.value), command=" ".join(sys.argv))
    if not parallel.is_first_process():
        return
    if _JSON.value:
        write_document(_JSON.value, document)
    if _FIGURE.value:
        draw_cold_items(document, _FIGURE.value)
    if _PAGE.value:
        write_whole(_PAGE.value, page_with_tables(read_page(_PAGE.value), document))
    command_line.show(textwrap.fill(summary(document), WIDTH), *tables_of(document))


def read_page(path: epath.PathLike) -> str:
    """The Markdown of a page that has a place for the tables.

    Raises:
      UsageError: there is no such page, or no place in it.
    """
    if not epath.Path(path).is_file():
        raise UsageError(f"--page={path}: expected a Markdown file with two marks; found no file.")
    page = epath.Path(path).read_text()
    try:
        expect_marks(page)
    except TableError as error:
        raise UsageError(f"--page={path}: {error}") from error
    return page


def open_runs(folders: Sequence[epath.PathLike], split: str | None) -> dict[str, Run]:
    """Opens runs on one split, by name; the split of the first run if none is given.

    Raises:
      RunError: a folder holds no run, or the runs don't share a corpus, a split and its responses.
    """
    first = Run.open(folders[0], split)
    runs = [first, *(Run.open(folder, first.split) for folder in folders[1:])]
    name = "scored_corpus" if "scored_corpus" in first.inputs else "corpus"
    for folder, run in zip(folders, runs, strict=True):
        ours, theirs = first.inputs[name].fingerprint, run.inputs[name].fingerprint
        if ours != theirs:
            raise RunError(
                f"{folder}: expected a run on corpus {ours}, as {folders[0]} is, got one on "
                f"{theirs}. Give runs of one corpus and one split"
            )
    return dict(zip(system_names(runs), runs, strict=True))


def system_names(runs: Sequence[Run]) -> list[str]:
    """The shortest names that tell runs apart: config, label, or folder.

    Raises:
      RunError: two runs lie in folders of one name.
    """
    for names in (
        [run.name.rpartition("/")[2] for run in runs],
        [run.label for run in runs],
        [run.home.resolve().name for run in runs],
    ):
        if len({*names, RECOMMENDER}) == len(names) + 1:
            return names
    raise RunError(f"expected runs in folders of different names, got {', '.join(names)}.")


def analysis_of(runs: Mapping[str, Run], *, command: str) -> dict[str, Any]:
    """The document of the analysis of some runs and of their recommenders.

    Args:
      runs: runs on one split of one corpus, by name.
      command: the command that was run.

    Raises:
      RunError: an artifact or the predictions of a run are missing.
    """
    first = next(iter(runs.values()))
    corpus, split = first.corpus, first.split
    groups = item_groups(corpus)
    cold = {*corpus.items.item_ids[groups[0].members].tolist()}
    recommenders: dict[str, dict[str, Any]] = {}
    systems, analysis = [], None
    for name, run in runs.items():
        steps = language_model_steps(run.system, split)
        of_recommender = recommender_steps(run.system, split, steps)
        if analysis is None:
            keys = run.system.rows_of(corpus.dialogues(split)).response_keys
            analysis = ColdItemAnalysis(groups, keys, of_recommender.gold)
        fingerprint = run.inputs["rec_teacher"].fingerprint
        if fingerprint not in recommenders:
            title = f"{RECOMMENDER} of {name}" if recommenders else RECOMMENDER
            identity = {"name": title, "artifact": fingerprint, "of": name}
            recommenders[fingerprint] = analysis.of_system(identity, of_recommender, None)
        identity = system_identity(name, run.predictions_file, run.metrics)
        systems.append(analysis.of_system(identity, steps, said(run.predictions(), cold)))
    facts = {
        "split": split,
        "preset": first.config.preset,
        "corpus": first.inputs["corpus"].fingerprint,
        "training_splits": list(training_splits(corpus)),
    }
    assert analysis is not None  # there is a run
    return analysis.document(
        [*recommenders.values(), *systems],
        facts=facts,
        command=portable_command(command),
        machine=machine(),
    )


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS, positional="RUN…")


if __name__ == "__main__":
    run()
