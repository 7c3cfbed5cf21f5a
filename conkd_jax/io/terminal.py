"""Printing that never ends a computation: a closed pipe or a full disk loses text, not results.

`head -1` closes a pipe after one line, a terminal may lack λ, and a log file's disk may be full.
None of this may end a training or keep a result from being written, so whatever the project prints
goes through a `LenientStream`. This module does not depend on what is printed.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

import rich.console


class LenientStream:
    """A text stream whose errors are kept rather than raised.

    After the first failure nothing more is written, so what arrived is the beginning of the output
    and nothing is missing in its middle.

    Attributes:
      error: the first failure; None as long as everything was written.
    """

    def __init__(self, stream: Any):
        """Wraps a stream; characters that its encoding lacks become escapes."""
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        self._stream = stream
        self.error: OSError | ValueError | None = None

    def write(self, text: str) -> int:
        """Writes the text unless an earlier write failed; returns its length."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Writes several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flushes the stream unless an earlier write failed."""
        self._attempt(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def is_cut_short(self) -> bool:
        """Whether text was lost that somebody wanted: not if a reader closed its pipe."""
        return self.error is not None and not _is_closed_pipe(self.error)

    def _attempt(self, write: Any) -> None:
        if self.error is not None:
            return
        try:
            write()
        except (OSError, ValueError) as error:  # ValueError: the file is closed
            self.error = error
            self._detach()

    def _detach(self) -> None:
        """Points the file descriptor elsewhere, or Python would fail to flush the rest at exit."""
        try:
            number = self._stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)
        except (OSError, ValueError, AttributeError):
            return  # a stream without a descriptor has nothing to flush


def _is_closed_pipe(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.ESHUTDOWN)


def lenient(stream: Any) -> Any:
    """The stream as a `LenientStream`; one that leads nowhere if the process has none."""
    if stream is None:  # the descriptor was closed before the process began
        stream = open(os.devnull, "w", encoding="utf-8")
    if isinstance(stream, LenientStream):
        return stream
    return LenientStream(stream)


def make_output_lenient() -> None:
    """Makes everything that is printed in this process lenient, by any library."""
    sys.stdout, sys.stderr = lenient(sys.stdout), lenient(sys.stderr)


def output_error() -> OSError | ValueError | None:
    """Why standard output is incomplete; None if it is not, or if its reader closed the pipe."""
    output = sys.stdout
    output.flush()
    if isinstance(output, LenientStream) and output.is_cut_short:
        return output.error
    return None


def console(*, quiet: bool = False) -> rich.console.Console:
    """A console on standard output that never raises.

    Args:
      quiet: whether to print nothing.
    """
    return rich.console.Console(file=lenient(sys.stdout), quiet=quiet)


def say(text: str) -> None:
    """Prints a line of text as it is, at once."""
    print(text, file=lenient(sys.stdout), flush=True)
