"""The runner of Apache Beam that a program was told to use, if any.

`using("runner=DirectRunner,direct_num_workers=8")` names one for everything in its block;
`--beam_options` of the programs is this. What runs on it is in `data_prep.beam_linking`. Beam is
imported only where it is asked for.
"""

from __future__ import annotations

import contextlib
import contextvars
import csv
import importlib
import io
import logging
from collections.abc import Iterator
from typing import Any

from conkd_jax.errors import UserError

HELP = (
    "Link and write the dialogues of the corpus on Apache Beam, with these pipeline options, for "
    "example runner=DirectRunner,direct_num_workers=8. Needs the extra [beam]."
)
_QUIET = "default_sdk_harness_log_level"  # of workers that are other processes
_OPTIONS: contextvars.ContextVar[Any] = contextvars.ContextVar("beam_options", default=None)


class BeamError(UserError, ValueError):
    """Options that Beam does not take, or Beam itself is missing."""


@contextlib.contextmanager
def using(text: str) -> Iterator[None]:
    """Names the runner of every corpus that is assembled in the block; "" names none.

    Args:
      text: options of a pipeline, separated by commas; one is `runner`. Their dashes may be left
        out. An option with a comma in its value stands in double quotes, as in a CSV file.

    Raises:
      BeamError: Beam is not installed, or it does not know an option.
    """
    token = _OPTIONS.set(parsed(text) if text else None)
    try:
        yield
    finally:
        _OPTIONS.reset(token)


def options() -> Any:
    """The `PipelineOptions` of the block; None outside one."""
    return _OPTIONS.get()


def parsed(text: str) -> Any:
    """The `PipelineOptions` of a text, as `using` takes it. Nothing is run or contacted.

    Raises:
      BeamError: Beam is not installed, or it does not know an option.
    """
    given = [option.strip().lstrip("-") for option in next(csv.reader([text])) if option.strip()]
    names = {option.partition("=")[0] for option in given}
    if "runner" not in names:
        raise BeamError(
            f"--beam_options={text}: expected a runner among them, as in "
            "--beam_options=runner=DirectRunner,direct_num_workers=8"
        )
    if _QUIET not in names:
        given.append(f"{_QUIET}=WARNING")
    said, unknown = io.StringIO(), _Unknown()
    try:
        with _without_warnings(), contextlib.redirect_stderr(said):  # of argparse
            of_pipeline = importlib.import_module("apache_beam.options.pipeline_options")
            runners = importlib.import_module("apache_beam.runners")
        found = of_pipeline.PipelineOptions([f"--{option}" for option in given])
        logger = logging.getLogger("apache_beam.options.pipeline_options")
        logger.addFilter(unknown)
        logger.setLevel(logging.WARNING)  # whatever that of the package is
        try:
            with contextlib.redirect_stderr(said):  # argparse prints its usage, and why last
                runners.create_runner(found.get_all_options()["runner"])
        finally:
            logger.removeFilter(unknown)
    except ModuleNotFoundError as error:
        raise BeamError(
            f"--beam_options={text}: expected the package apache-beam ({error}). Install it with: "
            "pip install 'conkd_jax[beam]'"
        ) from error
    except (SystemExit, ValueError, ImportError) as error:
        why = said.getvalue().strip().rpartition("error: ")[2] or error
        raise BeamError(f"--beam_options={text}: {why}") from error
    if unknown.arguments:
        raise BeamError(
            f"--beam_options={text}: Beam does not know {', '.join(unknown.arguments)}; expected "
            "options such as runner, direct_num_workers, project, region, temp_location"
        )
    return found


class _Unknown(logging.Filter):
    """Keeps the arguments that Beam warns it discards, in place of the warning."""

    def __init__(self) -> None:
        super().__init__()
        self.arguments: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is something else."""
        if not str(record.msg).startswith("Discarding unparseable args"):
            return True
        listed: Any = record.args
        self.arguments += [str(argument).lstrip("-") for argument in listed[0]]
        return False


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Silences what Beam logs on the root logger about packages of Google that are missing."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
