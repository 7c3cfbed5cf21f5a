"""How a program ends: with one line if the user can do something about it, else with a traceback.

This module does not depend on any program.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from signal import SIGINT, SIGTERM, signal
from types import FrameType
from typing import NoReturn

from conkd_jax.errors import UserError
from conkd_jax.io.files import FULL_DISK
from conkd_jax.io.writable import missing_client
from conkd_jax.runtime import cluster

STOPPED = (
    "stopped: finished stages, shards, decoded responses and checkpoints are saved; the same "
    "command resumes it"
)
REPEAT_AFTER = 0.1  # seconds until a signal that nothing heard is sent again
FREE_SPACE = "Whatever was finished before is kept: free some space and run the same command again."


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a program as Ctrl-C does."""


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Ends the program with one line if the block raises a `UserError`, is stopped or lacks space.

    The missing client of an object store is one line as well.

    SIGTERM stops the block as Ctrl-C does; a training, which saves first, has handlers of its own.
    """
    try:
        with _stopped_by_sigterm(), _heard_everywhere(), _told_to_the_others():
            yield
    except UserError as error:
        _end(f"error: {error}", 2)
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        silence_threads()
        _end(f"error: {error.filename or 'the disk'}: {error.strerror}. {FREE_SPACE}", 2)
    except ImportError as error:
        if not (why := missing_client(error)):
            raise
        _end(f"error: {why}", 2)
    except KeyboardInterrupt as stop:
        _end(STOPPED, 128 + (SIGTERM if isinstance(stop, Terminated) else SIGINT))


def silence_threads() -> None:
    """From now on only this module's last line reaches the terminal.

    Threads of orbax and tensorstore report a disk that is full as well, with tracebacks, some of
    them while the last line is being written.
    """
    try:
        terminal = sys.stderr.fileno()
    except (OSError, ValueError):  # stderr is no file of the system: it is being captured
        return
    sys.stderr.flush()
    kept, nowhere = os.dup(terminal), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, terminal)
    sys.stderr = open(kept, "w", encoding=sys.stderr.encoding, errors="backslashreplace")


def _end(message: str, code: int) -> NoReturn:
    print(f"{message}\n", end="", file=sys.stderr, flush=True)
    cluster.end(code)


@contextlib.contextmanager
def _told_to_the_others() -> Iterator[None]:
    """Tells the other processes of the run if the block raises."""
    try:
        yield
    except BaseException as error:
        cluster.fail(error)
        raise


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal(SIGTERM, stop)
    try:
        yield
    finally:
        signal(SIGTERM, before)


@contextlib.contextmanager
def _heard_everywhere() -> Iterator[None]:
    """Repeats a signal that came where Python ignores exceptions: in a finalizer, for example.

    JAX runs some Python code whenever garbage is collected. A Ctrl-C at that moment would only be
    reported, and the program would go on.
    """
    before = sys.unraisablehook

    def repeat(ignored: sys.UnraisableHookArgs) -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            before(ignored)
            return
        number = SIGTERM if issubclass(ignored.exc_type, Terminated) else SIGINT
        # Not from here: another exception would be ignored as well.
        again = threading.Timer(REPEAT_AFTER, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    sys.unraisablehook = repeat
    try:
        yield
    finally:
        if sys.unraisablehook is repeat:  # else the block put a hook around this one, which stays
            sys.unraisablehook = before
