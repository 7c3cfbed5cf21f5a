"""What the training loop watches: metrics, the best evaluation, bad numbers, signals to stop.

Host code that never waits for a device unless asked to. It must not know what is trained, nor
when anything is saved.
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
from jaxtyping import PyTree

from conkd_jax import parallel
from conkd_jax.errors import UserError

METRICS_LATENESS = 8  # steps; deep enough that reading a metric never waits for its step
AGREE_STEPS = 16  # with several processes, how often they ask each other whether to stop


class DivergedError(UserError, FloatingPointError):
    """A training whose loss, gradient norm or selected metric is no longer a finite number."""


Line = dict[str, int | float]  # of the history: "step" and metrics


@dataclasses.dataclass
class Track:
    """Everything the host decides by; plain JSON, part of every checkpoint.

    Attributes:
      history: one {"step": …, metric: …} a line: means of the training metrics since the line
        before, and the evaluation's metrics where there was one.
      window: {metric: [sum, count]} since the last line.
      best_step, best_value: of the selected metric; step 0 before the first evaluation.
      num_without_gain: evaluations since the best one.
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
        """Turns the window into a line of history."""
        means = {k: total / count for k, (total, count) in sorted(self.window.items()) if count}
        if clash := sorted({"step", *means} & set(evaluated)):
            raise ValueError(
                f"evaluate gives {clash}, names that the training metrics already have; "
                "expected others, such as dev_loss"
            )
        self.window = {}
        self.history.append({"step": step, **means, **evaluated})
        return self.history[-1]

    def is_gain(self, line: Line, select: tuple[str, str]) -> bool:
        """Notes an evaluation's line; True where its selected metric is the best so far."""
        value, sign = line[select[0]], 1 if select[1] == "max" else -1
        if self.best_step and not sign * value > sign * self.best_value:
            self.num_without_gain += 1
            return False
        self.best_step, self.best_value, self.num_without_gain = int(line["step"]), value, 0
        return True

    def is_out_of(self, patience: int) -> bool:
        """Whether early stopping ends the training here."""
        return 0 < patience <= self.num_without_gain


class LateMetrics:
    """Reads the metrics of steps some steps late, so that no step waits for its own numbers."""

    def __init__(
        self,
        name: str,
        row_ids: Callable[[int], Any],
        track: Track,
        tell: Callable[[int, float, float], None],
    ):
        """Starts empty.

        Args:
          name: of the task, for the message.
          row_ids: names the rows of a step's batch, for the message.
          track: gets every step's metrics.
          tell: gets (steps done, loss, tokens) of every step.
        """
        self.name, self.row_ids, self.track, self.tell = name, row_ids, track, tell
        self._waiting: collections.deque[tuple[int, PyTree]] = collections.deque()

    def add(self, step: int, metrics: PyTree) -> None:
        """Takes a step's metrics, still on the device, and reads those that are late enough."""
        self._waiting.append((step, metrics))
        while len(self._waiting) > METRICS_LATENESS:
            self._read()

    def drain(self) -> None:
        """Reads all; comes before anything is evaluated, saved or returned."""
        while self._waiting:
            self._read()

    def _read(self) -> None:
        step, metrics = self._waiting.popleft()
        values = parallel.to_host(metrics)
        loss, grad_norm = float(values["loss"][0]), float(values["grad_norm"][0])
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise DivergedError(
                f"{self.name}: loss {loss} and gradient norm {grad_norm} at step {step}; "
                f"expected finite numbers. Rows of its batch: {self.row_ids(step)}. "
                "Nothing of this step was saved, and the same command would come here again: "
                f"lower --config.{self.name}.optimizer.learning_rate, or look at these rows."
            )
        num_tokens, _ = values.pop("tokens", (0.0, 0.0))
        self.track.add(values)
        self.tell(step + 1, loss, float(num_tokens))


class StopSignals:
    """Turns the first SIGINT or SIGTERM into a wish to stop; the second acts as it always did."""

    def __init__(self):
        """Installs nothing yet; `with` does, in the main thread only."""
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        self._restore()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def is_asked(self, step: int) -> bool:
        """Whether to stop after this step; all processes get one answer."""
        if jax.process_count() == 1:
            return self.number is not None
        return step % AGREE_STEPS == 0 and parallel.any_process(self.number is not None)

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that a signal ended; SIGTERM's where another got it."""
        return 128 + (self.number or signal.SIGTERM)
