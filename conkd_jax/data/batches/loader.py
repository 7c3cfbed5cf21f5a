"""Loads one host's batches from a plan, with threads that prepare them ahead.

A global batch of B rows is laid out as [D devices, A accumulated micro-batches, b rows]. Host h of
H assembles the rows of its own D/H devices, h·B/H … (h + 1)·B/H - 1. What a row holds is up to the
`assemble` function; this module is independent of models and losses.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence

import grain
import numpy as np
from jaxtyping import Int64

from conkd_jax.data.batches.plan import BatchPlan

_PREFETCH_THREADS = 2
_PREFETCH_BATCHES = 4

Batch = dict[str, np.ndarray]
Assemble = Callable[[np.ndarray, int, np.ndarray], Batch]


class BatchLoader:
    """Loads the batches of one host.

    Args:
      plan: the order of the rows.
      assemble: (row_ids [b], bucket_length, step_rows [B]) -> the arrays of one device's
        micro-batch. `step_rows` is the whole global batch, because weights depend on it. It has to
        be a pure function; prefetching calls it from threads.
      num_devices: number of devices on all hosts together, D.
      accumulate: micro-batches that are summed in one step, A.
      process_index: this host, h.
      process_count: number of hosts, H.

    Raises:
      ValueError: the batch can't be divided evenly.
    """

    def __init__(
        self,
        plan: BatchPlan,
        assemble: Assemble,
        num_devices: int,
        accumulate: int = 1,
        process_index: int = 0,
        process_count: int = 1,
    ):
        if num_devices < 1 or accumulate < 1 or plan.batch_size % (num_devices * accumulate):
            raise ValueError(
                f"batch_size={plan.batch_size} must be a multiple of devices × accumulate_steps = "
                f"{num_devices} × {accumulate} = {num_devices * accumulate}: change one of them."
            )
        if num_devices % process_count or not 0 <= process_index < process_count:
            raise ValueError(
                f"{num_devices} devices on {process_count} processes, of which this is number "
                f"{process_index}: expected the same number of devices in each process."
            )
        self.plan = plan
        self.assemble = assemble
        self.num_devices = num_devices
        self.accumulate = accumulate
        local = num_devices // process_count
        self._local = slice(process_index * local, (process_index + 1) * local)

    def row_ids(self, step: int) -> Int64[np.ndarray, " B"]:
        """Returns the row ids of the global batch, FILL where there are too few rows."""
        return self.plan.step(step).rows

    def batch(self, step: int) -> Batch:
        """Returns this host's arrays of a step, each [D_local, A, …]."""
        rows, bucket_length = self.plan.step(step)
        layout = rows.reshape(self.num_devices, self.accumulate, -1)[self._local]
        devices = [
            _stack([self.assemble(micro, bucket_length, rows) for micro in device])
            for device in layout
        ]
        return _stack(devices)

    def iterate(self, start_step: int = 0, num_steps: int | None = None) -> Iterator[Batch]:
        """Yields batches from a step on; threads prepare them ahead.

        An error in `assemble` is raised here, at the step where it belongs. The threads end when
        the iterator is closed or garbage-collected.

        Args:
          start_step: the first step.
          num_steps: the number of batches; None means no end.
        """
        stop = sys.maxsize if num_steps is None else start_step + num_steps
        steps = grain.MapDataset.range(start_step, stop).map(self.batch)
        options = grain.ReadOptions(
            num_threads=_PREFETCH_THREADS, prefetch_buffer_size=_PREFETCH_BATCHES
        )
        batches = iter(steps.to_iter_dataset(options))
        try:
            yield from batches
        finally:
            batches.close()


def _stack(parts: Sequence[Batch]) -> Batch:
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}
