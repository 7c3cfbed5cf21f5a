"""A batch is a pure function of (seed, step, host), and its arrays mean what they say."""

import itertools
import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.data.batches import FILL, LanguageModelBatches, Loader, Plan, quantile_buckets
from conkd_jax.data.corpus import Dialogue, Turn
from conkd_jax.data.rows.dialogue import build_rows
from conkd_jax.data.vocabulary import Vocabulary, train_bpe

VOCABULARY = Vocabulary(train_bpe(["hello there good movie"] * 3, 265), [1, 22], ["One", "Two"])


def make_rows(num_dialogues: int = 37, seed: int = 0):
    rng = np.random.default_rng(seed)

    def turns():
        for i in range(rng.integers(2, 9)):
            text = " ".join(rng.choice(["good", "movie", "@1", "@22", "xyz"], rng.integers(0, 9)))
            yield Turn(("seeker", "recommender")[i % 2], text)

    dialogues = [Dialogue(f"d{i}", tuple(turns())) for i in range(num_dialogues)]
    return build_rows(dialogues, VOCABULARY, 128, 12)


ROWS = make_rows()
BUCKETS = quantile_buckets(ROWS.lengths, 3)


def loader(form="student", weighting="sample", batch_size=8, devices=1, accumulate=1, **host):
    plan = Plan(ROWS.lengths, batch_size, BUCKETS, 5)
    assemble = LanguageModelBatches(ROWS, VOCABULARY, plan, form, weighting)
    return Loader(plan, assemble, devices, accumulate, **host)


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


lengths = st.lists(st.integers(1, 60), min_size=1, max_size=60)


@settings(max_examples=150, deadline=None)
@given(lengths, st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**70))
def test_an_epoch_holds_every_row_once_in_a_bucket_that_holds_it(lengths, batch, buckets, seed):
    plan = Plan(lengths, batch, quantile_buckets(lengths, buckets, 4), seed)
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
    padded = sum(batch * bucket * count for bucket, count in shapes[0].items())
    assert plan.real_over_padded == pytest.approx(sum(lengths) / padded)


def test_the_order_depends_on_seed_and_epoch_alone():
    def epoch(seed, number):
        plan = Plan(ROWS.lengths, 8, BUCKETS, seed)
        steps = range(number * plan.steps_per_epoch, (number + 1) * plan.steps_per_epoch)
        return [tuple(plan.step(step).rows.tolist()) for step in steps]

    assert epoch(1, 3) == epoch(1, 3)
    assert len({tuple(epoch(seed, number)) for seed in (1, 2) for number in (0, 1)}) == 4
    # batches mix: two rows that shared one in an epoch rarely share one in the next
    assert {frozenset(batch) for batch in epoch(1, 0)} != {
        frozenset(batch) for batch in epoch(1, 1)
    }


def test_seeking_far_costs_one_epoch():
    plan = Plan(ROWS.lengths, 8, BUCKETS, 1)
    far = plan.step(10**12)
    again = Plan(ROWS.lengths, 8, BUCKETS, 1).step(10**12)
    assert np.array_equal(far.rows, again.rows)
    with pytest.raises(IndexError):
        plan.step(-1)


def test_a_plan_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="longest row has 9 tokens"):
        Plan([4, 9], 2, (8,), 0)
    with pytest.raises(ValueError, match="at least one row"):
        Plan([], 2, (8,), 0)
    with pytest.raises(ValueError, match="batch_size"):
        Plan([4], 0, (8,), 0)


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


@pytest.mark.parametrize("processes", [2, 4])
def test_hosts_together_read_the_batch_of_one(processes):
    whole = loader(batch_size=16, devices=4, accumulate=2)
    parts = [
        loader(batch_size=16, devices=4, accumulate=2, process_index=h, process_count=processes)
        for h in range(processes)
    ]
    for step in range(whole.steps_per_epoch + 2):
        union = [part.batch(step) for part in parts]
        joined = {name: np.concatenate([part[name] for part in union]) for name in union[0]}
        assert same(joined, whole.batch(step))
        assert all(np.array_equal(part.row_ids(step), whole.row_ids(step)) for part in parts)


def test_resuming_reads_what_a_straight_run_reads():
    steps = 2 * loader().steps_per_epoch + 1
    straight = list(loader().iterate(0, steps))
    assert len(straight) == steps
    for start in (1, loader().steps_per_epoch, steps - 1):
        resumed = list(loader().iterate(start, steps - start))
        assert all(same(a, b) for a, b in zip(straight[start:], resumed, strict=True))


def test_devices_share_the_same_rows_and_weights():
    one, eight = loader(), loader(devices=8)
    two_by_two = loader(devices=2, accumulate=2)
    for step in range(one.steps_per_epoch):
        found = []
        for split in (one, eight, two_by_two):
            batch = split.batch(step)
            real = batch["loss_mask"] == 1
            tokens = sorted(zip(batch["labels"][real], batch["weights"][real], strict=True))
            rows = batch["input_ids"].reshape(8, -1)
            found.append((tokens, rows.tolist(), batch["num_tokens"].sum()))
        assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("weighting", ["sample", "token"])
def test_weights_sum_to_one_over_a_global_batch(weighting):
    parts = [
        loader(weighting=weighting, devices=4, accumulate=2, process_index=h, process_count=2)
        for h in range(2)
    ]
    for step in range(parts[0].steps_per_epoch):
        total = sum(part.batch(step)["weights"].sum(dtype=np.float64) for part in parts)
        assert total == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("form", ["teacher", "student"])
def test_arrays_are_what_a_plain_loop_gives(form):
    read = loader(form=form)
    for step in range(read.steps_per_epoch):
        row_ids, bucket = read.plan.step(step)
        batch = {name: values[0, 0] for name, values in read.batch(step).items()}
        responses = [
            n for row in row_ids if row != FILL
            for n in range(ROWS.num_responses) if ROWS.response_row[n] == row
        ]  # fmt: skip
        expected = []
        for index, n in enumerate(responses):
            slot = row_ids.tolist().index(ROWS.response_row[n])
            for t, label in enumerate(ROWS.response_targets(n).tolist()):
                place = slot * bucket + int(ROWS.response_start[n]) + t
                weight = 1 / (int(ROWS.response_length[n]) * len(responses))
                expected.append((place, label, pytest.approx(weight), index))
        count = int(batch["num_tokens"])
        names = ("feature_index", "labels", "weights", "response_index")
        assert list(zip(*(batch[name][:count].tolist() for name in names), strict=True)) == expected
        assert batch["response_id"].tolist()[: len(responses)] == responses
        assert set(batch["response_id"].tolist()[len(responses) :]) <= {FILL}
        assert batch["loss_mask"].tolist() == [1] * count + [0] * (len(batch["labels"]) - count)
        for name in names:
            assert not batch[name][count:].any()
        # the state before a target reads the target before it, or what opens the response
        flat = batch["input_ids"].ravel()
        for i in range(count):
            read_there = flat[batch["feature_index"][i]]
            if i and batch["response_index"][i] == batch["response_index"][i - 1]:
                assert read_there == batch["labels"][i - 1]
            elif form == "teacher":
                assert read_there == VOCABULARY.end_id
            else:
                assert read_there in (VOCABULARY.gen_id, VOCABULARY.rec_id)


def test_both_forms_pair_target_by_target():
    teacher, student = loader(form="teacher"), loader(form="student")
    for step in range(teacher.steps_per_epoch):
        one, other = teacher.batch(step), student.batch(step)
        differs = one["input_ids"] != other["input_ids"]
        assert differs.any()
        assert (one["input_ids"][differs] == VOCABULARY.end_id).all()
        del one["input_ids"], other["input_ids"]
        assert same(one, other)


def test_filled_rows_weigh_nothing():
    read = loader(batch_size=8, devices=8)
    filled = [s for s in range(read.steps_per_epoch) if (read.row_ids(s) == FILL).any()]
    assert len(filled) == 1
    batch = read.batch(filled[0])
    empty = read.row_ids(filled[0]) == FILL
    assert (batch["input_ids"][empty] == VOCABULARY.pad_id).all()
    for name in ("weights", "loss_mask", "num_tokens"):
        assert not batch[name][empty].any()
    assert batch["weights"].sum() == pytest.approx(1, abs=1e-6)


def test_shapes_are_fixed_by_the_bucket():
    read = loader(devices=2, accumulate=2)
    shapes = {}
    for step in range(6 * read.steps_per_epoch):
        batch = read.batch(step)
        shape = {name: (values.shape, values.dtype) for name, values in batch.items()}
        assert shapes.setdefault(read.plan.step(step).bucket_length, shape) == shape
        assert batch["labels"].shape[-1] % 64 == 0
    assert set(shapes) <= set(BUCKETS)
    assert len(shapes) > 1


def test_an_uneven_batch_is_refused():
    with pytest.raises(ValueError, match="batch_size=8 must be a multiple of .* 3 × 2 = 6"):
        loader(devices=3, accumulate=2)
    with pytest.raises(ValueError, match="same number of devices"):
        loader(devices=4, process_index=0, process_count=3)
    with pytest.raises(ValueError, match="same number of devices"):
        loader(devices=4, process_index=2, process_count=2)


def test_options_and_rows_that_do_not_fit_are_refused():
    plan = Plan(ROWS.lengths, 8, BUCKETS, 5)
    with pytest.raises(ValueError, match="form must be"):
        LanguageModelBatches(ROWS, VOCABULARY, plan, "pupil")
    with pytest.raises(ValueError, match="weighting one of"):
        LanguageModelBatches(ROWS, VOCABULARY, plan, "student", "row")
    with pytest.raises(ValueError, match="made for other rows"):
        LanguageModelBatches(make_rows(seed=1), VOCABULARY, plan, "student")


def numbers(fail_at: int = -1) -> Loader:
    plan = Plan([1] * 12, 2, (1,), 0)

    def assemble(row_ids, bucket_length, step_rows):
        if fail_at in step_rows:
            raise RuntimeError(f"row {fail_at} is broken")
        return {"rows": np.array(row_ids)}

    return Loader(plan, assemble, 2)


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
        thread.join(timeout=10)
        assert not thread.is_alive()
