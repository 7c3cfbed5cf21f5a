r"""Lets people judge what systems wrote: exports blind sheets, collects scores.

    python -m conkd_jax.human export runs/dialogpt-mini-seed0 runs/dialogpt_hard-mini-seed0 \
        --out=DIR
    python -m conkd_jax.human collect DIR annotator_1.csv annotator_2.csv annotator_3.csv

A run is the folder that conkd_jax.train or conkd_jax.evaluate left, or a predictions.jsonl.
`export` leaves a folder to send to each annotator, and key.json, which holds the systems behind the
ids and is sent to nobody. docs/human_evaluation.md describes a study from start to end.
"""

from __future__ import annotations

from absl import flags

from conkd_jax import command_line
from conkd_jax.command_line import UsageError
from conkd_jax.eval.human.collect import collect_scores
from conkd_jax.eval.human.export import export_study

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
    "export: item titles for runs without a corpus: a CSV file of movie ids and titles (ReDial's "
    "movies_with_mentions.csv) or the folder of a corpus.",
    flag_values=OPTIONS,
)


def main(argv: list[str]) -> None:
    """Runs one of two commands: export or collect."""
    command, arguments = argv[1] if len(argv) > 1 else "", argv[2:]
    if command == "export":
        if not (arguments and _OUT.value):
            raise UsageError("expected runs and a folder: export RUN… --out=DIR")
        lines = export_study(
            arguments,
            _OUT.value,
            num_contexts=_NUM_CONTEXTS.value,
            num_annotators=_ANNOTATORS.value,
            seed=_SEED.value,
            titles=_TITLES.value,
        )
        print(*lines, sep="\n")
    elif command == "collect":
        if len(arguments) < 2:
            raise UsageError("expected the folder of an export and sheets: collect DIR SHEET…")
        print(collect_scores(arguments[0], arguments[1:]), end="")
    else:
        raise UsageError(f"expected export or collect as the first argument, got {command!r}.")


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS, positional="export RUN… | collect DIR SHEET…")


if __name__ == "__main__":
    run()
