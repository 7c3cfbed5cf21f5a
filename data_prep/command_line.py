"""The command line of a program that builds a corpus: shared options, the report, and errors.

A user's mistake ends as one `error:` line and exit code 2. Any other exception is a defect of the
program and keeps its traceback.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from conkd_jax.data import beam_runner
from conkd_jax.errors import UserError
from conkd_jax.io import terminal
from conkd_jax.versions import versions_in_words
from data_prep.graphs import GRAPH_RULES
from data_prep.report import split_summary
from data_prep.sources import RAW_DIR_VARIABLE

# The type of an option that is a path: `--raw_dir=~/data` reaches the program with its "~".
PATH = os.path.expanduser


class CommandLineError(UserError):
    """The arguments of a program can't be understood or don't go together."""


class CorpusParser(argparse.ArgumentParser):
    """Parses `--out_dir`, `--report` and the options that a program adds.

    Args:
      program: the name that `python -m` takes.
      options: further arguments of `argparse.ArgumentParser`, such as `description`.
    """

    def __init__(self, program: str, **options: Any) -> None:
        super().__init__(prog=f"python -m {program}", **options)
        self.add_argument("--version", action="version", version=versions_in_words())
        self.add_argument("--out_dir", type=PATH, help="the folder that the corpus is written to")
        self.add_argument(
            "--report",
            action="store_true",
            help="print the data report as one JSON object; without --out_dir nothing is written",
        )
        self.add_argument("--beam_options", default="", metavar="OPTIONS", help=beam_runner.HELP)

    def add_raw_files(self, default_rule: str, rules: str) -> None:
        """Adds `--raw_dir` and `--graph_rule`, whose rules are described by `rules`."""
        self.add_argument(
            "--raw_dir",
            type=PATH,
            help=f"the raw files; default ${RAW_DIR_VARIABLE}, then the download cache",
        )
        self.add_argument(
            "--graph_rule",
            choices=GRAPH_RULES,
            default=default_rule,
            help=f"relations kept{rules} (default: %(default)s)",
        )

    def error(self, message: str) -> NoReturn:
        """Raises what argparse would print below several lines of usage."""
        raise CommandLineError(f"{message}; --help lists the options")


def run_builder(
    parser: CorpusParser,
    build: Callable[[argparse.Namespace], Mapping[str, Any]],
    argv: Sequence[str] | None = None,
) -> int:
    """Parses the arguments, builds the corpus, and prints the report if it is asked for.

    Args:
      parser: the options of the program.
      build: builds from the parsed options and returns the data report.
      argv: arguments without the program's name; None reads `sys.argv`.

    Returns:
      The exit code: 0, or 2 after a user's mistake.
    """
    started = time.monotonic()
    terminal.make_output_lenient()
    try:
        options = parser.parse_args(argv)
        if not options.report and not options.out_dir:
            parser.error("expected --out_dir to build a corpus, or --report to print its counts")
        if options.beam_options and not options.out_dir:
            parser.error("--beam_options: expected --out_dir as well, as Beam writes the corpus")
        with beam_runner.using(options.beam_options):
            report = build(options)
    except (UserError, OSError) as error:  # OSError: a full disk, a folder without permission
        print(f"error: {error}", file=sys.stderr)
        return 2
    for warning in report.get("warnings", ()):
        print(f"warning: {warning}", file=sys.stderr)
    if options.report:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    if options.out_dir:
        took = time.monotonic() - started
        print(f"Wrote the corpus to {options.out_dir} in {took:.0f} s.", file=sys.stderr)
        print(split_summary(report.get("splits", {})), file=sys.stderr)
    if (error := terminal.output_error()) is not None:
        print(f"error: the report could not be printed to its end: {error}", file=sys.stderr)
        return 2
    return 0
