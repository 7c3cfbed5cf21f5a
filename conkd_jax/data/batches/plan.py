"""The batch plan: which rows make which batch, in every epoch.

The plan is a pure function of a seed and the row lengths. Resuming therefore needs the step number
alone, and hosts agree on every batch without communication. What is scored or decoded needs no
epochs: `batches_by_length` goes once through its rows. This module is independent of what a row
holds, and of models and devices.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, Shaped

from conkd_jax.data.rows.contract import FILL

BUCKET_MULTIPLE = 16


class PlannedBatch(NamedTuple):
    """One global batch.

    Attributes:
      rows: [B] row ids, FILL where there are too few rows.
      bucket_length: the length that the rows are padded to.
    """

    rows: Int64[np.ndarray, " B"]
    bucket_length: int


class BatchPlan:
    """The order of the rows in every epoch.

    A row belongs to the smallest bucket that holds it. An epoch shuffles the rows within their
    buckets, lines the buckets up from short to long, cuts the line into batches and shuffles the
    batches. A batch across the border of two buckets is padded to the longer length, so at most one
    batch, in the shortest bucket, has to be filled. Every epoch has the same number of steps per
    bucket length.

    Args:
      lengths: [R] length of each row.
      batch_size: rows in a global batch, B.
      bucket_lengths: the static lengths; the longest holds every row.
      seed: the order of the rows depends on the seed and the epoch only.

    Raises:
      ValueError: there are no rows, the batch size is below 1, or a row fits into no bucket.
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
                f"{self.bucket_lengths}: add a bucket that holds it, or shorten the rows."
            )
        self.bucket = np.searchsorted(self.bucket_lengths, self.lengths)  # [R]
        self._num_fill = -len(self.lengths) % batch_size
        fill = np.full(self._num_fill, FILL)
        # [steps, B]: the bucket of each place in an epoch's line, before the batches are shuffled.
        # Rows are shuffled within their bucket only, so this table holds for every epoch, and the
        # last place of a batch, its longest row, gives the length that the batch is padded to.
        self._places = np.concatenate([fill, np.sort(self.bucket)]).reshape(-1, batch_size)
        # Two epochs, of at most 1 MB each: threads prefetch the next one while this one is read.
        self._epoch = functools.lru_cache(maxsize=2)(self._draw_epoch)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return len(self._places)

    def step(self, step: int) -> PlannedBatch:
        """Returns the global batch of a step; steps count from 0 over all epochs.

        Raises:
          IndexError: the step is negative.
        """
        if step < 0:
            raise IndexError(f"Steps count from 0, got {step}.")
        epoch, index = divmod(step, self.steps_per_epoch)
        rows, buckets = self._epoch(epoch)
        return PlannedBatch(rows[index], self.bucket_lengths[buckets[index]])

    def rows_of(self, bucket_length: int) -> Int64[np.ndarray, " Rb"]:
        """Returns the rows that belong to a bucket; every row belongs to exactly one."""
        return np.flatnonzero(self.bucket == self.bucket_lengths.index(bucket_length))

    def rows_padded_to(self, bucket_length: int) -> Int64[np.ndarray, " Rb"]:
        """Returns the rows that a batch of this length may hold in some epoch.

        These are the bucket's own rows, and those of shorter buckets that share a batch with them.
        """
        bucket = self.bucket_lengths.index(bucket_length)
        sharing = self._places[self._places[:, -1] == bucket]
        return np.flatnonzero((self.bucket == bucket) | np.isin(self.bucket, sharing))

    def _draw_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        key = np.array([self.seed % 2**64, epoch], np.uint64)
        rng = np.random.Generator(np.random.Philox(key=key))
        rows = rng.permutation(len(self.lengths))
        # A stable sort by bucket keeps the random order within each bucket.
        rows = rows[np.argsort(self.bucket[rows], kind="stable")]
        rows = np.concatenate([np.full(self._num_fill, FILL, np.int64), rows])
        order = rng.permutation(len(self._places))
        table = rows.reshape(-1, self.batch_size)[order]
        table.setflags(write=False)  # the cache lends it to every caller
        return table, self._places[order, -1]


def quantile_buckets(
    lengths: Shaped[np.ndarray, " R"] | Sequence[int],
    num_buckets: int,
    multiple: int = BUCKET_MULTIPLE,
    limit: int | None = None,
) -> tuple[int, ...]:
    """Returns the bucket lengths that need the least padding.

    Of all ways to cut the sorted lengths (rounded up to `multiple`) into at most `num_buckets`
    groups, each padded to its longest row, this is the one with the fewest tokens in total. Dynamic
    programming over the distinct lengths finds it.

    Args:
      lengths: [R] row lengths.
      num_buckets: the most buckets; each costs a compilation.
      multiple: every bucket length is a multiple of this.
      limit: the model's number of positions, which no row exceeds; a longer bucket is cut to it.

    Returns:
      Ascending lengths; the last one holds the longest row.

    Raises:
      ValueError: there are no rows, or fewer than one bucket is allowed.
    """
    lengths = np.asarray(lengths, np.int64)
    if not len(lengths) or num_buckets < 1:
        raise ValueError(
            f"Expected at least one row and one bucket, got {len(lengths)} rows and {num_buckets} "
            "buckets."
        )
    sizes, counts = np.unique(-(-np.maximum(lengths, 1) // multiple) * multiple, return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)])
    # cost[j]: the tokens of the j smallest sizes, cut in the best way into the buckets so far
    cost = np.where(below == 0, 0.0, np.inf)
    cuts = []
    for _ in range(min(num_buckets, len(sizes))):
        # [i, j]: the tokens of the sizes i … j in a bucket of their own, of length sizes[j];
        # i > j is no bucket.
        padded = (below[None, 1:] - below[:-1, None]) * sizes[None, :]
        padded = np.where(np.tri(len(sizes), k=-1, dtype=bool), np.inf, padded)
        total = cost[:-1, None] + padded
        cuts.append(np.concatenate([[0], total.argmin(0)]))
        cost = np.concatenate([[0.0], total.min(0)])
    # Walk back from the longest size: `cuts` says where the bucket that ends there begins.
    buckets = []
    end = len(sizes)
    for cut in reversed(cuts):
        if end:
            buckets.append(int(sizes[end - 1]))
            end = int(cut[end])
    return tuple(bucket if limit is None else min(bucket, limit) for bucket in reversed(buckets))


def fixed_buckets(longest: int, limit: int | None = None) -> tuple[int, ...]:
    """Returns bucket lengths that are the same for every set of rows, as far as they are needed.

    16, 32, 48, 64, and from there on four for every doubling: 80, 96, 112, 128, 160, 192, … Sets of
    rows that are scored one after the other, such as those of two splits, thus share what is
    compiled. Buckets of their own (`quantile_buckets`) would need less padding, and a compilation
    for each set.

    Args:
      longest: tokens of the longest row.
      limit: the model's number of positions; a longer bucket is cut to it.

    Returns:
      Ascending lengths; the last one holds the longest row.

    Raises:
      ValueError: the longest row exceeds the limit.

    >>> fixed_buckets(150), fixed_buckets(150, limit=152)[-1]
    ((16, 32, 48, 64, 80, 96, 112, 128, 160), 152)
    """
    if limit is not None and longest > limit:
        raise ValueError(
            f"The longest row has {longest} tokens, but the model has {limit} positions: shorten "
            "the rows, or train a model with more positions."
        )
    buckets = [BUCKET_MULTIPLE]
    while (last := buckets[-1]) < longest:
        step = 1 << (last.bit_length() - 1) >> 2  # a quarter of the power of two below
        buckets.append(last + max(step, BUCKET_MULTIPLE))
    return tuple(bucket if limit is None else min(bucket, limit) for bucket in buckets)


def batches_by_length(
    lengths: Shaped[np.ndarray, " R"] | Sequence[int],
    batch_size: int,
    bucket_lengths: Sequence[int],
) -> Iterator[tuple[Int64[np.ndarray, " b"], int]]:
    """Goes once through all rows, in batches of similar lengths, from short to long.

    Args:
      lengths: [R] length of each row.
      batch_size: rows in a batch; the last one may have fewer.
      bucket_lengths: the static lengths, ascending.

    Yields:
      The rows of a batch, and the smallest bucket that holds them, or else the longest one.
    """
    lengths = np.asarray(lengths, np.int64)
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        bucket = np.searchsorted(bucket_lengths, lengths[rows[-1]])
        yield rows, bucket_lengths[min(int(bucket), len(bucket_lengths) - 1)]
