"""What the training loop monitors: metrics, the best evaluation, divergence, and stop signals.

This is host code that waits for a device only where a docstring says so. It must not depend on what
is trained or when anything is saved.
"""

import collections
import dataclasses
import math
import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import jax

from conkd_jax.errors import UserError
from conkd_jax.runtime import parallel
from conkd_jax.typing import PyTree

METRICS_LATENESS = 8  # steps between dispatching a step and reading its metrics
AGREE_STEPS = 16  # with several processes, steps between their agreements on whether to stop


class DivergedError(UserError, FloatingPointError):
    """The loss, gradient norm or selected metric of a training is not a finite number."""


Line = dict[str, int | float]  # a line of the history: "step" and metrics


@dataclasses.dataclass
class Track:
    """Everything that the host's decisions depend on; plain JSON, and part of every checkpoint.

    Attributes:
      history: lines {"step": …, metric: …} with the means of the training metrics since the
        previous line, and the metrics of an evaluation if there was one.
      window: {metric: [sum, count]} since the last line.
      best_step: step of the best evaluation; 0 before the first one.
      best_value: the selected metric of the best evaluation.
      num_without_gain: number of evaluations since the best one.
    """

    history: list[Line] = dataclasses.field(default_factory=list)
    window: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    best_step: int = 0
    best_value: float = 0.0
    num_without_gain: int = 0

    def add(self, metrics: Mapping[str, tuple[Any, Any]]) -> None:
        """Adds one step's (sum, count) pairs."""
        for name, (total, count) in metrics.items():
            sums = self.window.setdefault(name, [0.0, 0.0])
            sums[0] += float(total)
            sums[1] += float(count)

    def close_window(self, step: int, evaluated: Mapping[str, float]) -> Line:
        """Turns the window into a line of the history, and starts a new window.

        Args:
          step: number of steps done.
          evaluated: metrics of an evaluation, or none.

        Raises:
          ValueError: an evaluation's metric has the name of a training metric.
        """
        means = {k: total / count for k, (total, count) in sorted(self.window.items()) if count}
        if clash := sorted({"step", *means} & set(evaluated)):
            raise ValueError(
                f"evaluate gives {clash}, names that training metrics already have; "
                "expected other names, such as dev_loss"
            )
        self.window = {}
        self.history.append({"step": step, **means, **evaluated})
        return self.history[-1]

    def is_gain(self, line: Line, select: tuple[str, str]) -> bool:
        """Records an evaluation; returns whether its selected metric is the best so far.

        Args:
          line: the evaluation's line.
          select: (metric, "min" or "max").
        """
        value, sign = line[select[0]], 1 if select[1] == "max" else -1
        if self.best_step and not sign * value > sign * self.best_value:
            self.num_without_gain += 1
            return False
        self.best_step, self.best_value, self.num_without_gain = int(line["step"]), value, 0
        return True

    def is_out_of(self, patience: int) -> bool:
        """Whether early stopping applies; never if `patience` is 0."""
        return 0 < patience <= self.num_without_gain


class LateMetrics:
    """Reads the metrics of each step some steps later.

    JAX dispatches a step and returns before it is computed. Reading its metrics at once would wait
    for the device, and the host could not prepare the next batch meanwhile. A few steps later they
    are there. Steps after one that diverged are thus computed in vain, but never saved: `drain`
    comes first.
    """

    def __init__(
        self,
        name: str,
        row_ids: Callable[[int], Any],
        track: Track,
        report: Callable[[int, float, float], None],
        to_host: Callable[[PyTree], PyTree],
    ):
        """Starts empty.

        Args:
          name: name of the task, for messages.
          row_ids: identifies the rows of a step's batch, for messages.
          track: receives every step's metrics.
          report: receives (steps done, loss, tokens) of every step.
          to_host: reads a step's metrics from the devices (`layouts.Layout.to_host`).
        """
        self.name, self.row_ids, self.track, self.report = name, row_ids, track, report
        self._to_host = to_host
        self._waiting: collections.deque[tuple[int, PyTree]] = collections.deque()

    def add(self, step: int, metrics: PyTree) -> None:
        """Adds a step's metrics, still on the device, and reads those that are old enough.

        Raises:
          DivergedError: a loss or gradient norm that was read is not finite.
        """
        self._waiting.append((step, metrics))
        while len(self._waiting) > METRICS_LATENESS:
            self._read()

    def drain(self) -> None:
        """Waits for all metrics and reads them; needed before evaluating, saving or returning.

        Raises:
          DivergedError: a loss or gradient norm is not finite.
        """
        while self._waiting:
            self._read()

    def _read(self) -> None:
        step, metrics = self._waiting.popleft()
        values = self._to_host(metrics)
        loss, grad_norm = float(values["loss"][0]), float(values["grad_norm"][0])
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise DivergedError(
                f"{self.name}: loss {loss} and gradient norm {grad_norm} at step {step}; "
                f"expected finite numbers. Rows of its batch: {self.row_ids(step)}. "
                "Nothing of this step was saved, and running the same command again would fail "
                f"here again: lower --config.{self.name}.optimizer.learning_rate, or inspect these "
                "rows."
            )
        num_tokens, _ = values.pop("tokens", (0.0, 0.0))
        self.track.add(values)
        self.report(step + 1, loss, float(num_tokens))


STOPPING = (
    "stopping: steps that have begun are finished, then all is saved; a second signal stops at "
    "once and loses the steps since the last checkpoint"
)


class StopSignals:
    """Turns the first SIGINT or SIGTERM into a request to stop; a second one acts as usual.

    A request that comes too late for the block to act on is not forgotten: the signal is raised
    again when the block ends.
    """

    def __init__(self):
        """Installs nothing yet; `with` installs the handlers, in the main thread only."""
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self._restore()
        if self.number is not None and kind is None:
            signal.raise_signal(self.number)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def is_asked(self, step: int, say: Callable[[str], object], *, is_last: bool = False) -> bool:
        """Whether to stop after this step, and says so; the same answer in every process."""
        is_stopping = self.number is not None
        if jax.process_count() > 1:
            # A signal may reach one process only. Agreeing costs a collective, hence not at every
            # step.
            is_due = is_last or step % AGREE_STEPS == 0
            is_stopping = is_due and parallel.any_process(is_stopping)
        if is_stopping:
            say(STOPPING)
        return is_stopping

    @property
    def exit_code(self) -> int:
        """The exit code of a process ended by the signal; by SIGTERM if another process got it."""
        return 128 + (self.number or signal.SIGTERM)
