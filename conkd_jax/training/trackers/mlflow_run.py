"""MLflow: one run there for each run here, in an experiment of this project.

Its own variables choose where the run goes: MLFLOW_TRACKING_URI, by default what MLflow uses in the
working directory, and MLFLOW_EXPERIMENT_NAME.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Iterator, Mapping

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from conkd_jax.training.trackers import TrackedRun, TrackerError

EXPERIMENT = "conkd_jax"  # where MLFLOW_EXPERIMENT_NAME names none
KEY = "conkd_jax.key"  # the tag by which a run is found again
PARAMS_AT_ONCE = 100  # MLflow's limit


class MLflowRun:
    """A run of MLflow, new or continued.

    Args:
      run: the run. Its key is a tag there, by which a resumed run is found.
    """

    def __init__(self, run: TrackedRun):
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        try:
            self._client = MlflowClient()
            found = self._client.get_experiment_by_name(name)
            experiment = found.experiment_id if found else self._client.create_experiment(name)
            self._id = self._begun_before(experiment, run.key) or self._begin(experiment, run)
        except (MlflowException, ImportError) as error:  # without a server: a package for databases
            raise TrackerError(
                f"--tracker=mlflow: {error}. Set MLFLOW_TRACKING_URI to the address of a server, "
                "or see docs/howto/track_experiments.md for runs without one."
            ) from error

    def scalars(self, part: str, step: int, values: Mapping[str, float]) -> None:
        """Logs a line under "PART/NAME", at the step of this training."""
        named = {f"{part}/{name}": value for name, value in values.items()}
        self._client.log_batch(self._id, metrics=list(_metrics(named, step)))

    def finish(self, metrics: Mapping[str, float] | None) -> None:
        """Logs the metrics; without them the run counts as killed."""
        if metrics is not None:
            self._client.log_batch(self._id, metrics=list(_metrics(metrics, 0)))
        status = "KILLED" if metrics is None else "FINISHED"
        self._client.set_terminated(self._id, status)

    def _begun_before(self, experiment: str, key: str) -> str | None:
        """The id of the newest run with this key, which goes on; None if there is none."""
        runs = self._client.search_runs([experiment], f"tags.`{KEY}` = '{key}'", max_results=1)
        if not runs:
            return None
        self._client.update_run(runs[0].info.run_id, status="RUNNING")
        return runs[0].info.run_id

    def _begin(self, experiment: str, run: TrackedRun) -> str:
        tags = {KEY: run.key, **({"group": run.group} if run.group else {})}
        new = self._client.create_run(experiment, run_name=run.name, tags=tags).info.run_id
        options = iter([Param(name, str(value)) for name, value in run.config.items()])
        while some := list(itertools.islice(options, PARAMS_AT_ONCE)):
            self._client.log_batch(new, params=some)
        return new


def _metrics(values: Mapping[str, float], step: int) -> Iterator[Metric]:
    """Metrics of this moment, under names that MLflow takes: "f1@10" is "f1_at_10" there."""
    now = int(time.time() * 1000)
    for name, value in values.items():
        yield Metric(re.sub(r"[^\w./ -]", "_at_", name), float(value), now, step)
