"""Scores a trained run on a split, or the responses of any system.

    python -m conkd_jax.evaluate --workdir=RUN --split=test
    python -m conkd_jax.evaluate --predictions=FILE --out=DIR --graph=CORPUS

With --workdir the run's own config says which system it is; nothing is trained. Where the split's
file came after the training (the official test file, say), only the corpus that holds it is built
anew.

With --predictions a predictions.jsonl is all that is read of the system: docs/metrics.md shows what
it holds and which of its fields are optional. --out names a folder for metrics.json and figures;
--graph names a corpus (of a run: RUN/artifacts/corpus) for what the file can't hold. With
--refill=first or in_order the responses are scored after the recommender's items have been put into
their slots, the paper's Appendix D; --out then also gets those responses.
"""

from __future__ import annotations

import sys

import rich.console
from absl import flags
from etils import epath

from conkd_jax import command_line, parallel, run_folder
from conkd_jax import config as conkd
from conkd_jax.artifacts import build as artifacts
from conkd_jax.data.corpus import Corpus
from conkd_jax.eval.any_system import score_predictions, write_scored
from conkd_jax.eval.metrics import refilling
from conkd_jax.eval.predictions import PredictionError, read_predictions, write_predictions
from conkd_jax.eval.tables.beside import paper_row_beside
from conkd_jax.eval.tables.summary import summary_table
from conkd_jax.stages import pipeline
from conkd_jax.stages.evaluation import PREDICTIONS

_SPLIT = flags.DEFINE_enum(
    "split", "valid", ["dev", "valid", "test"], "What to score, or what --predictions answer."
)
_PREDICTIONS = flags.DEFINE_string("predictions", "", "A predictions.jsonl to score.")
_OUT = flags.DEFINE_string(
    "out",
    "",
    "With --predictions: where metrics.json and figures go.",
    allow_override=True,  # conkd_jax.human has an --out of its own; tests import both
)
_GRAPH = flags.DEFINE_string(
    "graph", "", "With --predictions: a corpus, for 2-hop relevance, coverage and popularity."
)
_REFILL = flags.DEFINE_enum(
    "refill", None, refilling.RULES, "With --predictions: put the recommender's items in first."
)
flags.declare_key_flag("workdir")


def main(argv: list[str]) -> None:
    """One of two things: a run of this project, a file of anybody's."""
    if bool(_PREDICTIONS.value) == bool(command_line.WORKDIR.value):
        raise conkd.ConfigError(
            "name one of --workdir=RUN, the run to score (expected a folder that conkd_jax.train "
            "left), and --predictions=FILE, the responses of any system (docs/metrics.md)."
        )
    if _PREDICTIONS.value:
        score_file()
        return
    for flag in (_OUT, _GRAPH, _REFILL):
        if flag.value:
            raise conkd.ConfigError(
                f"--{flag.name} goes with --predictions; a run has its own folder and corpus."
            )
    score_run(epath.Path(command_line.WORKDIR.value))


def score_run(workdir: epath.Path) -> None:
    """Reads the run's config, makes the evaluation of the split, writes it beside the run."""
    config, name, _ = run_folder.read_record(workdir)
    stages = pipeline.build(config, split=_SPLIT.value)
    untrained = pipeline.untrained(stages, config.artifacts_dir)
    if untrained:
        raise conkd.ConfigError(
            f"{workdir} is of a run whose {', '.join(untrained)} can't be found in "
            f"{config.artifacts_dir}: expected finished artifacts. Run conkd_jax.train with its "
            "config first, from the same folder."
        )
    artifacts.ensure(stages["evaluation"], config.artifacts_dir)
    if parallel.is_first_process():
        folder = workdir / _SPLIT.value
        document = run_folder.write(folder, config, name, stages, command=" ".join(sys.argv))
        console = rich.console.Console()
        console.print(summary_table(document, run_folder.paper(config)))
        console.print(f"Everything of this evaluation: {folder}", soft_wrap=True)


def score_file() -> None:
    """Scores the predictions, prints the summary, says what is left out, writes the folder."""
    corpus = Corpus.open(_GRAPH.value) if _GRAPH.value else None
    scored = score_predictions(
        refilled(_PREDICTIONS.value, _REFILL.value) if _REFILL.value else _PREDICTIONS.value,
        split=_SPLIT.value,
        corpus=corpus,
        command=" ".join(sys.argv),
        machine=run_folder.machine(),
    )
    console = rich.console.Console()
    console.print(summary_table(scored.document, paper_row_beside(scored.document)))
    if scored.left_out:
        console.print(f"Left out: {'; '.join(scored.left_out)}.", soft_wrap=True)
    if _OUT.value:
        write_scored(scored, _OUT.value)
        console.print(f"Everything of this evaluation: {_OUT.value}", soft_wrap=True)


def refilled(path: epath.PathLike, rule: str) -> epath.Path:
    """Writes the predictions, refilled, into the folder that --out names.

    Raises:
      ConfigError: there is no such folder to write to, or it is the folder of the predictions.
      PredictionError: the file is no predictions.jsonl, or lacks what refilling needs.
    """
    goal = epath.Path(_OUT.value or ".") / PREDICTIONS
    if not _OUT.value or goal.resolve() == epath.Path(path).resolve():
        raise conkd.ConfigError(
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
    command_line.run(main)


if __name__ == "__main__":
    run()
