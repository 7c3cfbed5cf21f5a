"""Weights & Biases: one run there for each run here, with one chart axis for each training.

Its own variables choose where the run goes: WANDB_PROJECT, WANDB_ENTITY, WANDB_DIR, and
WANDB_MODE=offline, which keeps it on the disk until `wandb sync`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import wandb

from conkd_jax.training.trackers import TrackedRun, TrackerError

PROJECT = "conkd_jax"  # where WANDB_PROJECT names none


class WandbRun:
    """A run of Weights & Biases, new or continued.

    Args:
      run: the run. Its key is the id there, so that a resumed run goes on where it stopped.
    """

    def __init__(self, run: TrackedRun):
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                id=run.key,
                name=run.name,
                group=run.group or None,
                config=dict(run.config),
                resume="allow",
                settings=wandb.Settings(
                    console="off"
                ),  # progress bars would be copied line by line
            )
        except wandb.Error as error:
            raise TrackerError(
                f"--tracker=wandb: {error} Log in with `wandb login`, or set WANDB_MODE=offline to "
                "keep the run on this disk."
            ) from error
        self._parts: set[str] = set()

    def scalars(self, part: str, step: int, values: Mapping[str, float]) -> None:
        """Logs a line under "PART/NAME", with the steps of this training as their axis."""
        axis = f"{part}/step"
        if part not in self._parts:
            self._parts.add(part)
            self._run.define_metric(axis, hidden=True)
            self._run.define_metric(f"{part}/*", step_metric=axis)
        self._run.log({axis: step, **{f"{part}/{name}": each for name, each in values.items()}})

    def finish(self, metrics: Mapping[str, float] | None) -> None:
        """Puts the metrics into the run's summary; without them the run counts as crashed."""
        self._run.summary.update(dict(metrics or {}))
        self._run.finish(exit_code=int(metrics is None))
