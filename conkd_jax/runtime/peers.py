"""Notices when another process of the run is lost, and says so.

A process that is killed or stopped, or whose machine can't be reached, would leave the others
waiting in a collective, or let JAX abort them with a dump of C++. Instead every process writes a
number that grows into the key-value store of JAX's coordination service, and reads those of the
others. If one has not changed for a minute (`CONKD_LOST_AFTER`, in seconds), the process ends with
one line and the exit code 75, which a launcher may take as "try again".

At the start a process waits five minutes for the others (`CONKD_MEET_WITHIN`, in seconds), and ends
in the same way if they don't all come.

When process 0, which holds that store, ends or is killed, the others know it at once: their
connections to it end (`coordinator_link`).
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

LOST_AFTER = "CONKD_LOST_AFTER"
DEFAULT_SECONDS = 60.0
MEET_WITHIN = "CONKD_MEET_WITHIN"
DEFAULT_MEET_WITHIN = 300.0  # as of jax.distributed.initialize
EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: a later attempt may succeed
AGAIN = "Finished stages and checkpoints are kept: start all processes again with the same command"
_SEEN, _FAILED = "conkd/seen/", "conkd/failed/"


def lost_after(environ: Mapping[str, str]) -> float:
    """Seconds without a sign of life after which a process counts as lost.

    Raises:
      ValueError: the variable is not a number of seconds.
    """
    return _seconds(environ, LOST_AFTER, DEFAULT_SECONDS)


def meet_within(environ: Mapping[str, str]) -> float:
    """Seconds within which all processes of a run must have come to its coordinator.

    Raises:
      ValueError: the variable is not a number of seconds.
    """
    return _seconds(environ, MEET_WITHIN, DEFAULT_MEET_WITHIN)


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name) or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 1 <= seconds < math.inf:
        raise ValueError(f"{name}: expected 1 or more seconds, got {text}")
    return seconds


@contextlib.contextmanager
def deadline(seconds: float, message: Callable[[], str]) -> Iterator[None]:
    """Ends this process with one line if the block takes longer.

    It can wait in JAX's C++ code, which no exception of Python's would interrupt.

    Args:
      seconds: the limit.
      message: says what the block has waited for; called when the limit has passed.
    """
    timer = threading.Timer(seconds, lambda: end_process(message()))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class PeerWatch:
    """Watches the other processes of a run from two threads of its own.

    One thread exchanges signs of life, and may block while the coordinator is gone. The other looks
    at the clock.

    Args:
      client: of JAX's coordination service.
      process_id: index of this process.
      num_processes: number of processes.
      seconds: as of `lost_after`.
      end: called with the message once a process is lost.
    """

    def __init__(
        self,
        client: Any,
        process_id: int,
        num_processes: int,
        seconds: float,
        end: Callable[[str], None] | None = None,
    ):
        self._client, self._own, self._count, self._seconds = (
            client,
            process_id,
            num_processes,
            seconds,
        )
        self._end = end or end_process
        now = time.monotonic()
        self._values: dict[int, str] = {}
        self._changed = dict.fromkeys(range(num_processes), now)  # when each value last changed
        self._reached = now  # when the store last answered
        self._failures: dict[int, str] = {}
        self._stopped = threading.Event()
        self._has_failed = False

    def start(self) -> None:
        """Begins to watch."""
        for target in (self._exchange, self._judge):
            threading.Thread(target=target, daemon=True, name="conkd-peers").start()

    def stop(self) -> None:
        """Ends the watch, because the run is done everywhere."""
        self._stopped.set()

    def fail(self, message: str) -> None:
        """Tells the others that this process ends with an error."""
        self._stopped.set()
        self._has_failed = True
        with contextlib.suppress(Exception):  # if the coordinator is gone as well, nobody listens
            self._client.key_value_set(f"{_FAILED}{self._own}", message, allow_overwrite=True)

    def linger(self) -> None:
        """Gives the others the time to read an error of process 0 in the store, which it holds."""
        if self._own == 0 and self._has_failed:
            time.sleep(2 * self._period)

    def disconnected(self) -> None:
        """Ends this process, because process 0 has ended the connection to it."""
        if not self._stopped.is_set():
            self._end(
                f"process 0 of {self._count} has closed its connection to this one: it was stopped "
                f"or killed, or its machine was shut down. {AGAIN}"
            )

    def wait(self) -> None:
        """Gives the watch the time to find out that a process is lost, and to end this one.

        A collective fails as soon as a connection breaks, with a message that names no process.
        """
        self._stopped.wait(self._seconds + 2 * self._period)

    @property
    def _period(self) -> float:
        return min(5.0, self._seconds / 5)

    def _exchange(self) -> None:
        number = 0
        while not self._stopped.wait(self._period):
            number += 1
            try:
                own = f"{_SEEN}{self._own}"
                self._client.key_value_set(own, str(number), allow_overwrite=True)
                seen = self._client.key_value_dir_get(_SEEN)
                failed = self._client.key_value_dir_get(_FAILED)
            except (ValueError, RuntimeError):  # not reached: the other thread counts the seconds
                continue
            now = time.monotonic()
            self._reached = now
            for key, value in seen:
                index = int(key.rsplit("/", 1)[-1])
                if self._values.get(index) != value:
                    self._values[index], self._changed[index] = value, now
            self._failures = {int(key.rsplit("/", 1)[-1]): text for key, text in failed}

    def _judge(self) -> None:
        while not self._stopped.wait(self._period):
            if verdict := self.verdict(time.monotonic()):
                self._end(verdict)
                return

    def verdict(self, now: float) -> str:
        """What is wrong at a time; "" if nothing is."""
        for index, text in self._failures.items():
            if index != self._own:
                return f"process {index} of {self._count} ended with an error: {text}"
        if now - self._reached > self._seconds and self._own != 0:
            return self._lost(0, "whose key-value store the processes share, ")
        for index, changed in self._changed.items():
            # While the store does not answer, nothing is known of the others.
            if index != self._own and self._reached - changed > self._seconds:
                return self._lost(index, "")
        return ""

    def _lost(self, index: int, what: str) -> str:
        return (
            f"process {index} of {self._count}, {what}has given no sign of life for "
            f"{self._seconds:.0f} seconds: it was killed or stopped, or its machine can't be "
            f"reached. {AGAIN}"
        )


def end_process(message: str) -> None:
    """Ends this process at once: its main thread may wait in a collective for ever."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(EXIT_CODE)
