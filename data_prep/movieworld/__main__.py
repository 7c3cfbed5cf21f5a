"""The program that generates MovieWorld: `python -m data_prep.movieworld --help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from data_prep.command_line import CorpusParser, run_builder
from data_prep.movieworld.build import (
    DEFAULT_NUM_DIALOGUES,
    DEFAULT_NUM_MOVIES,
    DEFAULT_SEED,
    build_movieworld,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    parser = CorpusParser(
        "data_prep.movieworld",
        description="Generates a synthetic corpus with its own knowledge graph; needs no data.",
    )
    for option, default in (
        ("--seed", DEFAULT_SEED),
        ("--num_dialogues", DEFAULT_NUM_DIALOGUES),
        ("--num_movies", DEFAULT_NUM_MOVIES),
    ):
        parser.add_argument(option, type=int, default=default, help="default: %(default)s")
    return run_builder(
        parser,
        lambda options: build_movieworld(
            options.out_dir,
            seed=options.seed,
            num_dialogues=options.num_dialogues,
            num_movies=options.num_movies,
        ),
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
