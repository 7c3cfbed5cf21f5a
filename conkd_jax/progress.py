"""Progress of long computations: a progress bar or plain lines, and TensorBoard scalars.

Displaying progress never changes a run. This file must not depend on what is trained.
"""

import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

import rich.console
import rich.progress
from etils import epath
from tensorboardX import SummaryWriter

from conkd_jax import parallel
from conkd_jax.watch import Line

SECONDS_BETWEEN_LINES = 30.0

T = TypeVar("T")


def counted(items: Iterable[T], name: str, unit: str) -> Iterator[T]:
    """Yields the same items and displays their number and rate: a bar, or a line every half minute.

    Args:
      items: any number of items.
      name: what is being computed.
      unit: what the items are called.
    """
    console = rich.console.Console(quiet=not parallel.is_first_process())
    began = last = time.monotonic()
    bar = rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.TextColumn("{task.completed:,}"),
        rich.progress.TextColumn("{task.fields[text]}"),
        console=console,
        disable=console.quiet or not console.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task(name, total=None, text=unit)
        for count, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            rate = f"{unit}, {count / max(now - began, 1e-9):,.0f} per second"
            bar.update(task, completed=count, text=rate)
            if not console.is_terminal and now - last >= SECONDS_BETWEEN_LINES:
                last = now
                console.print(f"{name}: {count:,} {rate}", markup=False, highlight=False)


class Progress:
    """Displays the loss, tokens per second and time left of a training run.

    On a terminal it is a bar, elsewhere one plain line every half minute. Only the first process
    displays anything or writes the TensorBoard log.
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
        self.console = console or rich.console.Console(quiet=is_quiet)
        self._tokens, self._began, self._last_line = 0.0, time.monotonic(), time.monotonic()
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[text]}"),
            rich.progress.TimeRemainingColumn(),
            console=self.console,
            disable=is_quiet or not self.console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=num_steps, completed=start_step, text="")
        self._writer = None
        if log_dir is not None and not is_quiet:
            self._writer = SummaryWriter(str(log_dir), purge_step=start_step + 1)

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
        if self._writer is not None:
            self._writer.close()

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
        seconds = max(now - self._began, 1e-9)
        rate = (
            f"{self._tokens / seconds:,.0f} tokens/s"
            if self._tokens
            else f"{done / seconds:,.1f} steps/s"
        )
        self._bar.update(self._task, completed=step, text=f"loss {loss:.4f}, {rate}")
        if not self.console.is_terminal and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = seconds / max(done, 1) * (self.num_steps - step)
            self.say(f"step {step}/{self.num_steps}, loss {loss:.4f}, {rate}, {left:,.0f} s left")

    def scalars(self, line: Line) -> None:
        """Writes the metrics of a line of history to TensorBoard."""
        if self._writer is not None:
            for name in line.keys() - {"step"}:
                self._writer.add_scalar(name, line[name], int(line["step"]))

    def say(self, text: str) -> None:
        """Prints one permanent line."""
        self.console.print(f"{self.name}: {text}", markup=False, highlight=False, soft_wrap=True)
