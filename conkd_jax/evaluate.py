"""Scores a trained run on a split, or the responses of any system.

    python -m conkd_jax.evaluate --workdir=RUN --split=test
    python -m conkd_jax.evaluate --predictions=FILE --out=DIR --graph=CORPUS

With --workdir the run's own config says which system it is; nothing is trained. Where the split's
file came after the training (the official test file, say), only the corpus that holds it is built
anew.

With --predictions a predictions.jsonl is all that is read of the system: docs/metrics.md shows what
it holds and which of its fields are optional. --out names a folder for metrics.json and figures;
--graph names a corpus (of a run: RUN/artifacts/corpus) for what the file can't hold.
"""

from __future__ import annotations

import json
import sys

import rich.console
from absl import flags
from etils import epath
from ml_collections import ConfigDict

from conkd_jax import command_line, parallel
from conkd_jax import config as conkd
from conkd_jax.data.corpus import Corpus
from conkd_jax.eval import any_system
from conkd_jax.eval.report import paper_beside, summary_table
from conkd_jax.stages import artifacts, pipeline, run_folder

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
    for flag in (_OUT, _GRAPH):
        if flag.value:
            raise conkd.ConfigError(
                f"--{flag.name} goes with --predictions; a run has its own folder and corpus."
            )
    score_run(epath.Path(command_line.WORKDIR.value))


def score_run(workdir: epath.Path) -> None:
    """Reads the run's config, makes the evaluation of the split, writes it beside the run."""
    config, name = read_config(workdir)
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
        console.print(summary_table(document, run_folder.paper(config, name)))
        console.print(f"Everything of this evaluation: {folder}", soft_wrap=True)


def score_file() -> None:
    """Scores the predictions, prints the summary, says what is left out, writes the folder."""
    corpus = Corpus.open(_GRAPH.value) if _GRAPH.value else None
    scored = any_system.score(
        _PREDICTIONS.value,
        split=_SPLIT.value,
        corpus=corpus,
        command=" ".join(sys.argv),
        machine=run_folder.machine(),
    )
    console = rich.console.Console()
    console.print(summary_table(scored.document, paper_beside(scored.document)))
    if scored.left_out:
        console.print(f"Left out: {'; '.join(scored.left_out)}.", soft_wrap=True)
    if _OUT.value:
        any_system.write(scored, _OUT.value)
        console.print(f"Everything of this evaluation: {_OUT.value}", soft_wrap=True)


def read_config(workdir: epath.Path) -> tuple[ConfigDict, str]:
    """The config and the name of a run.

    Raises:
      ConfigError: the folder holds no run, or one of another version.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise conkd.ConfigError(
            f"--workdir={workdir}: expected a folder that conkd_jax.train left, with config.json "
            "in it; found none. For example --workdir=runs/dialogpt_hard-demo-seed0"
        )
    try:
        record = json.loads(path.read_text())
        settings, name = record["settings"], record["name"]
        config = conkd.base()
        config.update(settings)  # locked: a field that is not known any more is an error
        missing = conkd.field_names(config) - conkd.field_names(ConfigDict(settings))
        if missing:
            raise KeyError(f"it lacks {', '.join(sorted(missing))}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise conkd.ConfigError(
            f"{path} is not the config of a run of this version: {error}. Train it again, or use "
            "the version that trained it."
        ) from error
    return conkd.validate(config), name


def run() -> None:
    """The command line."""
    command_line.run(main)


if __name__ == "__main__":
    run()
