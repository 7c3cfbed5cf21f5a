r"""Runs a human evaluation of systems: exports blinded sheets, collects scores.

    python -m conkd_jax.human export runs/dialogpt-mini-seed0 runs/dialogpt_hard-mini-seed0 \
        --out=DIR
    python -m conkd_jax.human collect DIR annotator_1.csv annotator_2.csv annotator_3.csv

A run is a folder written by conkd_jax.train or conkd_jax.evaluate, or a predictions.jsonl. `export`
writes a folder to send to each annotator, and key.json, which maps the blinded ids to systems and
stays with you. docs/human_evaluation.md describes a study from start to end.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from absl import flags
from etils import epath

from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.eval.human.collect import collect_scores
from conkd_jax.eval.human.export import export_study
from conkd_jax.eval.human.scores import score_parts
from conkd_jax.eval.human.study import System
from conkd_jax.eval.system_files import read_titles
from conkd_jax.io.files import sha256_of_file
from conkd_jax.runs.finished import Answers

WIDTH = 80  # of printed sentences

OPTIONS = flags.FlagValues()
_OUT = flags.DEFINE_string(
    "out", "", "export: the folder for the sheets and the key.", flag_values=OPTIONS
)
_NUM_CONTEXTS = flags.DEFINE_integer(
    "num_contexts",
    100,
    "export: the number of contexts to judge.",
    lower_bound=1,
    flag_values=OPTIONS,
)
_ANNOTATORS = flags.DEFINE_integer(
    "annotators", 3, "export: the number of annotators.", lower_bound=1, flag_values=OPTIONS
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "export: the seed of contexts and orders.", lower_bound=0, flag_values=OPTIONS
)
_TITLES = flags.DEFINE_string(
    "titles",
    "",
    "export: item titles for runs without a corpus: a CSV file of item ids and titles (ReDial's "
    "movies_with_mentions.csv) or the folder of a corpus.",
    flag_values=OPTIONS,
)


def main(argv: list[str]) -> None:
    """Runs the command: export or collect."""
    command, arguments = argv[1] if len(argv) > 1 else "", argv[2:]
    if command == "export":
        if not (arguments and _OUT.value):
            raise UsageError("expected runs and a folder: export RUN… --out=DIR")
        lines = export_runs(
            arguments,
            _OUT.value,
            titles=_TITLES.value,
            num_contexts=_NUM_CONTEXTS.value,
            num_annotators=_ANNOTATORS.value,
            seed=_SEED.value,
        )
        command_line.show(*lines)
    elif command == "collect":
        if len(arguments) < 2:
            raise UsageError("expected the folder of an export and sheets: collect DIR SHEET…")
        for part in score_parts(collect_scores(arguments[0], arguments[1:])):
            command_line.show(textwrap.fill(part, WIDTH) if isinstance(part, str) else part)
    else:
        raise UsageError(f"expected export or collect as the first argument, got {command!r}.")


def export_runs(
    runs: Sequence[epath.PathLike], out: epath.PathLike, *, titles: epath.PathLike = "", **options
) -> list[str]:
    """Exports a study of runs; returns a summary of what was written, in lines.

    Args:
      runs: folders of runs, or files like predictions.jsonl.
      out: the folder of the study.
      titles: a CSV file or the folder of a corpus; its titles take precedence over those of the
        runs' corpora. "" for none.
      **options: further arguments of `export_study`.

    Raises:
      UserError: a run, its predictions or `titles` can't be read or can't be combined to a study.
    """
    answers = [Answers.open(run) for run in runs]
    known = {item: title for each in answers for item, title in each.titles.items()}
    known |= read_titles(titles) if titles else {}
    files = [each.file for each in answers]
    return export_study([judged_system(each) for each in answers], files, known, out, **options)


def judged_system(answers: Answers) -> System:
    """A system of the study, identified by the config of its run or else by its file name."""
    sha256, run = sha256_of_file(answers.file), answers.run
    if run is None:
        return System(answers.name, "", "", "", sha256)
    return System(run.run_name, run.name, run.config.backbone, run.config.corpus.name, sha256)


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS, positional="export RUN… | collect DIR SHEET…")


if __name__ == "__main__":
    run()
