"""Which rows make which batch, and a batch's arrays.

This file exists so that a batch is a pure function of (seed, step, host): resuming needs the step
number alone, and hosts agree without speaking. The plan and the loader are generic; only
``LanguageModelBatches`` knows rows of tokens. Nothing here may know a model, a device or a loss.

A global batch of B rows is laid out as [D devices, A accumulated micro-batches, b rows]; host h of
H assembles its own D/H devices, that is the rows h·B/H … (h + 1)·B/H.
"""

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import grain
import numpy as np
from jaxtyping import Int64, Shaped

from conkd_jax.data.rows.contract import FILL, FORMS, Rows
from conkd_jax.data.teacher_store.files import TeacherStore
from conkd_jax.data.teacher_store.reader import TeacherOutputs
from conkd_jax.data.vocabulary import Vocabulary

WEIGHTINGS = ("sample", "token")
BUCKET_MULTIPLE = 16
_CAPACITY_MULTIPLE = 64
_PREFETCH_THREADS = 2
_PREFETCH_BATCHES = 4

Batch = dict[str, np.ndarray]
Assemble = Callable[[np.ndarray, int, np.ndarray], Batch]


class Step(NamedTuple):
    """One global batch: row ids [B], -1 where a short batch is filled, and the padded length."""

    rows: Int64[np.ndarray, " B"]
    bucket_length: int


class Plan:
    """The order of the rows in every epoch.

    A row belongs to the smallest bucket that holds it. An epoch permutes the rows within their
    buckets, lines the buckets up from short to long, cuts the line into batches and permutes these.
    A batch on the border of two buckets is padded to the longer, so that a single batch, in the
    shortest bucket, is filled with -1. Every epoch has the same steps per bucket length.

    Args:
        lengths: [R] length of each row.
        batch_size: rows in a global batch, B.
        bucket_lengths: the static lengths; the longest must hold every row.
        seed: with the epoch, all that the order depends on.

    Raises:
        ValueError: no rows, a batch size below 1, or a row that no bucket holds.
    """

    def __init__(
        self,
        lengths: Shaped[np.ndarray, " R"] | Sequence[int],
        batch_size: int,
        bucket_lengths: Sequence[int],
        seed: int,
    ):
        self.lengths = np.asarray(lengths, np.int64)
        self.batch_size = batch_size
        self.bucket_lengths = tuple(sorted(set(map(int, bucket_lengths))))
        self.seed = seed
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        if not len(self.lengths):
            raise ValueError("A plan needs at least one row; this split has none.")
        if not self.bucket_lengths or self.lengths.max() > self.bucket_lengths[-1]:
            raise ValueError(
                f"The longest row has {self.lengths.max()} tokens, the buckets are "
                f"{self.bucket_lengths}: add one that holds it, or shorten the rows."
            )
        self.bucket = np.searchsorted(self.bucket_lengths, self.lengths)  # [R]
        self._num_fill = -len(self.lengths) % batch_size
        fill = np.full(self._num_fill, FILL)
        # which bucket each place of an epoch's line is for; the same in every epoch
        self._places = np.concatenate([fill, np.sort(self.bucket)]).reshape(-1, batch_size)
        # one epoch is ≤ 1 MB; the next one is prefetched while this one is read
        self._epoch = functools.lru_cache(maxsize=2)(self._draw_epoch)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return len(self._places)

    def step(self, step: int) -> Step:
        """The global batch of a step counted from 0 over all epochs.

        Raises:
            IndexError: for a negative step.
        """
        if step < 0:
            raise IndexError(f"Steps count from 0, got {step}.")
        epoch, index = divmod(step, self.steps_per_epoch)
        rows, buckets = self._epoch(epoch)
        return Step(rows[index], self.bucket_lengths[buckets[index]])

    def rows_of(self, bucket_length: int) -> Int64[np.ndarray, " Rb"]:
        """The rows that belong to a bucket; every row belongs to one."""
        return np.flatnonzero(self.bucket == self.bucket_lengths.index(bucket_length))

    def rows_padded_to(self, bucket_length: int) -> Int64[np.ndarray, " Rb"]:
        """The rows that a batch of this length may hold in any epoch: the bucket's own, and those
        of shorter buckets that share a batch with them.
        """
        bucket = self.bucket_lengths.index(bucket_length)
        sharing = self._places[self._places[:, -1] == bucket]
        return np.flatnonzero((self.bucket == bucket) | np.isin(self.bucket, sharing))

    @property
    def real_over_padded(self) -> float:
        """Real tokens over the tokens that an epoch computes, filled rows included."""
        padded = np.asarray(self.bucket_lengths)[self._places[:, -1]].sum() * self.batch_size
        return float(self.lengths.sum() / padded)

    def _draw_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        key = np.array([self.seed % 2**64, epoch], np.uint64)
        rng = np.random.Generator(np.random.Philox(key=key))
        rows = rng.permutation(len(self.lengths))
        rows = rows[np.argsort(self.bucket[rows], kind="stable")]
        rows = np.concatenate([np.full(self._num_fill, FILL, np.int64), rows])
        order = rng.permutation(len(self._places))
        table = rows.reshape(-1, self.batch_size)[order]
        table.setflags(write=False)
        return table, self._places[order, -1]


def quantile_buckets(
    lengths: Shaped[np.ndarray, " R"] | Sequence[int],
    num_buckets: int,
    multiple: int = BUCKET_MULTIPLE,
    limit: int | None = None,
) -> tuple[int, ...]:
    """The bucket lengths that pad least.

    Among all ways to cut the sorted lengths (rounded up to ``multiple``) into at most
    ``num_buckets`` groups, each padded to its longest, the one with the fewest padded tokens:
    quantiles placed by cost.

    Args:
        lengths: [R] row lengths.
        num_buckets: most buckets; each is one compilation.
        multiple: what every bucket length is a multiple of.
        limit: the model's positions, which no row exceeds; a bucket that would is cut to them.

    Returns:
        Ascending lengths; the last holds the longest row.

    Raises:
        ValueError: for no rows or fewer than one bucket.
    """
    lengths = np.asarray(lengths, np.int64)
    if not len(lengths) or num_buckets < 1:
        raise ValueError(
            f"Expected rows and at least one bucket, got {len(lengths)} rows and {num_buckets}."
        )
    sizes, counts = np.unique(-(-np.maximum(lengths, 1) // multiple) * multiple, return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)])
    # cost[j]: padded tokens of the j smallest sizes in the best cut so far
    cost = np.where(below == 0, 0.0, np.inf)
    cuts = []
    for _ in range(min(num_buckets, len(sizes))):
        # [i, j]: the sizes i … j - 1 make one bucket of length sizes[j - 1]
        padded = (below[None, 1:] - below[:-1, None]) * sizes[None, :]
        padded = np.where(np.tri(len(sizes), k=-1, dtype=bool), np.inf, padded)
        total = cost[:-1, None] + padded
        cuts.append(np.concatenate([[0], total.argmin(0)]))
        cost = np.concatenate([[0.0], total.min(0)])
    buckets = []
    end = len(sizes)
    for cut in reversed(cuts):
        if end:
            buckets.append(int(sizes[end - 1]))
            end = int(cut[end])
    return tuple(bucket if limit is None else min(bucket, limit) for bucket in reversed(buckets))


class Loader:
    """The batches of one host.

    Args:
        plan: the order of the rows.
        assemble: (row_ids [b], bucket_length, step_rows [B]) -> the arrays of one device's
            micro-batch. ``step_rows`` is the whole global batch, so that weights count over it.
            It must be a pure function; prefetching calls it from threads.
        num_devices: devices of all hosts together, D.
        accumulate: micro-batches summed in one step, A.
        process_index: this host, h.
        process_count: number of hosts, H.

    Raises:
        ValueError: if the batch can't be cut evenly.
    """

    def __init__(
        self,
        plan: Plan,
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
                f"{num_devices} devices on {process_count} processes, this one being "
                f"{process_index}: expected the same number of devices in each."
            )
        self.plan = plan
        self.assemble = assemble
        self.num_devices = num_devices
        self.accumulate = accumulate
        local = num_devices // process_count
        self._local = slice(process_index * local, (process_index + 1) * local)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return self.plan.steps_per_epoch

    def row_ids(self, step: int) -> Int64[np.ndarray, " B"]:
        """Row ids of the global batch, -1 where filled."""
        return self.plan.step(step).rows

    def batch(self, step: int) -> Batch:
        """This host's arrays of a step, each [D_local, A, …]."""
        rows, bucket_length = self.plan.step(step)
        layout = rows.reshape(self.num_devices, self.accumulate, -1)[self._local]
        devices = [
            _stack([self.assemble(micro, bucket_length, rows) for micro in device])
            for device in layout
        ]
        return _stack(devices)

    __call__ = batch

    def iterate(self, start_step: int = 0, num_steps: int | None = None) -> Iterator[Batch]:
        """Batches from a step on, prepared ahead by threads.

        An error in ``assemble`` is raised here, at its own step. Closing the iterator, or leaving
        it to the garbage collector, ends the threads.

        Args:
            start_step: the first step.
            num_steps: how many; None means without end.
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


class LanguageModelBatches:
    """Assembles rows of a language model into one device's arrays (``Loader``'s ``assemble``).

    Beside the inputs of the rows' own kind (``Rows.inputs``, [b, …]), with N the capacity for
    response tokens and G that for responses (both fixed by the bucket and b: what the b largest
    rows of the bucket would need)::

        feature_index [N] int32      b·S-flat position of the state that predicts the target
        labels [N] int32             the target
        weights [N] float32          "sample": 1/(T · responses in the global batch), eq. 5 and §5's
                                     1/T; "token": 1/(targets in the global batch); 0 for padding
        loss_mask [N] float32        1 for a target, 0 for padding
        response_index [N] int32     the target's response among the G
        num_tokens [] int32          real targets; they come first
        response_id [G] int32        the split's response ids, -1 for padding

    and with a teacher store::

        teacher_features [N, F] (or teacher_logits [N, Y]), teacher_log_normalizer [N],
        item_mass [N] (λ of eq. 7), user_vectors [G, d], rec_head_index [G] int32

    Args:
        rows: the split.
        vocabulary: its token ids.
        plan: the plan whose buckets set the capacities.
        form: "teacher" or "student".
        weighting: "sample" or "token".
        store: teacher outputs of this very split, or None.
        cache_in_memory: a store of at most so many bytes is read once and kept.

    Raises:
        ValueError: for an unknown form or weighting, or a plan over other rows.
        StoreError: if the store was written for other responses.
    """

    def __init__(
        self,
        rows: Rows,
        vocabulary: Vocabulary,
        plan: Plan,
        form: str,
        weighting: str = "sample",
        store: TeacherStore | None = None,
        cache_in_memory: int = 0,
    ):
        if form not in FORMS or weighting not in WEIGHTINGS:
            raise ValueError(
                f"form must be one of {FORMS} and weighting one of {WEIGHTINGS}, got {form!r} and "
                f"{weighting!r}."
            )
        if not np.array_equal(plan.lengths, rows.lengths):
            raise ValueError("The plan was made for other rows: build it from rows.lengths.")
        self.rows = rows
        self.pad_id = vocabulary.pad_id
        self.plan = plan
        self.form = form
        self.weighting = weighting
        self.outputs = None
        if store is not None:
            self.outputs = TeacherOutputs(
                store, rows.response_keys, rows.targets, rows.target_offsets, cache_in_memory
            )
        self._row_targets = rows.row_targets
        self._row_responses = np.diff(rows.row_offsets)
        self.capacities = functools.lru_cache(maxsize=None)(self._capacities)

    def _capacities(self, bucket_length: int, num_rows: int) -> tuple[int, int]:
        """(N, G) for a micro-batch of ``num_rows`` rows of a bucket."""
        members = self.plan.rows_padded_to(bucket_length)

        def largest(counts: np.ndarray) -> int:
            most = int(np.sort(counts[members])[-num_rows:].sum())
            return max(1, -(-most // _CAPACITY_MULTIPLE)) * _CAPACITY_MULTIPLE

        return largest(self._row_targets), largest(self._row_responses)

    def __call__(
        self,
        row_ids: Int64[np.ndarray, " b"],
        bucket_length: int,
        step_rows: Int64[np.ndarray, " B"],
    ) -> Batch:
        rows = self.rows
        num_targets, num_responses = self.capacities(bucket_length, len(row_ids))
        inputs, first = rows.inputs(row_ids, bucket_length, self.form, self.pad_id)
        responses = rows.responses_of(row_ids)
        lengths = rows.response_length[responses].astype(np.int64)
        index = np.repeat(np.arange(len(responses)), lengths)  # [n]: the target's response
        within = np.arange(len(index)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        flat = rows.target_offsets[responses][index] + within
        weights = self._weights(lengths, step_rows)[index]
        batch = {
            **inputs,
            "feature_index": _padded(first[index] + within, num_targets, np.int32),
            "labels": _padded(rows.targets[flat], num_targets, np.int32),
            "weights": _padded(weights, num_targets, np.float32),
            "loss_mask": _padded(np.ones(len(index)), num_targets, np.float32),
            "response_index": _padded(index, num_targets, np.int32),
            "num_tokens": np.array(len(index), np.int32),
            "response_id": _padded(responses, num_responses, np.int32, FILL),
        }
        if self.outputs is not None:
            for name, values in self.outputs.gather(responses).items():
                capacity = num_targets if name in self.outputs.token_fields else num_responses
                batch[name] = _padded(values, capacity, values.dtype)
        return batch

    def _weights(self, lengths: np.ndarray, step_rows: np.ndarray) -> np.ndarray:
        """One weight per response, for each of its targets."""
        real = step_rows[step_rows != FILL]
        if self.weighting == "sample":
            return 1.0 / (lengths * self._row_responses[real].sum())
        return np.full(len(lengths), 1.0 / self._row_targets[real].sum())


def _padded(values: np.ndarray, capacity: int, dtype: np.dtype | type, fill: int = 0) -> np.ndarray:
    padded = np.full((capacity, *values.shape[1:]), fill, dtype)
    padded[: len(values)] = values
    return padded
