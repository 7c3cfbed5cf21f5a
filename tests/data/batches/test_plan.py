"""The plan of batches is a pure function of (seed, step), and its buckets pad least."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.data.batches.plan import (
    BatchPlan,
    batches_by_length,
    fixed_buckets,
    quantile_buckets,
)
from conkd_jax.data.rows.contract import FILL
from tests.data.batches.small_rows import BUCKETS, ROWS

lengths = st.lists(st.integers(1, 60), min_size=1, max_size=60)


@settings(max_examples=150, deadline=None)
@given(lengths, st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**70))
def test_an_epoch_holds_every_row_once_in_a_bucket_that_holds_it(lengths, batch, buckets, seed):
    plan = BatchPlan(lengths, batch, quantile_buckets(lengths, buckets, 4), seed)
    assert plan.steps_per_epoch == -(-len(lengths) // batch)
    shapes = []
    for epoch in range(2):
        first = epoch * plan.steps_per_epoch
        steps = [plan.step(first + i) for i in range(plan.steps_per_epoch)]
        rows = np.concatenate([step.rows for step in steps])
        assert sorted(rows[rows != FILL].tolist()) == list(range(len(lengths)))
        assert sum((step.rows == FILL).any() for step in steps) <= 1
        for step in steps:
            real = step.rows[step.rows != FILL]
            assert len(step.rows) == batch
            longest = max(lengths[row] for row in real)
            # no shorter bucket would do
            assert step.bucket_length == min(b for b in plan.bucket_lengths if b >= longest)
            assert set(real) <= set(plan.rows_padded_to(step.bucket_length).tolist())
        shapes.append(Counter(step.bucket_length for step in steps))
    assert shapes[0] == shapes[1]
    owners = np.concatenate([plan.rows_of(bucket) for bucket in plan.bucket_lengths])
    assert sorted(owners.tolist()) == list(range(len(lengths)))


def test_the_order_depends_on_seed_and_epoch_alone():
    def epoch(seed, number):
        plan = BatchPlan(ROWS.lengths, 8, BUCKETS, seed)
        steps = range(number * plan.steps_per_epoch, (number + 1) * plan.steps_per_epoch)
        return [tuple(plan.step(step).rows.tolist()) for step in steps]

    assert epoch(1, 3) == epoch(1, 3)
    assert len({tuple(epoch(seed, number)) for seed in (1, 2) for number in (0, 1)}) == 4
    # batches mix: two rows that shared one in an epoch rarely share one in the next
    assert {frozenset(batch) for batch in epoch(1, 0)} != {
        frozenset(batch) for batch in epoch(1, 1)
    }


def test_seeking_far_costs_one_epoch():
    plan = BatchPlan(ROWS.lengths, 8, BUCKETS, 1)
    far = plan.step(10**12)
    again = BatchPlan(ROWS.lengths, 8, BUCKETS, 1).step(10**12)
    assert np.array_equal(far.rows, again.rows)
    with pytest.raises(IndexError):
        plan.step(-1)


def test_a_plan_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="longest row has 9 tokens"):
        BatchPlan([4, 9], 2, (8,), 0)
    with pytest.raises(ValueError, match="needs at least one row"):
        BatchPlan([], 2, (8,), 0)
    with pytest.raises(ValueError, match="batch_size"):
        BatchPlan([4], 0, (8,), 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 4), st.integers(1, 5))
def test_no_other_buckets_pad_less(lengths, num_buckets, multiple):
    def padded(buckets):
        return sum(min(b for b in buckets if b >= length) for length in lengths)

    found = quantile_buckets(lengths, num_buckets, multiple)
    sizes = sorted({-(-length // multiple) * multiple for length in lengths})
    best = min(
        padded((*some, sizes[-1]))
        for count in range(min(num_buckets, len(sizes)))
        for some in itertools.combinations(sizes[:-1], count)
    )
    assert padded(found) == best
    assert len(found) <= num_buckets
    assert list(found) == sorted(set(found))
    assert all(bucket % multiple == 0 for bucket in found)
    longest = max(lengths)
    cut = quantile_buckets(lengths, num_buckets, multiple, limit=longest)
    assert cut == (*found[:-1], longest)


@given(st.integers(0, 3_000), st.integers(0, 3_000))
def test_fixed_buckets_are_the_same_for_all_rows(one, other):
    short, long = sorted((one, other))
    found = fixed_buckets(long)
    assert found[-1] >= long and (len(found) == 1 or found[-2] < long)
    assert found[: len(fixed_buckets(short))] == fixed_buckets(short)
    assert all(length % 16 == 0 for length in found)
    assert all(b - a <= max(16, a / 4) for a, b in itertools.pairwise(found))


def test_fixed_buckets_end_at_the_models_positions():
    assert fixed_buckets(150, limit=152) == (*fixed_buckets(128), 152)
    with pytest.raises(ValueError, match="153 tokens, but the model has 152 positions"):
        fixed_buckets(153, limit=152)


@given(st.lists(st.integers(0, 90), max_size=40), st.integers(1, 7))
def test_batches_by_length_hold_every_row_once(lengths, size):
    buckets = fixed_buckets(max(lengths, default=0))
    found = list(batches_by_length(lengths, size, buckets))
    rows = [row for batch, _ in found for row in batch.tolist()]
    assert sorted(rows) == list(range(len(lengths)))
    assert [lengths[row] for row in rows] == sorted(lengths)
    assert all(len(batch) == size for batch, _ in found[:-1])
    for batch, bucket in found:
        longest = max(lengths[row] for row in batch)
        assert bucket == min(b for b in buckets if b >= longest)
