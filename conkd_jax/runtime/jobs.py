"""Runs commands in processes of their own, several at a time, each with its log and its cores.

This module must not depend on what the commands do.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from conkd_jax.io import terminal

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_STOP = 120.0  # a process that is compiling saves its checkpoint only after that
MEMORY_FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"
USUAL_MEMORY_FRACTION = 0.75  # of a GPU, that a process of jax reserves


@dataclasses.dataclass(frozen=True)
class Job:
    """A command to run.

    Attributes:
      name: what it is called.
      command: the program and its arguments.
      log: gets what it prints, after what an earlier try left there.
    """

    name: str
    command: Sequence[str]
    log: Path


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
      job: the job.
      exit_code: that of its process; negative if a signal ended it.
      seconds: how long it ran.
    """

    job: Job
    exit_code: int
    seconds: float

    @property
    def last_line(self) -> str:
        """The last line of its log, which says why it failed if it did.

        A message may go on over several lines; of its last try, the first of them is returned.
        """
        text = self.job.log.read_text(errors="replace").rpartition("\n$ ")[2]
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        messages = [line for line in lines if line.startswith("error: ")]
        return [*lines[-1:], *messages][-1] if lines else ""


@dataclasses.dataclass(frozen=True)
class _Running:
    job: Job
    process: subprocess.Popen
    began: float


def run_jobs(jobs: Sequence[Job], *, at_once: int = 1, own_cores: bool = True) -> Iterator[Outcome]:
    """Runs jobs in the given order, some at a time, and yields each as it ends.

    A failure does not stop the others. If the caller is interrupted, or stops iterating, running
    processes get SIGTERM, and SIGKILL if they have not ended two minutes later.

    Args:
      jobs: what to run.
      at_once: the number of processes. Each has its share of a GPU's memory.
      own_cores: whether each has cores of its own, where there are enough, or all of them.

    Yields:
      The outcome of each job.
    """
    shares = core_shares(at_once) if own_cores else [set()] * at_once
    waiting, running = collections.deque(jobs), {}
    try:
        with _terminated_as_interrupted():
            while waiting or running:
                for place in range(at_once):
                    if waiting and place not in running:
                        job = waiting.popleft()
                        running[place] = _start(job, shares[place], environment(at_once))
                time.sleep(SECONDS_BETWEEN_LOOKS)
                for place, each in list(running.items()):
                    if (code := each.process.poll()) is not None:
                        del running[place]
                        yield Outcome(each.job, code, time.monotonic() - each.began)
    finally:
        _stop([each.process for each in running.values()])


def core_shares(at_once: int) -> list[set[int]]:
    """The cores of each of several processes: equal parts of this process's, none of them shared.

    Returns:
      For each process its cores; empty sets, which bind nothing, if there are fewer cores than
      processes or the operating system can't bind them.
    """
    if not hasattr(os, "sched_getaffinity"):  # macOS
        return [set() for _ in range(at_once)]
    cores = sorted(os.sched_getaffinity(0))
    size = len(cores) // at_once
    return [set(cores[place * size : (place + 1) * size]) for place in range(at_once)]


def environment(at_once: int) -> dict[str, str]:
    """The environment of each of several processes, which share the memory of a GPU."""
    found: Mapping[str, str] = os.environ
    if at_once == 1:
        return dict(found)
    whole = float(found.get(MEMORY_FRACTION) or USUAL_MEMORY_FRACTION)
    return {**found, MEMORY_FRACTION: f"{whole / at_once:.3f}"}


def _start(job: Job, cores: set[int], environ: Mapping[str, str]) -> _Running:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("a") as log, _bound_to(cores):
        log.write(f"$ {shlex.join(job.command)}\n")
        log.flush()
        process = subprocess.Popen(
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environ,
            start_new_session=True,  # Ctrl-C reaches this process only, which stops the others
        )
    return _Running(job, process, time.monotonic())


@contextlib.contextmanager
def _bound_to(cores: set[int]) -> Iterator[None]:
    """Binds this thread to some cores; a process that it starts inherits them."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Lets SIGTERM end the block as an exception, so that what it started is stopped."""

    def end(number: int, frame: FrameType | None) -> Any:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    """Ends processes, and all that they started, and waits for them."""
    alive = [process for process in processes if process.poll() is None]
    if not alive:
        return
    terminal.say(f"stopping {len(alive)} running: each saves a checkpoint first")
    try:
        _signal(alive, signal.SIGTERM)
        deadline = time.monotonic() + SECONDS_TO_STOP
        while time.monotonic() < deadline and any(process.poll() is None for process in alive):
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:  # out of time, or interrupted once more
        _signal(alive, signal.SIGKILL)
        for process in alive:
            process.wait()


def _signal(processes: Sequence[subprocess.Popen], number: signal.Signals) -> None:
    for process in processes:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
