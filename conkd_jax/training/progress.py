"""Progress of long computations: a progress bar or plain lines, TensorBoard, and the tracker.

Displaying progress never changes a run. This file must not depend on what is trained.
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from types import TracebackType

import numpy as np
import rich.console
import rich.progress
from etils import epath

from conkd_jax.io import terminal
from conkd_jax.io.files import naming
from conkd_jax.runtime import compiling, parallel
from conkd_jax.runtime.torchless import without_torch
from conkd_jax.training import trackers
from conkd_jax.training.watch import Line

with without_torch():
    from tensorboardX.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined]
    from tensorboardX.record_writer import RecordWriter, directory_check
    from tensorboardX.summary import scalar

SECONDS_BETWEEN_LINES = 30.0
VERSION = "brain.Event:2"  # of TensorBoard's files
SECONDS_BETWEEN_FLUSHES = 120.0  # of TensorBoard's file, which an object store takes as a whole
MAX_LINES = 1_000  # of one training, besides those of compiling
COMPILING = "compiling"


class Counting:
    """Displays how much of a computation is done: a bar, or a line every half minute.

    The rate leaves out the time of compiling. Only the first process displays anything.
    """

    def __init__(
        self, name: str, unit: str, total: int | None = None, *, announces_compiling: bool = True
    ):
        """Prepares the display, which `with` starts.

        Args:
          name: what is being computed; "" displays nothing.
          unit: what is counted, in the plural.
          total: how many there are, if that is known; the time that is left is displayed then.
          announces_compiling: whether a line says so before the first of them. A bar always does.
        """
        self.announces_compiling = announces_compiling
        self.name, self.unit, self.total, self.done = name, unit, total, 0
        self.console = terminal.console(quiet=not name or not parallel.is_first_process())
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.TextColumn("{task.fields[text]}"),
            console=self.console,
            disable=self.console.quiet or not self.console.is_terminal,
            transient=True,
        )

    def __enter__(self) -> "Counting":
        self._began = self._last_line = time.monotonic()
        self._compiled_before = compiling.seconds()
        first = f"{COMPILING} before the first of the {self.unit}"
        self._task = self._bar.add_task(self.name, total=self.total, text=first)
        self._bar.start()
        if self.announces_compiling and not self.console.is_terminal:
            _print_line(self.console, f"{self.name}: {first}")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def add(self, number: int = 1) -> None:
        """Counts and displays what was done since the last call."""
        self.done += number
        now = time.monotonic()
        seconds = now - self._began - (compiling.seconds() - self._compiled_before)
        rate = self.done / max(seconds, 1e-9)
        text = f"{self.done:,}" + (f" of {self.total:,}" if self.total is not None else "")
        text += f" {self.unit}, {rate:,.{1 if rate < 10 else 0}f} per second"
        if self.total is not None and rate:
            text += f", {duration((self.total - self.done) / rate)} left"
        self._bar.update(self._task, completed=self.done, text=text)
        if not self.console.is_terminal and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            _print_line(self.console, f"{self.name}: {text}")


class Curves:
    """The TensorBoard log of a training.

    `SummaryWriter` writes in a thread. On a full disk the thread ends, and the training then waits
    forever for room in its queue. This class writes at once, so that the error reaches the caller.
    """

    def __init__(self, folder: epath.PathLike, first_step: int):
        """Creates a file; TensorBoard hides what earlier files have from `first_step` on.

        Args:
          folder: the folder of the log, created if it is missing.
          first_step: the first step that will be written.

        Raises:
          OSError: the folder or the file can't be written; so do the other methods.
        """
        self._folder = os.fspath(folder)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        with naming(folder):
            directory_check(self._folder)
            self._file = RecordWriter(os.path.join(self._folder, name))
        self._flushed = time.monotonic()
        start = SessionLog(status=SessionLog.START)
        for about in ({"file_version": VERSION}, {"session_log": start}):
            self._write(Event(step=first_step, **about))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._file.write(event.SerializeToString())

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Writes numbers of a step; they are on the disk some minutes later, or when it closes."""
        with naming(self._folder):
            for name, value in values.items():
                self._write(Event(step=step, summary=scalar(name, value)))
            if time.monotonic() - self._flushed > SECONDS_BETWEEN_FLUSHES:
                self._file.flush()
                self._flushed = time.monotonic()

    def close(self) -> None:
        """Writes what is left, and closes the file."""
        with naming(self._folder):
            self._file.close()


class Progress:
    """Displays the loss, tokens per second and time left of a training run.

    On a terminal it is a bar, elsewhere one plain line every half minute, or less often in a
    training of days, which prints at most MAX_LINES of them. Only the first process displays
    anything or writes the TensorBoard log. Compiling is announced and counted apart: rate and time
    left are those of the steps alone, and there are none until a step is done that did not have to
    wait for the compiler.

    Attributes:
      compile_seconds: time spent on compiling steps so far.
      num_compiled: number of steps that were compiled, one for each shape of a batch.
    """

    def __init__(
        self,
        name: str,
        num_steps: int,
        start_step: int,
        log_dir: epath.PathLike | None,
        console: rich.console.Console | None = None,
    ):
        """Prepares the display, which `with` starts.

        Args:
          name: what is trained.
          num_steps: number of steps of the whole training.
          start_step: number of steps done before this process.
          log_dir: folder of the TensorBoard log; None for no log.
          console: where to display; None for standard output.
        """
        is_quiet = not parallel.is_first_process()
        self.name, self.num_steps, self.start_step = name, num_steps, start_step
        self.console = console or terminal.console(quiet=is_quiet)
        self.compile_seconds, self.num_compiled = 0.0, 0
        self._shapes: set[tuple] = set()
        self._tokens, self._apart = 0.0, 0.0  # `_apart`: seconds that are not those of steps
        self._began = self._last_line = time.monotonic()
        self._line_step = start_step  # of the last line
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[text]}"),
            console=self.console,
            disable=is_quiet or not self.console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=num_steps, completed=start_step, text="")
        self._curves = None
        if log_dir is not None and not is_quiet:
            self._curves = Curves(log_dir, start_step + 1)

    def __enter__(self) -> "Progress":
        self._began = self._last_line = time.monotonic()
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if self._curves is None:
            return
        try:
            self._curves.close()
        except OSError:
            if error is None:  # else that error is told: on a full disk, what it names counts more
                raise

    @contextlib.contextmanager
    def dispatching(self, batch: Mapping[str, np.ndarray]) -> Iterator[None]:
        """Surrounds the call of a step, which compiles if no batch had these shapes before.

        Args:
          batch: the step's batch.
        """
        shapes = tuple(sorted((name, np.shape(array)) for name, array in batch.items()))
        if shapes in self._shapes:
            yield
            return
        self._shapes.add(shapes)
        self._tell(f"{COMPILING} the step" + (" for another shape" if self.num_compiled else ""))
        before = compiling.seconds()
        yield
        took = compiling.seconds() - before
        self.num_compiled += 1
        self.compile_seconds += took
        self._apart += took

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Surrounds an evaluation, whose time is not that of steps."""
        self._bar.update(self._task, text="evaluating")
        before = time.monotonic()
        yield
        self._apart += time.monotonic() - before

    def step(self, step: int, loss: float, tokens: float) -> None:
        """Displays the metrics of one step.

        Args:
          step: number of steps done.
          loss: loss of the step.
          tokens: tokens of the step's batch; if 0, steps per second are displayed instead.
        """
        self._tokens += tokens
        now = time.monotonic()
        done = step - self.start_step
        texts = [f"loss {loss:.4f}"]
        if done > max(self.num_compiled, 1):
            seconds = max(now - self._began - self._apart, 1e-9)
            texts += [
                f"{self._tokens / seconds:,.0f} tokens/s"
                if self._tokens
                else f"{done / seconds:,.1f} steps/s",
                f"{duration(seconds / done * (self.num_steps - step))} left",
            ]
        self._bar.update(self._task, completed=step, text=", ".join(texts))
        is_due = (
            now - self._last_line >= SECONDS_BETWEEN_LINES
            and (step - self._line_step) * MAX_LINES >= self.num_steps
        )
        if not self.console.is_terminal and is_due:
            self._line_step = step
            self.say(", ".join([f"step {step}/{self.num_steps}", *texts]))

    def scalars(self, line: Line) -> None:
        """Writes the metrics of a line of history to TensorBoard and to the run's tracker."""
        values = {name: value for name, value in line.items() if name != "step"}
        step = int(line["step"])
        if self._curves is not None:
            self._curves.add(step, values)
        trackers.scalars(self.name, step, values)

    def say(self, text: str) -> None:
        """Prints one permanent line."""
        self._last_line = time.monotonic()
        _print_line(self.console, f"{self.name}: {text}")

    def times(self) -> str:
        """The time of this process's steps, and of compiling them, in words."""
        total = time.monotonic() - self._began
        shapes = f"{self.num_compiled} shape{'s' if self.num_compiled != 1 else ''}"
        compiled = f"{COMPILING} {shapes} took {duration(self.compile_seconds)}"
        return f"{compiled}, all else {duration(total - self.compile_seconds)}"

    def _tell(self, text: str) -> None:
        """Shows what is going on: in the bar, or as a line."""
        self._bar.update(self._task, text=text)
        if not self.console.is_terminal:
            self.say(text)


def _print_line(console: rich.console.Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """The time in words.

    >>> duration(41.6), duration(125.0), duration(7500.0)
    ('42 s', '2 min 5 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
