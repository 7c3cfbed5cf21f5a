"""Scores a trained run on a split, or the responses of any system.

    python -m conkd_jax.evaluate --workdir=RUN --split=test
    python -m conkd_jax.evaluate --workdir=RUN --split=inspired_dev
    python -m conkd_jax.evaluate --workdir=RUN --match_rate
    python -m conkd_jax.evaluate --template --split=test --graph=RUN --out=FILE
    python -m conkd_jax.evaluate --predictions=FILE --graph=RUN --out=DIR
    python -m conkd_jax.evaluate --convert=unicrs --predictions=THEIRS --split=… --graph=… --out=…

With --workdir, the system is that of the run's config. Nothing is trained. If the official test
file was added after the training, only a corpus with the test split is built. The splits
inspired_dev and inspired_test are dialogues of INSPIRED, which no run was trained on: they are read
from its files, and its movies are matched with those of the run. --match_rate decodes
with a constant added to the logits of items, chosen on dev such that responses name as many items
as the references do (or --rate), and writes the results into the folder rate_matched of the run.

With --template, a predictions.jsonl is written that holds the contexts and references of a split;
other systems fill in `generated` and `generated_items`. Where items have text ids, these may be
filled in; with --graph they are read, and --out has the file with numbers and ids.

With --predictions, only a predictions.jsonl is read; docs/metrics.md describes the file and its
optional fields. --out is the folder for metrics.json and figures. --graph is a corpus, or a run
with one, which some metrics need; with it, the file is checked against its split. --refill=first or
--refill=in_order replaces the items in the responses with the recommender's before scoring, as in
the paper's Appendix D, and also writes these responses to --out.

With --convert, --predictions is a file of another toolkit, which becomes a predictions.jsonl.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator

from absl import flags
from etils import epath

from conkd_jax.artifacts.build import ensure
from conkd_jax.artifacts.numerics import pin_threads
from conkd_jax.artifacts.rebuild import remove
from conkd_jax.artifacts.stage import Stage
from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.data.corpus import Corpus
from conkd_jax.eval import convert
from conkd_jax.eval.any_system import score_predictions, split_of, write_scored
from conkd_jax.eval.metrics import refilling
from conkd_jax.eval.own_ids import OwnIds
from conkd_jax.eval.predictions import PredictionError, read_predictions, write_predictions
from conkd_jax.eval.system_files import open_corpus
from conkd_jax.eval.tables.beside import paper_row_beside
from conkd_jax.eval.tables.paper import ROW_NAMES, SYSTEMS
from conkd_jax.eval.tables.summary import summary_table
from conkd_jax.eval.template import write_template
from conkd_jax.io.files import absolute
from conkd_jax.io.integrity import DamagedError
from conkd_jax.runs.document import machine
from conkd_jax.runs.finished import PREDICTIONS, RATE_MATCHED_FOLDER, SPLITS, Run
from conkd_jax.runs.folder import write_run_folder
from conkd_jax.runtime import parallel
from conkd_jax.stages.systems.rate_matching import match_rate

OPTIONS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "The run to score: a folder written by conkd_jax.train.", flag_values=OPTIONS
)
_SPLIT = flags.DEFINE_enum(
    "split",
    None,
    SPLITS,
    "The split to score: by default valid with --workdir, and what the file records with "
    "--predictions.",
    flag_values=OPTIONS,
)
_PREDICTIONS = flags.DEFINE_string(
    "predictions", "", "A predictions.jsonl to score.", flag_values=OPTIONS
)
_OUT = flags.DEFINE_string(
    "out",
    "",
    "With --predictions: the folder for metrics.json and figures. With --template and --convert: "
    "the file to write.",
    flag_values=OPTIONS,
)
_GRAPH = flags.DEFINE_string(
    "graph",
    "",
    "A corpus, or a run with one: for the responses of the split, 2-hop relevance, coverage and "
    "popularity.",
    flag_values=OPTIONS,
)
_PAPER_ROW = flags.DEFINE_string(
    "paper_row",
    "",
    f"With --predictions: the paper's row to stand beside the system, one of {', '.join(SYSTEMS)}.",
    flag_values=OPTIONS,
)
_PARTIAL = flags.DEFINE_boolean(
    "partial",
    False,
    "With --predictions: responses of the split may be missing from the file.",
    flag_values=OPTIONS,
)
_TEMPLATE = flags.DEFINE_boolean(
    "template",
    False,
    "Writes the responses of a split for systems to fill in.",
    flag_values=OPTIONS,
)
_CONVERT = flags.DEFINE_enum(
    "convert",
    None,
    convert.FORMATS,
    "With --predictions: the toolkit that wrote the file, to make a predictions.jsonl of it.",
    flag_values=OPTIONS,
)
_RANKINGS = flags.DEFINE_string(
    "rankings",
    "",
    "With --convert: the recommender's best items, a JSON list of ids or titles on each line.",
    flag_values=OPTIONS,
)
_REFILL = flags.DEFINE_enum(
    "refill",
    None,
    refilling.RULES,
    "With --predictions: replace the items with the recommender's before scoring.",
    flag_values=OPTIONS,
)
_MATCH_RATE = flags.DEFINE_bool(
    "match_rate",
    False,
    "With --workdir: name as many items as the references, by an offset chosen on dev.",
    flag_values=OPTIONS,
)
_RATE = flags.DEFINE_float(
    "rate",
    None,
    "With --match_rate: items per response to aim at, instead of dev's references.",
    flag_values=OPTIONS,
)
_REBUILD = flags.DEFINE_bool(
    "rebuild",
    False,
    "With --workdir: make the evaluation, and the corpus with the test split, anew.",
    flag_values=OPTIONS,
)


def main(argv: list[str]) -> None:
    """Scores a run or the predictions of any system, or writes a file of predictions."""
    if sum(map(bool, (_PREDICTIONS.value, _WORKDIR.value, _TEMPLATE.value))) != 1:
        raise UsageError(
            "expected one of --workdir=RUN, a folder written by conkd_jax.train, "
            "--predictions=FILE, the responses of any system, and --template (docs/metrics.md)."
        )
    _expect_options()
    if _TEMPLATE.value or _CONVERT.value:
        write_file()
    elif _PREDICTIONS.value:
        score_file()
    else:
        run = Run.open(_WORKDIR.value, _SPLIT.value or "valid")
        with explaining_damage(run):
            if _MATCH_RATE.value:
                score_at_rate(run, _RATE.value)
            else:
                score_run(run)


def _expect_options() -> None:
    """Checks that the options belong to what is to be done.

    Raises:
      UsageError: one of them does not, or one that is needed is missing.
    """
    writes = bool(_TEMPLATE.value or _CONVERT.value)
    for option in (_OUT, _GRAPH, _REFILL, _PAPER_ROW, _PARTIAL, _CONVERT):
        is_written = _TEMPLATE.value and option.name in ("graph", "out")
        if option.value and not _PREDICTIONS.value and not is_written:
            reason = "" if _TEMPLATE.value else "; a run has its own folder and corpus"
            raise UsageError(f"--{option.name} needs --predictions{reason}.")
    for option in (_REFILL, _PAPER_ROW, _PARTIAL):
        if option.value and writes:
            raise UsageError(f"--{option.name} is for scoring: score the file that is written.")
    if _MATCH_RATE.value and not _WORKDIR.value:
        raise UsageError("--match_rate needs --workdir: it generates the responses again.")
    if _RATE.value is not None and not _MATCH_RATE.value:
        raise UsageError("--rate needs --match_rate.")
    if _REBUILD.value and not _WORKDIR.value:
        raise UsageError("--rebuild needs --workdir: only artifacts of a run are made anew.")
    if _RANKINGS.value and not _CONVERT.value:
        raise UsageError("--rankings needs --convert.")
    missing = [option.name for option in (_SPLIT, _GRAPH, _OUT) if not option.value]
    if writes and missing:
        program = "--template" if _TEMPLATE.value else "--convert"
        raise UsageError(
            f"{program} needs {', '.join(f'--{name}' for name in missing)}: the split, a corpus or "
            "a run that holds it, and the file to write. For example --split=test "
            "--graph=runs/dialogpt_hard-demo-seed0 --out=test.jsonl"
        )
    if _PAPER_ROW.value and _PAPER_ROW.value not in ROW_NAMES:
        raise UsageError(
            f"--paper_row: expected one of {', '.join(ROW_NAMES)}; got {_PAPER_ROW.value!r}"
        )


def write_file() -> None:
    """Writes the template of a split, or another toolkit's responses, into the file --out."""
    split = _SPLIT.value or ""
    corpus = open_corpus(_GRAPH.value, split)
    goal = epath.Path(_OUT.value)
    if goal.is_dir():
        raise UsageError(f"--out: expected a file to write, got the folder {goal}")
    goal.parent.mkdir(parents=True, exist_ok=True)
    if _CONVERT.value:
        converted = convert.convert(
            _PREDICTIONS.value, _CONVERT.value, corpus, split, _RANKINGS.value or None
        )
        count = write_predictions(goal, converted, without=("predicted_turn_type",))
        command_line.show(f"{count:,} responses of {split}: {goal}")
    else:
        count = write_template(goal, corpus, split)
        command_line.show(
            f"{count:,} responses of {split}, to fill in 'generated' and 'generated_items': {goal}"
        )


def evaluate(stage: Stage, artifacts_dir: str) -> None:
    """Completes an evaluation; with --rebuild, what this program makes is made anew."""
    if _REBUILD.value:
        first = stage.inputs.get("scored_corpus", stage)
        remove([stage], artifacts_dir, f"{first.name}/{first.fingerprint}")
    ensure(stage, artifacts_dir)


@contextlib.contextmanager
def explaining_damage(run: Run) -> Iterator[None]:
    """Adds the command that mends it to the error of a damaged artifact.

    That is this command for what this program makes, and the command of the run for the rest.
    """
    try:
        with run.explaining_damage():
            yield
    except DamagedError as error:
        scored = run.inputs.get("scored_corpus")
        made_here = scored and error.folder == scored.directory(run.config.artifacts_dir)
        if error.folder is None or not (made_here or error.folder.parent.name == "evaluation"):
            raise
        mend = f"{command_line.this_command(without=('rebuild',))} --rebuild"
        raise DamagedError(error.what, error.folder, mend) from error


def score_run(run: Run) -> None:
    """Evaluates a trained run on its split, and writes the results into RUN/<split>."""
    run.expect_trained()
    if pinned := pin_threads(run.config.artifacts_dir, run.stages["evaluation"]):
        command_line.show(pinned)
    evaluate(run.stages["evaluation"], run.config.artifacts_dir)
    if parallel.is_first_process():
        folder = run.home / run.split
        document = write_run_folder(
            folder, run.config, run.name, run.stages, " ".join(sys.argv), run.overrides
        )
        command_line.show(
            summary_table(document, run.paper_row), f"Results of this evaluation: {folder}"
        )


def score_at_rate(run: Run, target: float | None = None) -> None:
    """Chooses an item offset on dev, evaluates with it, and writes into RUN/rate_matched.

    Args:
      run: the run, on the split to score.
      target: items per response to aim at; None for the rate of dev's references.
    """
    run.expect_trained()
    dev = Run.open(run.home, "dev")
    matched = match_rate(dev.stages["evaluation"].settings, dev.system, target)
    offset = {"decode.item_offset": matched.offset}
    moved = dataclasses.replace(run, config=run.config.replace(offset))
    evaluate(moved.stages["evaluation"], run.config.artifacts_dir)
    if parallel.is_first_process():
        folder = run.folder / RATE_MATCHED_FOLDER
        document = write_run_folder(
            folder,
            moved.config,
            run.name,
            moved.stages,
            " ".join(sys.argv),
            run.overrides,
            matched=matched,
        )
        command_line.show(
            summary_table(document, run.paper_row),
            f"Items per response: {matched.target:.3f} aimed at, {matched.dev_rate:.3f} on "
            f"{matched.num_responses} of dev ({matched.plain_dev_rate:.3f} without an offset), "
            f"{document['metrics']['items_per_response']:.3f} on {run.split}, with "
            f"{matched.offset:+.3f} added to the logits of items.",
            f"Results of this evaluation: {folder}",
        )


def score_file() -> None:
    """Scores the predictions; writes the folder; prints a summary and the metrics left out."""
    path = epath.Path(_PREDICTIONS.value)
    graph = _GRAPH.value
    split = split_of(path, _SPLIT.value or "", open_corpus(graph) if graph else None)
    corpus = open_corpus(graph, split) if graph else None
    scored = score_predictions(
        refilled(path, _REFILL.value, corpus) if _REFILL.value else path,
        split=split,
        corpus=corpus,
        is_partial=_PARTIAL.value,
        paper_row=_PAPER_ROW.value,
        command=" ".join(sys.argv),
        machine=machine(),
    )
    if _OUT.value:  # first, so that nothing is lost if printing fails
        write_scored(scored, _OUT.value)
        if corpus is not None and not _REFILL.value:
            write_with_ids(path, corpus, epath.Path(_OUT.value) / PREDICTIONS)
    command_line.show(summary_table(scored.document, paper_row_beside(scored.document)))
    for label, notes in (("Note", scored.notes), ("Left out", scored.left_out)):
        if notes:
            command_line.show(f"{label}: {'; '.join(notes)}.")
    if _OUT.value:
        command_line.show(f"Results of this evaluation: {_OUT.value}")


def write_with_ids(path: epath.PathLike, corpus: Corpus, goal: epath.Path) -> None:
    """Writes predictions with numbers and, beside them, ids, where a corpus has text ids."""
    ids = OwnIds(corpus.items)
    if ids and absolute(goal) != absolute(path):
        write_predictions(goal, map(ids.beside, read_predictions(path, ids.numbered)))


def refilled(path: epath.PathLike, rule: str, corpus: Corpus | None = None) -> epath.Path:
    """Writes the refilled predictions into the folder --out; returns their file.

    Args:
      path: the predictions.
      rule: one of `refilling.RULES`.
      corpus: for text ids in the file, or None.

    Raises:
      UsageError: --out is missing, or is the folder of the predictions.
      PredictionError: the file is not a predictions.jsonl, or lacks a field that refilling needs.
    """
    goal = epath.Path(_OUT.value or ".") / PREDICTIONS
    if not _OUT.value or absolute(goal) == absolute(path):
        raise UsageError(
            f"--refill writes responses: expected --out with another folder than that of the "
            f"predictions, got {_OUT.value or 'none'}. For example --out=scored/refilled"
        )
    goal.parent.mkdir(parents=True, exist_ok=True)
    try:
        ids = None if corpus is None else OwnIds(corpus.items)
        found = read_predictions(path, ids.numbered if ids else None)
        filled = (refilling.refill(one, rule) for one in found)
        write_predictions(goal, map(ids.beside, filled) if ids else filled)
    except PredictionError:
        raise
    except ValueError as error:
        raise PredictionError(f"{path}: {error}") from error
    return goal


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS, joins_processes=True)


if __name__ == "__main__":
    run()
