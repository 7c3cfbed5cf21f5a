"""Experiment trackers: where the curves and metrics of a run go besides its own folder.

TensorBoard files are always written, into the artifact of each training. With `--tracker` a run is
also sent to Weights & Biases, to MLflow, or to a class of the user's own. A tracker only watches:
it is part of no fingerprint, and once a training has begun, one that fails is left out with a
warning. docs/howto/track_experiments.md describes how to use and how to write one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from conkd_jax import own_code
from conkd_jax.errors import UserError
from conkd_jax.io import terminal
from conkd_jax.runtime import parallel

KNOWN = {  # by name: the module that has to be installed, and the class here
    "wandb": ("wandb", "conkd_jax.training.trackers.wandb_run:WandbRun"),
    "mlflow": ("mlflow", "conkd_jax.training.trackers.mlflow_run:MLflowRun"),
}


class TrackerError(UserError):
    """A tracker that is unknown, not installed, or can't be reached before a training begins."""


@dataclasses.dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told about a run before anything is trained.

    Attributes:
      key: identifies the run: whatever is resumed or repeated has the same key.
      name: the name of the run's folder.
      group: the name of the sweep that it belongs to; "" for none.
      config: all options, by dotted name.
    """

    key: str
    name: str
    group: str
    config: Mapping[str, Any]


@runtime_checkable
class Tracker(Protocol):
    """What `--tracker=my_module:NAME` names: a class, or function, that takes a `TrackedRun`."""

    def scalars(self, part: str, step: int, values: Mapping[str, float]) -> None:
        """Takes a line of a training's history.

        Args:
          part: what is trained, such as "student".
          step: number of its steps done. Steps since the last checkpoint come again after a
            resumption, with the same values.
          values: losses, gradient norms and scores on dev, by name.
        """
        ...

    def finish(self, metrics: Mapping[str, float] | None) -> None:
        """Ends the run.

        Args:
          metrics: the metrics of the run, by "SPLIT/NAME"; None if it was stopped or has failed.
        """
        ...


class _Watched:
    """A tracker whose errors never reach the run. Without a tracker, it does nothing."""

    def __init__(self, tracker: Tracker | None, name: str):
        self._tracker, self._name = tracker, name

    def scalars(self, part: str, step: int, values: Mapping[str, float]) -> None:
        self._attempt(lambda tracker: tracker.scalars(part, step, values))

    def finish(self, metrics: Mapping[str, float] | None) -> None:
        self._attempt(lambda tracker: tracker.finish(metrics))
        self._tracker = None

    def _attempt(self, call: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            call(self._tracker)
        except Exception as error:  # noqa: BLE001  # a service that is down must not end a training
            self._tracker = None
            terminal.say(
                f"warning: --tracker={self._name} failed and is left out from here on: "
                f"{type(error).__name__}: {error}"
            )


_current = _Watched(None, "")


def check(name: str) -> None:
    """Checks that there is a tracker of this name; "" is none.

    Raises:
      TrackerError: it is unknown, or its package is not installed.
    """
    if name:
        _maker(name)


@contextlib.contextmanager
def tracked(name: str, run: TrackedRun) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Sends everything that is trained inside the block to a tracker.

    Of several processes, the first one does so.

    Args:
      name: "wandb", "mlflow", "package.module:name", or "" for no tracker.
      run: the run.

    Yields:
      A function to call with the run's metrics once it is scored. Without this call the tracker is
      told that the run did not come to its end.

    Raises:
      TrackerError: the tracker can't be opened.
    """
    global _current
    tracker = _opened(name, run) if name and parallel.is_first_process() else None
    _current = _Watched(tracker, name)
    try:
        yield _current.finish
    finally:
        _current.finish(None)


def scalars(part: str, step: int, values: Mapping[str, float]) -> None:
    """Sends a line of a training's history to the tracker of the run, if it has one."""
    _current.scalars(part, step, values)


def _opened(name: str, run: TrackedRun) -> Tracker:
    try:
        tracker = _maker(name)(run)
    except TrackerError:
        raise
    except Exception as error:
        raise TrackerError(
            f"--tracker={name}: the run could not be opened: {type(error).__name__}: {error}"
        ) from error
    for lack in own_code.shortcomings(tracker, Tracker):
        raise TrackerError(f"--tracker={name}: {lack}")
    return tracker


def _maker(name: str) -> Callable[[TrackedRun], Tracker]:
    package, home = KNOWN.get(name, ("", name))
    if package and importlib.util.find_spec(package) is None:
        raise TrackerError(
            f"--tracker={name}: the package {package} is not installed. Install it with: pip "
            f"install 'conkd_jax[{name}]'"
        )
    if ":" not in home:
        raise TrackerError(
            f"--tracker={name}: expected {', '.join(KNOWN)}, or a class of your own as "
            "package.module:name"
        )
    try:
        return own_code.find(home)
    except LookupError as error:
        raise TrackerError(f"--tracker={name}: can't be imported: {error}") from error
