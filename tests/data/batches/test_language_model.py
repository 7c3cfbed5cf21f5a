"""The arrays of a batch hold what their definition says, in both forms."""

import numpy as np
import pytest

from conkd_jax.data.batches.language_model import LanguageModelBatches
from conkd_jax.data.batches.plan import BatchPlan
from conkd_jax.data.rows.contract import FILL
from tests.data.batches.small_rows import BUCKETS, ROWS, VOCABULARY, loader, make_rows, same


@pytest.mark.parametrize("weighting", ["sample", "token"])
def test_weights_sum_to_one_over_a_global_batch(weighting):
    parts = [
        loader(weighting=weighting, devices=4, accumulate=2, process_index=h, process_count=2)
        for h in range(2)
    ]
    for step in range(parts[0].plan.steps_per_epoch):
        total = sum(part.batch(step)["weights"].sum(dtype=np.float64) for part in parts)
        assert total == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("form", ["teacher", "student"])
def test_arrays_are_what_a_plain_loop_gives(form):
    read = loader(form=form)
    for step in range(read.plan.steps_per_epoch):
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
    for step in range(teacher.plan.steps_per_epoch):
        one, other = teacher.batch(step), student.batch(step)
        differs = one["input_ids"] != other["input_ids"]
        assert differs.any()
        assert (one["input_ids"][differs] == VOCABULARY.end_id).all()
        del one["input_ids"], other["input_ids"]
        assert same(one, other)


def test_filled_rows_weigh_nothing():
    read = loader(batch_size=8, devices=8)
    filled = [s for s in range(read.plan.steps_per_epoch) if (read.row_ids(s) == FILL).any()]
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
    for step in range(6 * read.plan.steps_per_epoch):
        batch = read.batch(step)
        shape = {name: (values.shape, values.dtype) for name, values in batch.items()}
        assert shapes.setdefault(read.plan.step(step).bucket_length, shape) == shape
        assert batch["labels"].shape[-1] % 64 == 0
    assert set(shapes) <= set(BUCKETS)
    assert len(shapes) > 1


def test_options_and_rows_that_do_not_fit_are_refused():
    plan = BatchPlan(ROWS.lengths, 8, BUCKETS, 5)
    with pytest.raises(ValueError, match="form must be"):
        LanguageModelBatches(ROWS, VOCABULARY, plan, "pupil")
    with pytest.raises(ValueError, match="weighting one of"):
        LanguageModelBatches(ROWS, VOCABULARY, plan, "student", "row")
    with pytest.raises(ValueError, match="made for other rows"):
        LanguageModelBatches(make_rows(seed=1), VOCABULARY, plan, "student")
