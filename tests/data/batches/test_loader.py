"""Batches of one host: a pure function of (seed, step, host), and errors at their own step."""

import threading

import numpy as np
import pytest

from conkd_jax.data.batches.loader import BatchLoader
from conkd_jax.data.batches.plan import BatchPlan
from tests.data.batches.small_rows import loader, same


@pytest.mark.parametrize("processes", [2, 4])
def test_hosts_together_read_the_batch_of_one(processes):
    whole = loader(batch_size=16, devices=4, accumulate=2)
    parts = [
        loader(batch_size=16, devices=4, accumulate=2, process_index=h, process_count=processes)
        for h in range(processes)
    ]
    for step in range(whole.plan.steps_per_epoch + 2):
        union = [part.batch(step) for part in parts]
        joined = {name: np.concatenate([part[name] for part in union]) for name in union[0]}
        assert same(joined, whole.batch(step))
        assert all(np.array_equal(part.row_ids(step), whole.row_ids(step)) for part in parts)


def test_resuming_reads_what_a_straight_run_reads():
    steps = 2 * loader().plan.steps_per_epoch + 1
    straight = list(loader().iterate(0, steps))
    assert len(straight) == steps
    for start in (1, loader().plan.steps_per_epoch, steps - 1):
        resumed = list(loader().iterate(start, steps - start))
        assert all(same(a, b) for a, b in zip(straight[start:], resumed, strict=True))


def test_devices_share_the_same_rows_and_weights():
    one, eight = loader(), loader(devices=8)
    two_by_two = loader(devices=2, accumulate=2)
    for step in range(one.plan.steps_per_epoch):
        found = []
        for split in (one, eight, two_by_two):
            batch = split.batch(step)
            real = batch["loss_mask"] == 1
            tokens = sorted(zip(batch["labels"][real], batch["weights"][real], strict=True))
            rows = batch["input_ids"].reshape(8, -1)
            found.append((tokens, rows.tolist(), batch["num_tokens"].sum()))
        assert found[0] == found[1] == found[2]


def test_an_uneven_batch_is_refused():
    with pytest.raises(ValueError, match="batch_size=8 must be a multiple of .* 3 × 2 = 6"):
        loader(devices=3, accumulate=2)
    with pytest.raises(ValueError, match="same number of devices"):
        loader(devices=4, process_index=0, process_count=3)
    with pytest.raises(ValueError, match="same number of devices"):
        loader(devices=4, process_index=2, process_count=2)


def numbers(fail_at: int = -1) -> BatchLoader:
    plan = BatchPlan([1] * 12, 2, (1,), 0)

    def assemble(row_ids, bucket_length, step_rows):
        if fail_at in step_rows:
            raise RuntimeError(f"row {fail_at} is broken")
        return {"rows": np.array(row_ids)}

    return BatchLoader(plan, assemble, 2)


def test_any_assembler_goes_with_the_loader():
    batches = list(numbers().iterate(0, 6))
    assert batches[0]["rows"].shape == (2, 1, 1)
    assert sorted(np.concatenate([b["rows"].ravel() for b in batches])) == list(range(12))


def test_an_error_is_raised_at_its_own_step():
    read = numbers(fail_at=7)
    step = next(s for s in range(6) if 7 in read.row_ids(s))
    batches = read.iterate(0)
    for _ in range(step):
        next(batches)
    with pytest.raises(RuntimeError, match="row 7 is broken"):
        next(batches)


def test_closing_ends_the_threads():
    before = set(threading.enumerate())
    batches = numbers().iterate(3)
    next(batches)
    assert set(threading.enumerate()) - before
    batches.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=600)
        assert not thread.is_alive()
