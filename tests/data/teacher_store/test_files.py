"""The teacher store: what is written is what is read, or an error in words."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from conkd_jax.data.teacher_store.files import TeacherStore, TeacherStoreWriter
from conkd_jax.data.teacher_store.schema import (
    TeacherHeads,
    TeacherRecord,
    TeacherStoreError,
    TeacherStoreSpec,
)
from conkd_jax.distill.gates import item_mass
from conkd_jax.distill.head import Head

F, WORDS, ITEMS, D, K = 12, 40, 9, 5, 7
Y = WORDS + ITEMS
ROW_OFFSETS = np.array([0, 2, 3, 7, 8, 8, 11])
PROVENANCE = {"dialogue_teacher": "a1", "vocabulary": "b2", "corpus": "c3", "split": "train"}


def make_heads(seed: int = 0, with_dialogue: bool = True) -> TeacherHeads:
    rng = np.random.default_rng(seed)
    rec = (rng.normal(size=(2, D, ITEMS)), rng.normal(size=(2, ITEMS)))
    dialogue = (rng.normal(size=(F, Y)), rng.normal(size=Y)) if with_dialogue else ()
    return TeacherHeads(*(array.astype(np.float32) for array in (*rec, *dialogue)))


def make_records(spec: TeacherStoreSpec, heads: TeacherHeads, seed: int = 0) -> list[TeacherRecord]:
    """As a teacher stage does it: round first, then λ and the normaliser from what is stored.

    Those of topk are from all logits, which are rounded here so that tests can tell them.
    """
    rng = np.random.default_rng(seed)
    made = []
    for n in range(int(ROW_OFFSETS[-1])):
        length = int(rng.integers(1, 7))
        width = Y if spec.format == "topk" else spec.width
        outputs = spec.round(2 * rng.normal(size=(length, width)).astype(np.float32))
        logits = jnp.asarray(outputs.astype(np.float32))
        token_ids = None
        if spec.format == "topk":
            log_probs, token_ids = jax.lax.top_k(jax.nn.log_softmax(logits), spec.width)
            outputs = spec.round(np.asarray(log_probs))
            token_ids = np.asarray(token_ids).astype(spec.id_dtype)
        if spec.format == "features":
            head = Head(jnp.asarray(heads.dialogue_kernel), jnp.asarray(heads.dialogue_bias))
            logits = head.logits(logits)
        made.append(
            TeacherRecord(
                conversation_id=f"dialogue-{n // 3} é",
                turn=2 * (n % 3) + 1,
                targets=rng.integers(0, Y, length).astype(np.int32),
                outputs=outputs,
                item_mass=np.asarray(item_mass(logits, WORDS)),
                log_normalizer=np.log(np.exp(np.float64(logits)).sum(-1)).astype(np.float32),
                user_vector=rng.normal(size=D).astype(np.float32),
                rec_head_index=n % 2,
                token_ids=token_ids,
            )
        )
    return made


SPECS = [
    TeacherStoreSpec("features", "bfloat16", F, D),
    TeacherStoreSpec("features", "float32", F, D),
    TeacherStoreSpec("dense", "bfloat16", Y, D),
    TeacherStoreSpec("dense", "float32", Y, D),
    TeacherStoreSpec("topk", "bfloat16", K, D, Y),
    TeacherStoreSpec("topk", "float32", K, D, 1 << 16),
    TeacherStoreSpec("topk", "float32", K, D, (1 << 16) + 1),
]
WHOLE = [spec for spec in SPECS if spec.format != "topk"]
SPEC = SPECS[0]
HEADS = make_heads()
RECORDS = make_records(SPEC, HEADS)


def write(directory, spec=SPEC, made=None, provenance=None, heads=HEADS, num_shards=3):
    made = RECORDS if made is None else made
    writer = TeacherStoreWriter(directory, spec, provenance or PROVENANCE, ROW_OFFSETS, num_shards)
    for shard in writer.missing_shards():
        writer.write_shard(shard, (made[n] for n in writer.shard_responses(shard)))
    writer.finish(heads, {"lambda_r": 0.5})
    return writer


def same(one: TeacherRecord, other: TeacherRecord) -> bool:
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name))
        and np.asarray(getattr(one, field.name)).dtype
        == np.asarray(getattr(other, field.name)).dtype
        for field in dataclasses.fields(TeacherRecord)
    )


def shards(directory) -> list:
    return sorted(directory.glob("*array_record*"))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_what_is_written_is_read(tmp_path, spec):
    heads = make_heads(with_dialogue=spec.format == "features")
    made = make_records(spec, heads)
    write(tmp_path, spec, made, heads=heads)
    store = TeacherStore.open(tmp_path, {"corpus": "c3"})
    assert len(store) == len(made)
    assert store.spec == spec
    assert store.stats == {"lambda_r": 0.5}
    order = [7, 0, 10, 3, 3]
    for response, record in zip(order, store.read(order), strict=True):
        assert same(record, made[response])
        assert record.outputs.dtype == spec.array_dtype
        assert getattr(record.token_ids, "dtype", None) == spec.id_dtype
    for name, value in vars(heads).items():
        assert np.array_equal(getattr(store.heads, name), value)
    assert store.read([]) == []


def test_ids_take_two_bytes_where_all_targets_have_one():
    narrow, wide = (TeacherStoreSpec("topk", "float32", K, D, n).id_dtype for n in (1 << 16, 65537))
    assert (narrow, wide) == (np.uint16, np.uint32)
    assert SPEC.id_dtype is None


def test_the_entries_of_earlier_stores_are_what_they_were(tmp_path):
    """Every record carries a hash of them."""
    assert SPEC.entries() == {"format": "features", "dtype": "bfloat16", "width": F, "user_dim": D}
    write(tmp_path)
    assert TeacherStore.open(tmp_path).provenance.keys() == {
        *(*PROVENANCE, *SPEC.entries(), "version", "num_responses", "num_shards")
    }


@pytest.mark.parametrize("spec", WHOLE, ids=str)
def test_the_stored_teacher_is_the_head_of_what_is_stored(tmp_path, spec):
    heads = make_heads(with_dialogue=spec.format == "features")
    write(tmp_path, spec, make_records(spec, heads), heads=heads)
    store = TeacherStore.open(tmp_path)
    for record in store.read(range(len(store))):
        logits = record.outputs.astype(np.float64)
        if spec.format == "features":
            logits = logits @ store.heads.dialogue_kernel + store.heads.dialogue_bias
        normalizer = np.log(np.exp(logits).sum(-1))
        mass = np.exp(logits[:, WORDS:]).sum(-1) / np.exp(logits).sum(-1)
        np.testing.assert_allclose(record.item_mass, mass, rtol=0, atol=1e-6)
        np.testing.assert_allclose(record.log_normalizer, normalizer, rtol=1e-6)


def test_rounding_is_to_the_stored_type():
    rounded = SPEC.round(np.array([[1.0, 1 + 2**-10, -3.14159]], np.float32))
    assert rounded.dtype == ml_dtypes.bfloat16
    assert rounded.astype(np.float32).tolist() == [[1.0, 1.0, -3.140625]]


def test_a_response_token_costs_what_its_features_cost(tmp_path):
    width, length, count = 256, 13, 400
    spec = TeacherStoreSpec("features", "bfloat16", width, D)
    writer = TeacherStoreWriter(tmp_path, spec, PROVENANCE, np.arange(count + 1), 1)
    rng = np.random.default_rng(0)
    features = spec.round(rng.normal(size=(count, length, width)))
    numbers = rng.normal(size=(count, length)).astype(np.float32)
    vector = np.zeros(D, np.float32)
    targets = np.arange(length, dtype=np.int32)
    writer.write_shard(
        0,
        (
            TeacherRecord("d", n, targets, features[n], numbers[n], numbers[n], vector)
            for n in range(count)
        ),
    )
    padding = 2 * 65536  # array_record ends a file on a whole block
    size = shards(tmp_path)[0].stat().st_size - padding
    assert 0 < size < 1.1 * features.nbytes


def test_a_response_token_of_topk_costs_its_ids_and_log_probabilities(tmp_path):
    spec, length, count = TeacherStoreSpec("topk", "bfloat16", 64, D, 50_000), 13, 1000
    writer = TeacherStoreWriter(tmp_path, spec, PROVENANCE, np.arange(count + 1), 1)
    rng = np.random.default_rng(0)
    outputs = spec.round(rng.normal(size=(count, length, 64)))
    ids = rng.integers(0, 50_000, (count, length, 64)).astype(np.uint16)
    zeros, targets = np.zeros(length, np.float32), np.arange(length, dtype=np.int32)
    vector = np.zeros(D, np.float32)
    writer.write_shard(
        0,
        (
            TeacherRecord("d", n, targets, outputs[n], zeros, zeros, vector, 0, ids[n])
            for n in range(count)
        ),
    )
    padding = 2 * 65536  # array_record ends a file on a whole block
    of_token = (shards(tmp_path)[0].stat().st_size - padding) / (count * length)
    assert 64 * (2 + 2) * 0.9 < of_token < 64 * (2 + 2) + 2 * 4 + 16


def test_every_row_is_in_one_shard_whatever_their_number(tmp_path):
    for num_shards in (1, 2, 5, 9):
        writer = TeacherStoreWriter(
            tmp_path / str(num_shards), SPEC, PROVENANCE, ROW_OFFSETS, num_shards
        )
        rows = [row for shard in range(num_shards) for row in writer.shard_rows(shard)]
        found = [n for shard in range(num_shards) for n in writer.shard_responses(shard)]
        assert rows == list(range(len(ROW_OFFSETS) - 1))
        assert found == list(range(int(ROW_OFFSETS[-1])))


@pytest.mark.parametrize("num_shards", [1, 2, 9])
def test_the_number_of_shards_changes_nothing_that_is_read(tmp_path, num_shards):
    write(tmp_path, num_shards=num_shards)
    found = TeacherStore.open(tmp_path).read(range(len(RECORDS)))
    assert all(same(a, b) for a, b in zip(found, RECORDS, strict=True))


def test_hosts_write_their_own_shards_and_a_rerun_only_what_is_missing(tmp_path):
    hosts = [TeacherStoreWriter(tmp_path, SPEC, PROVENANCE, ROW_OFFSETS, 5) for _ in range(2)]
    assert hosts[0].missing_shards(0, 2) == [0, 2, 4]
    assert hosts[1].missing_shards(1, 2) == [1, 3]
    hosts[0].write_shard(2, (RECORDS[n] for n in hosts[0].shard_responses(2)))
    untouched = shards(tmp_path)[0].read_bytes()
    assert hosts[0].missing_shards(0, 2) == [0, 4]
    with pytest.raises(TeacherStoreError, match=r"shards \[0, 1, 3, 4\] are missing"):
        hosts[0].finish(HEADS)
    with pytest.raises(TeacherStoreError, match="Expected a finished teacher store"):
        TeacherStore.open(tmp_path)
    write(tmp_path, num_shards=5)
    assert untouched == shards(tmp_path)[2].read_bytes()
    # what was measured of a shard is kept from try to try, and a shard without it is written anew
    hosts[1].write_shard(3, (RECORDS[n] for n in hosts[1].shard_responses(3)), {"tokens": 7})
    assert [found.get("tokens") for found in hosts[0].measured()] == [None, None, None, 7, None]
    (tmp_path / "measured-00003.json").unlink()
    assert hosts[0].missing_shards() == [3]
    write(tmp_path, num_shards=5)
    straight = tmp_path / "straight"
    write(straight, num_shards=5)
    for one, other in zip(shards(tmp_path), shards(straight), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_shard_that_broke_off_is_not_there(tmp_path):
    writer = TeacherStoreWriter(tmp_path, SPEC, PROVENANCE, ROW_OFFSETS, 2)

    def broken():
        yield RECORDS[0]
        raise RuntimeError("the teacher died")

    with pytest.raises(RuntimeError, match="died"):
        writer.write_shard(0, broken())
    assert writer.missing_shards() == [0, 1]
    with pytest.raises(TeacherStoreError, match="must hold 7 responses, got 1"):
        writer.write_shard(0, iter(RECORDS[:1]))
    assert writer.missing_shards() == [0, 1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("outputs", np.zeros((2, F), np.float32)),
        ("outputs", np.zeros((2, F + 1), ml_dtypes.bfloat16)),
        ("item_mass", np.zeros(3, np.float32)),
        ("user_vector", np.zeros(D + 1, np.float32)),
    ],
)
def test_a_record_of_another_shape_is_refused(tmp_path, field, value):
    writer = TeacherStoreWriter(tmp_path, SPEC, PROVENANCE, ROW_OFFSETS, 1)
    record = TeacherRecord(
        "d",
        1,
        np.zeros(2, np.int32),
        np.zeros((2, F), ml_dtypes.bfloat16),
        np.zeros(2, np.float32),
        np.zeros(2, np.float32),
        np.zeros(D, np.float32),
    )
    object.__setattr__(record, field, value)
    with pytest.raises(TeacherStoreError, match=f"'d', 1.*{field} must be"):
        writer.write_shard(0, [record])


@pytest.mark.parametrize("ids", [None, np.zeros((2, K), np.int32), np.zeros((2, F), np.uint16)])
def test_a_record_of_topk_without_its_ids_is_refused(tmp_path, ids):
    spec = TeacherStoreSpec("topk", "bfloat16", K, D, Y)
    writer = TeacherStoreWriter(tmp_path, spec, PROVENANCE, ROW_OFFSETS, 1)
    zeros, outputs = np.zeros(2, np.float32), np.zeros((2, K), ml_dtypes.bfloat16)
    vector = np.zeros(D, np.float32)
    record = TeacherRecord("d", 1, np.zeros(2, np.int32), outputs, zeros, zeros, vector)
    object.__setattr__(record, "token_ids", ids)
    with pytest.raises(TeacherStoreError, match=r"token_ids must be uint16 \(2, 7\), got"):
        writer.write_shard(0, [record])


def test_a_store_of_something_else_is_refused_in_words(tmp_path):
    write(tmp_path)
    with pytest.raises(TeacherStoreError, match="another vocabulary .expected 'zz', found 'b2'"):
        TeacherStore.open(tmp_path, {"vocabulary": "zz", "corpus": "c3"})
    with pytest.raises(TeacherStoreError, match="another rec_teacher .expected 'r1', found 'none'"):
        TeacherStore.open(tmp_path, {"rec_teacher": "r1"})
    with pytest.raises(
        TeacherStoreError, match="another corpus .*delete the folder to write it again"
    ):
        TeacherStoreWriter(tmp_path, SPEC, {**PROVENANCE, "corpus": "x"}, ROW_OFFSETS, 3)
    with pytest.raises(TeacherStoreError, match="another num_shards"):
        TeacherStoreWriter(tmp_path, SPEC, PROVENANCE, ROW_OFFSETS, 4)


def test_a_truncated_shard_is_refused(tmp_path):
    write(tmp_path)
    shard = shards(tmp_path)[1]
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(TeacherStoreError, match="delete it and write the teacher outputs again"):
        TeacherStore.open(tmp_path)


def test_a_shard_that_broke_unnoticed_is_refused_on_reading(tmp_path):
    write(tmp_path, num_shards=1)
    shard = shards(tmp_path)[0]
    content = bytearray(shard.read_bytes())
    content[200:400] = bytes(200)  # the same size
    shard.write_bytes(content)
    with pytest.raises(TeacherStoreError, match="damaged"):
        TeacherStore.open(tmp_path).read(range(len(RECORDS)))


def test_a_foreign_shard_is_refused(tmp_path):
    """Same responses, same targets, same size: only who taught differs."""
    write(tmp_path / "ours")
    write(tmp_path / "theirs", provenance={**PROVENANCE, "dialogue_teacher": "zz"})
    ours, theirs = shards(tmp_path / "ours"), shards(tmp_path / "theirs")
    ours[0].write_bytes(theirs[0].read_bytes())
    with pytest.raises(TeacherStoreError, match="another store|damaged"):
        TeacherStore.open(tmp_path / "ours").read([0])


def test_a_shard_that_broke_before_the_store_was_finished_is_written_again(tmp_path):
    write(tmp_path)
    first, second = shards(tmp_path)[:2]
    second.write_bytes(shards(tmp_path)[2].read_bytes())  # another's
    writer = TeacherStoreWriter(tmp_path, SPEC, PROVENANCE, ROW_OFFSETS, 3)
    assert writer.missing_shards() == [1]
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content)
    assert writer.missing_shards() == [0, 1]
    measured = tmp_path / "measured-00002.json"
    measured.write_text(measured.read_text().replace("1", "2", 1))
    assert writer.missing_shards() == [0, 1, 2]


def test_a_shard_of_an_earlier_version_in_the_way_of_the_writer_is_refused(tmp_path):
    write(tmp_path)
    for path in tmp_path.glob("measured-*.json"):
        path.write_text("{}\n")  # no hashes
    first, second = shards(tmp_path)[:2]
    second.write_bytes(shards(tmp_path)[2].read_bytes())
    writer = TeacherStoreWriter(tmp_path, SPEC, PROVENANCE, ROW_OFFSETS, 3)
    assert [len(writer.shard_responses(shard)) for shard in range(3)] == [3, 5, 3]
    with pytest.raises(TeacherStoreError, match="must hold 5 responses, it has 3"):
        writer.missing_shards()
    first.write_bytes(first.read_bytes()[:50])
    with pytest.raises(TeacherStoreError, match="damaged: delete it"):
        writer.missing_shards()


@pytest.mark.parametrize("name", ["store.json", "heads.npz"])
def test_other_damaged_files_are_refused(tmp_path, name):
    write(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(TeacherStoreError, match="damaged"):
        TeacherStore.open(tmp_path)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(TeacherStoreError, match="damaged"):
        TeacherStore.open(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(TeacherStoreError):
        TeacherStore.open(tmp_path)


def test_a_store_without_its_parts_is_refused(tmp_path):
    write(tmp_path)
    summary = json.loads((tmp_path / "store.json").read_text())
    del summary["provenance"]["width"]
    (tmp_path / "store.json").write_text(json.dumps(summary))
    with pytest.raises(TeacherStoreError, match="lacks 'width'"):
        TeacherStore.open(tmp_path)


@pytest.mark.parametrize(
    ("kernel", "bias"),
    [((F,), None), (None, ())],
    ids=["no bias", "no kernel"],
)
def test_a_switch_that_does_not_fit_is_refused(tmp_path, kernel, bias):
    whole = dataclasses.replace(
        HEADS, switch_kernel=np.zeros(F, np.float32), switch_bias=np.zeros((), np.float32)
    )
    write(tmp_path / "whole", heads=whole)
    assert TeacherStore.open(tmp_path / "whole").heads.switch_kernel.shape == (F,)
    parts = [None if shape is None else np.zeros(shape, np.float32) for shape in (kernel, bias)]
    wrong = dataclasses.replace(HEADS, switch_kernel=parts[0], switch_bias=parts[1])
    with pytest.raises(TeacherStoreError, match=r"has a switch of shapes \[12\] and \[\]"):
        write(tmp_path / "wrong", heads=wrong)


def test_heads_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(TeacherStoreError, match="needs the dialogue teacher's head"):
        write(tmp_path / "a", heads=TeacherHeads(HEADS.rec_kernels, HEADS.rec_biases))
    wrong = TeacherHeads(
        np.zeros((1, D + 1, ITEMS), np.float32),
        np.zeros((1, ITEMS), np.float32),
        HEADS.dialogue_kernel,
        HEADS.dialogue_bias,
    )
    with pytest.raises(TeacherStoreError, match="Recommender heads must have shapes"):
        write(tmp_path / "b", heads=wrong)


def test_an_unknown_format_is_refused():
    with pytest.raises(TeacherStoreError, match="'sparse'"):
        TeacherStoreSpec("sparse", "bfloat16", F, D)
    with pytest.raises(TeacherStoreError, match="'float16'"):
        TeacherStoreSpec("dense", "float16", Y, D)


@pytest.mark.parametrize("shape", [("topk", K, None), ("topk", Y + 1, Y), ("dense", Y, Y)])
def test_targets_are_counted_for_topk_alone(shape):
    format, width, num_targets = shape
    with pytest.raises(TeacherStoreError, match="Expected num_targets"):
        TeacherStoreSpec(format, "float32", width, D, num_targets)
