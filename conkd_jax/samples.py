"""Writes a page of responses of several systems to the same contexts.

    python -m conkd_jax.samples RUN… --out=docs/samples.md
    python -m conkd_jax.samples RUN… --out=FILE.md --number=20 --seed=1

A run is a folder written by conkd_jax.train or conkd_jax.evaluate, or a file like its
predictions.jsonl. All must be of one split. The contexts are drawn with --seed, so that nobody
picks them; the same files give the same page. The paper's three example contexts (Tables 7 and 9)
follow where the split has them. Nothing is decoded.
"""

from __future__ import annotations

import sys

from absl import flags
from etils import epath

from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.eval.predictions import read_predictions
from conkd_jax.eval.tables.documents import portable_command
from conkd_jax.eval.tables.sample_page import sample_page
from conkd_jax.eval.tables.table import TableError
from conkd_jax.io.files import write_whole
from conkd_jax.runs.finished import open_answers

OPTIONS = flags.FlagValues()
_OUT = flags.DEFINE_string("out", "", "The Markdown file to write.", flag_values=OPTIONS)
_NUMBER = flags.DEFINE_integer("number", 10, "The number of contexts.", 1, flag_values=OPTIONS)
_SEED = flags.DEFINE_integer("seed", 0, "Chooses the contexts.", 0, flag_values=OPTIONS)


def main(argv: list[str]) -> None:
    """Reads the responses of the systems, and writes the page."""
    if len(argv) < 2 or not _OUT.value:
        raise UsageError(
            "expected runs and the file to write. For example runs/dialogpt-mini-seed0 "
            "runs/dialogpt_hard-mini-seed0 --out=docs/samples.md"
        )
    found = open_answers(argv[1:])
    systems = {name: list(read_predictions(answers.file)) for name, answers in found.items()}
    splits = {each.split for predictions in systems.values() for each in predictions[:1]}
    if len(splits) > 1:
        names = ", ".join(sorted(map(str, splits)))
        raise UsageError(f"expected systems on one split, got {names}.")
    titles = {item: title for each in found.values() for item, title in each.titles.items()}
    try:
        page = sample_page(
            systems,
            titles,
            number=_NUMBER.value,
            seed=_SEED.value,
            split=next(iter(splits), None) or "the split",
            command=portable_command(" ".join(sys.argv)),
        )
    except ValueError as error:
        raise TableError(str(error)) from error
    out = epath.Path(_OUT.value)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, page)
    command_line.show(f"Responses of {len(systems)} systems: {out}")


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS, positional="RUN…")


if __name__ == "__main__":
    run()
