"""How the programs read a command line, and how a user's mistake ends: one message, exit code 2.

Everything that is not a user's mistake keeps its traceback. This file must not know what a program
does.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from absl import app, flags, logging

from conkd_jax import parallel
from conkd_jax.config import ConfigError
from conkd_jax.errors import UserError

# One flag for both programs: what the one writes, the other reads.
WORKDIR = flags.DEFINE_string(
    "workdir",
    "",
    "The run's folder. conkd_jax.train writes it, by default runs/<config>-<preset>-seed<seed>; "
    "conkd_jax.evaluate reads it.",
)


def run(main: Callable[[list[str]], None]) -> None:
    """Joins the processes of the run, reads the command line and calls `main`."""
    logging.set_verbosity(logging.WARNING)  # libraries' own news; ours is printed
    with explained():
        parallel.initialize_distributed()
        app.run(main, flags_parser=parse_with_arguments)


def parse(argv: list[str]) -> list[str]:
    """Reads the flags of a program without positional arguments.

    Returns:
      The program's name alone.

    Raises:
      ConfigError: an unknown option or argument, or a value that an option can't have.
    """
    rest = parse_with_arguments(argv)
    if len(rest) > 1:
        raise ConfigError(f"unknown argument {rest[1]!r}; options begin with --")
    return rest


def parse_with_arguments(argv: list[str]) -> list[str]:
    """Reads the flags.

    Returns:
      The program's name and the positional arguments.

    Raises:
      ConfigError: an unknown option, or a value that an option can't have.
    """
    try:
        return flags.FLAGS(argv)
    except (flags.Error, KeyError, AttributeError) as error:
        # A config file's own error comes wrapped in the texts of two libraries.
        raise ConfigError(_own_error(error)) from error


def _own_error(error: BaseException) -> str:
    cause: BaseException | None = error
    found = [cause]
    while cause := cause.__cause__ or cause.__context__:
        found.append(cause)
    ours = [each for each in found if isinstance(each, ConfigError)]
    chosen = (ours or found)[-1 if ours else 0]
    return str(chosen.args[0] if chosen.args else chosen)  # str(KeyError) is quoted


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Ends the program with a user's error as its only message."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept", file=sys.stderr, flush=True)
        raise SystemExit(130) from None
