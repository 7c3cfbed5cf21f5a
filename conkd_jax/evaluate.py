"""Scores a trained run on a split, or the responses of any system.

    python -m conkd_jax.evaluate --workdir=RUN --split=test
    python -m conkd_jax.evaluate --predictions=FILE --out=DIR --graph=CORPUS

With --workdir, the system is that of the run's config. Nothing is trained. If the official test
file was added after the training, only a corpus with the test split is built.

With --predictions, only a predictions.jsonl is read; docs/metrics.md describes the file and its
optional fields. --out is the folder for metrics.json and figures. --graph is a corpus (for a run,
RUN/artifacts/corpus), which some metrics need. --refill=first or --refill=in_order replaces the
items in the responses with the recommender's before scoring, as in the paper's Appendix D, and
also writes these responses to --out.
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
    "workdir", "", "The run to score: a folder written by conkd_jax.train.", flag_values=OPTIONS
)
_SPLIT = flags.DEFINE_enum(
    "split",
    "valid",
    SPLITS,
    "The split to score; with --predictions, the split of the responses.",
    flag_values=OPTIONS,
)
_PREDICTIONS = flags.DEFINE_string(
    "predictions", "", "A predictions.jsonl to score.", flag_values=OPTIONS
)
_OUT = flags.DEFINE_string(
    "out", "", "With --predictions: the folder for metrics.json and figures.", flag_values=OPTIONS
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
    "With --predictions: replace the items with the recommender's before scoring.",
    flag_values=OPTIONS,
)


def main(argv: list[str]) -> None:
    """Scores a run of this project, or the predictions of any system."""
    if bool(_PREDICTIONS.value) == bool(_WORKDIR.value):
        raise UsageError(
            "expected one of --workdir=RUN, a folder written by conkd_jax.train, and "
            "--predictions=FILE, the responses of any system (docs/metrics.md)."
        )
    if _PREDICTIONS.value:
        score_file()
        return
    for option in (_OUT, _GRAPH, _REFILL):
        if option.value:
            raise UsageError(
                f"--{option.name} needs --predictions; a run has its own folder and corpus."
            )
    score_run(Run.open(_WORKDIR.value, _SPLIT.value))


def score_run(run: Run) -> None:
    """Evaluates a trained run on its split, and writes the results into RUN/<split>."""
    run.expect_trained()
    ensure(run.stages["evaluation"], run.config.artifacts_dir)
    if parallel.is_first_process():
        folder = run.home / run.split
        document = write_run_folder(
            folder, run.config, run.name, run.stages, " ".join(sys.argv), run.overrides
        )
        command_line.show(
            summary_table(document, run.paper_row), f"Results of this evaluation: {folder}"
        )


def score_file() -> None:
    """Scores the predictions; prints a summary and the metrics left out; writes the folder."""
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
        command_line.show(f"Results of this evaluation: {_OUT.value}")


def refilled(path: epath.PathLike, rule: str) -> epath.Path:
    """Writes the refilled predictions into the folder --out; returns their file.

    Raises:
      UsageError: --out is missing, or is the folder of the predictions.
      PredictionError: the file is not a predictions.jsonl, or lacks a field that refilling needs.
    """
    goal = epath.Path(_OUT.value or ".") / PREDICTIONS
    if not _OUT.value or goal.resolve() == epath.Path(path).resolve():
        raise UsageError(
            f"--refill writes responses: expected --out with another folder than that of the "
            f"predictions, got {_OUT.value or 'none'}. For example --out=scored/refilled"
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
    """Runs the command line."""
    command_line.run(main, OPTIONS, joins_processes=True)


if __name__ == "__main__":
    run()
