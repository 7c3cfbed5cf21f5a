"""Teacher outputs in a batch: paired response by response, cached or not."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest

from conkd_jax.data.batches.language_model import LanguageModelBatches
from conkd_jax.data.batches.loader import BatchLoader
from conkd_jax.data.batches.plan import BatchPlan, quantile_buckets
from conkd_jax.data.corpus import Dialogue, Turn
from conkd_jax.data.rows.dialogue import build_dialogue_rows
from conkd_jax.data.teacher_store.files import TeacherStore, TeacherStoreWriter
from conkd_jax.data.teacher_store.reader import TeacherStoreReader
from conkd_jax.data.teacher_store.schema import (
    FORMATS,
    TOKEN_IDS,
    TeacherHeads,
    TeacherRecord,
    TeacherStoreError,
    TeacherStoreSpec,
)
from conkd_jax.data.tokenizers.bpe import train_bpe
from conkd_jax.data.vocabulary import Vocabulary

VOCABULARY = Vocabulary(train_bpe(["hello good movie"] * 3, 262), [1, 22], ["One", "Two"])
F, D = 6, 4
IN_MEMORY = 10**9


def dialogues(count: int = 24) -> list[Dialogue]:
    rng = np.random.default_rng(3)
    return [
        Dialogue(
            f"d{i}",
            tuple(
                Turn(("seeker", "recommender")[t % 2], " ".join(rng.choice(["good", "@1", "x"], 4)))
                for t in range(rng.integers(2, 8))
            ),
        )
        for i in range(count)
    ]


ROWS = build_dialogue_rows(dialogues(), VOCABULARY, 64, 6)


def record_of(n: int, spec: TeacherStoreSpec) -> TeacherRecord:
    """Numbers that tell response n and target t apart."""
    length = int(ROWS.response_length[n])
    steps = np.arange(length, dtype=np.float32)
    outputs = np.zeros((length, spec.width), np.float32)
    outputs[:, 0], outputs[:, 1] = n, steps
    return TeacherRecord(
        *ROWS.response_keys[n],
        targets=ROWS.response_targets(n),
        outputs=spec.round(outputs),
        item_mass=n + steps / 100,
        log_normalizer=-n - steps / 100,
        user_vector=np.full(D, n, np.float32),
        rec_head_index=n % 3,
        token_ids=None if spec.id_dtype is None else ids_of(n, length).astype(spec.id_dtype),
    )


def ids_of(n, length) -> np.ndarray:
    """Three targets at each step of response n."""
    return (n + np.arange(length)[:, None] + np.arange(3)) % VOCABULARY.num_targets


def make_store(directory, format="features", change=lambda record: record) -> TeacherStore:
    y = VOCABULARY.num_targets
    width = {"features": F, "dense": y, "topk": 3}[format]
    spec = TeacherStoreSpec(format, "bfloat16", width, D, y if format == "topk" else None)
    writer = TeacherStoreWriter(directory, spec, {"split": "train"}, ROWS.row_offsets, 3)
    for shard in writer.missing_shards():
        made = (change(record_of(n, spec)) for n in writer.shard_responses(shard))
        writer.write_shard(shard, made)
    rec = (np.zeros((3, D, 2), np.float32), np.zeros((3, 2), np.float32))
    head = (np.zeros((F, y), np.float32), np.zeros(y, np.float32))
    writer.finish(TeacherHeads(*rec, *(head if format == "features" else ())))
    return TeacherStore.open(directory)


def outputs_of(store: TeacherStore, cache_in_memory: int = 0, rows=ROWS) -> TeacherStoreReader:
    return TeacherStoreReader(
        store, rows.response_keys, rows.targets, rows.target_offsets, cache_in_memory
    )


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("cache_in_memory", [0, IN_MEMORY])
def test_a_batch_pairs_target_by_target(tmp_path, format, cache_in_memory):
    store = make_store(tmp_path, format)
    plan = BatchPlan(ROWS.lengths, 8, quantile_buckets(ROWS.lengths, 2), 0)
    assemble = LanguageModelBatches(
        ROWS, VOCABULARY, plan, "student", store=store, cache_in_memory=cache_in_memory
    )
    read = BatchLoader(plan, assemble, 2, 2)
    for step in range(plan.steps_per_epoch):
        batch = read.batch(step)
        for place in np.ndindex(2, 2):
            part = {name: values[place] for name, values in batch.items()}
            count, responses = int(part["num_tokens"]), part["response_id"]
            ids = responses[part["response_index"][:count]]
            outputs = part[FORMATS[format]]
            assert outputs.dtype == ml_dtypes.bfloat16
            assert outputs.shape == (len(part["labels"]), store.spec.width)
            steps = np.concatenate(
                [np.arange(ROWS.response_length[n]) for n in responses[responses >= 0]] or [[]]
            )
            np.testing.assert_array_equal(outputs[:count, 0].astype(int), ids)
            np.testing.assert_array_equal(outputs[:count, 1].astype(int), steps)
            if format == "topk":
                assert part[TOKEN_IDS].dtype == np.uint16
                wanted = [ids_of(n, ROWS.response_length[n]) for n in responses[responses >= 0]]
                np.testing.assert_array_equal(part[TOKEN_IDS][:count], np.concatenate(wanted))
            np.testing.assert_allclose(part["item_mass"][:count], ids + steps / 100, rtol=1e-6)
            np.testing.assert_allclose(
                part["teacher_log_normalizer"][:count], -ids - steps / 100, rtol=1e-6
            )
            real = responses >= 0
            np.testing.assert_array_equal(part["user_vectors"][real, 0], responses[real])
            np.testing.assert_array_equal(part["rec_head_index"][real], responses[real] % 3)
            assert not outputs[count:].any()
            assert not part["item_mass"][count:].any()
            assert not part["user_vectors"][~real].any()


@pytest.mark.parametrize("format", FORMATS)
def test_memory_and_disk_give_the_same(tmp_path, format):
    store = make_store(tmp_path, format)
    disk, memory = outputs_of(store), outputs_of(store, IN_MEMORY)
    for chosen in ([5, 0, 5, 9], [], list(range(ROWS.num_responses))):
        ids = np.array(chosen, np.int64)
        one, other = disk.gather(ids), memory.gather(ids)
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].dtype == other[name].dtype
            np.testing.assert_array_equal(one[name], other[name])


def test_a_store_over_the_limit_stays_on_disk(tmp_path, monkeypatch):
    store = make_store(tmp_path)
    per_response = 4 * (D + 1)
    size = len(ROWS.targets) * (2 * F + 8) + ROWS.num_responses * per_response
    in_memory, on_disk = outputs_of(store, size), outputs_of(store, size - 1)

    def fail(response_ids):
        raise OSError("the store is read")

    monkeypatch.setattr(store, "read", fail)
    assert len(in_memory.gather(np.array([3]))["rec_head_index"]) == 1
    with pytest.raises(OSError, match="is read"):
        on_disk.gather(np.array([3]))


@pytest.mark.parametrize("cache_in_memory", [0, IN_MEMORY])
@pytest.mark.parametrize("field", ["targets", "turn", "conversation_id"])
def test_outputs_for_another_response_are_refused(tmp_path, cache_in_memory, field):
    wrong = ROWS.response_keys[7]

    def change(record):
        if (record.conversation_id, record.turn) != wrong:
            return record
        other = {"targets": record.targets[::-1] + 1, "turn": 99, "conversation_id": "nobody"}
        return dataclasses.replace(record, **{field: other[field]})

    store = make_store(tmp_path, change=change)
    with pytest.raises(TeacherStoreError, match="response 7: expected .* written for other rows"):
        outputs_of(store, cache_in_memory).gather(np.array([6, 7]))


def test_a_store_of_another_split_is_refused(tmp_path):
    store = make_store(tmp_path)
    with pytest.raises(TeacherStoreError, match="the split has"):
        outputs_of(store, rows=build_dialogue_rows(dialogues()[1:], VOCABULARY, 64, 6))
