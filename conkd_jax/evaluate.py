"""Scores a trained run on a split, or the responses of any system.

    python -m conkd_jax.evaluate --workdir=RUN --split=test
    python -m conkd_jax.evaluate --predictions=FILE --out=DIR --graph=CORPUS

With --workdir the run's own config says which system it is. Nothing is trained; if the file of the
split arrived after the training, as the official test file may, only the corpus that holds it is
built anew.

With --predictions, a predictions.jsonl is all that is read of the system: docs/metrics.md describes
the file and says which of its fields are optional. --out names a folder for metrics.json and
figures; --graph names a corpus (that of a run is RUN/artifacts/corpus) for what the file can't
hold. --refill=first or --refill=in_order scores the responses after the recommender's items have
been put into their slots, as in the paper's Appendix D; --out then also gets those responses.
"""

from __future__ import annotations

import sys

from absl import flags
from etils import epath

from conkd_jax import command_line, parallel
from conkd_jax.artifacts.build import ensure
from conkd_jax.command_line import UsageError
from conkd_jax.data.corpus import Corpus
from conkd_jax.eval.any_system import score_predictions, write_scored
from conkd_jax.eval.metrics import refilling
from conkd_jax.eval.predictions import PredictionError, read_predictions, write_predictions
from conkd_jax.eval.tables.beside import paper_row_beside
from conkd_jax.eval.tables.summary import summary_table
from conkd_jax.run import PREDICTIONS, SPLITS, Run
from conkd_jax.run_folder import machine, write_run_folder

OPTIONS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "The run to score: a folder that conkd_jax.train left.", flag_values=OPTIONS
)
_SPLIT = flags.DEFINE_enum(
    "split",
    "valid",
    SPLITS,
    "The split to score, or the split that --predictions answers.",
    flag_values=OPTIONS,
)
_PREDICTIONS = flags.DEFINE_string(
    "predictions", "", "A predictions.jsonl to score.", flag_values=OPTIONS
)
_OUT = flags.DEFINE_string(
    "out", "", "With --predictions: where metrics.json and figures go.", flag_values=OPTIONS
)
_GRAPH = flags.DEFINE_string(
    "graph",
    "",
    "With --predictions: a corpus, for 2-hop relevance, coverage and popularity.",
    flag_values=OPTIONS,
)
_REFILL = flags.DEFINE_enum(
    "refill",
    None,
    refilling.RULES,
    "With --predictions: put the recommender's items into the responses first.",
    flag_values=OPTIONS,
)


def main(argv: list[str]) -> None:
    """Scores a run of this project, or anybody's file of predictions."""
    if bool(_PREDICTIONS.value) == bool(_WORKDIR.value):
        raise UsageError(
            "name one of --workdir=RUN, the run to score (expected a folder that conkd_jax.train "
            "left), and --predictions=FILE, the responses of any system (docs/metrics.md)."
        )
    if _PREDICTIONS.value:
        score_file()
        return
    for option in (_OUT, _GRAPH, _REFILL):
        if option.value:
            raise UsageError(
                f"--{option.name} goes with --predictions; a run has its own folder and corpus."
            )
    score_run(Run.open(_WORKDIR.value, _SPLIT.value))


def score_run(run: Run) -> None:
    """Makes the evaluation of the split from what was trained, and writes it beside the run."""
    run.expect_trained()
    ensure(run.stages["evaluation"], run.config.artifacts_dir)
    if parallel.is_first_process():
        folder = run.home / run.split
        document = write_run_folder(
            folder, run.config, run.name, run.stages, command=" ".join(sys.argv)
        )
        command_line.show(
            summary_table(document, run.paper_row), f"Everything of this evaluation: {folder}"
        )


def score_file() -> None:
    """Scores the predictions, prints a summary and what is left out, and writes the folder."""
    corpus = Corpus.open(_GRAPH.value) if _GRAPH.value else None
    scored = score_predictions(
        refilled(_PREDICTIONS.value, _REFILL.value) if _REFILL.value else _PREDICTIONS.value,
        split=_SPLIT.value,
        corpus=corpus,
        command=" ".join(sys.argv),
        machine=machine(),
    )
    command_line.show(summary_table(scored.document, paper_row_beside(scored.document)))
    if scored.left_out:
        command_line.show(f"Left out: {'; '.join(scored.left_out)}.")
    if _OUT.value:
        write_scored(scored, _OUT.value)
        command_line.show(f"Everything of this evaluation: {_OUT.value}")


def refilled(path: epath.PathLike, rule: str) -> epath.Path:
    """Writes the predictions, refilled, into the folder that --out names.

    Raises:
      UsageError: --out is missing, or names the folder of the predictions.
      PredictionError: the file is no predictions.jsonl, or lacks what refilling needs.
    """
    goal = epath.Path(_OUT.value or ".") / PREDICTIONS
    if not _OUT.value or goal.resolve() == epath.Path(path).resolve():
        raise UsageError(
            f"--refill writes responses: expected a folder of their own as --out, got "
            f"{_OUT.value or 'none'}. For example --out=scored/refilled"
        )
    goal.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_predictions(goal, (refilling.refill(one, rule) for one in read_predictions(path)))
    except PredictionError:
        raise
    except ValueError as error:
        raise PredictionError(f"{path}: {error}") from error
    return goal


def run() -> None:
    """The command line."""
    command_line.run(main, OPTIONS, joins_processes=True)


if __name__ == "__main__":
    run()
