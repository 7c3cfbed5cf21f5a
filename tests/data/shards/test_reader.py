"""Records come back as they went in; a damaged or foreign folder is refused."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from conkd_jax.data.shards import reader
from conkd_jax.data.shards.layout import RecordError, shard_path
from conkd_jax.data.shards.reader import RecordReader, shard_length
from conkd_jax.data.shards.writer import write_metadata
from tests.data.shards.examples import FEATURES, example, write_example


@pytest.fixture
def folder(tmp_path):
    write_example(tmp_path / "d")
    return tmp_path / "d"


def shard_of(folder):
    return shard_path(folder, "train", 0, 1)


def test_records_come_back_in_order(folder):
    found = RecordReader(folder, "train", expect=FEATURES)
    assert len(found) == 40
    for number, record in enumerate(found):
        want = example(number)
        assert (record["name"], record["number"]) == (want["name"], want["number"])
        assert record["texts"] == want["texts"]
        np.testing.assert_array_equal(record["ids"], want["ids"])
        np.testing.assert_array_equal(record["rows"], want["rows"])
        assert record["rows"].shape == (number, 3) and record["rows"].dtype == np.float32


def test_a_batch_is_read_in_the_order_asked(folder):
    found = RecordReader(folder, "train")
    assert [r["number"] for r in found[[5, 0, 5]]] == [-5, 0, -5]
    assert [r["number"] for r in found[np.array([7, 3])]] == [-7, -3]
    assert [r["number"] for r in found[2:4]] == [-2, -3]
    assert found[6]["number"] == -6
    assert found[[]] == []
    with pytest.raises(IndexError, match="an index below 40"):
        found[40]


def test_an_empty_split_is_a_split(folder):
    assert len(RecordReader(folder, "dev")) == 0


@pytest.mark.parametrize("keep", [0, 100, 65536])
def test_a_truncated_shard_is_refused(folder, keep):
    content = shard_of(folder).read_bytes()
    assert len(content) > keep
    shard_of(folder).write_bytes(content[:keep])
    with pytest.raises(RecordError, match=r"truncated or was replaced.*again"):
        RecordReader(folder, "train")


def test_a_shard_of_the_same_size_but_other_bytes_is_refused(folder):
    content = bytearray(shard_of(folder).read_bytes())
    content[200:4000] = bytes(3800)
    shard_of(folder).write_bytes(bytes(content))
    with pytest.raises(RecordError, match="again"):
        list(RecordReader(folder, "train"))


def test_a_foreign_file_in_a_shards_place_is_refused(folder):
    size = shard_of(folder).stat().length
    shard_of(folder).write_bytes(b"not a shard".ljust(size, b"!"))
    with pytest.raises(RecordError, match="again"):
        list(RecordReader(folder, "train"))
    with pytest.raises(RecordError, match="again"):
        shard_length(shard_of(folder))


def test_a_missing_shard_is_named(folder):
    shard_of(folder).unlink()
    with pytest.raises(RecordError, match="records-train.array_record-00000-of-00001"):
        RecordReader(folder, "train")


def test_a_wrong_count_is_refused(folder):
    write_metadata(folder, FEATURES, {"train": [41], "dev": [0]})
    with pytest.raises(RecordError, match="41|again"):
        list(RecordReader(folder, "train"))


def test_another_schema_is_refused_by_its_field(folder):
    other = tfds.features.FeaturesDict({**FEATURES, "number": tfds.features.Scalar(np.int32)})
    with pytest.raises(RecordError, match="another schema .number: expected"):
        RecordReader(folder, "train", expect=other)


def test_missing_folders_and_splits_are_named(folder, tmp_path):
    with pytest.raises(RecordError, match="no dataset_info.json"):
        RecordReader(tmp_path / "nowhere", "train")
    with pytest.raises(RecordError, match="no split 'test'; it has train, dev"):
        RecordReader(folder, "test")
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(RecordError, match="again"):
        RecordReader(folder, "train")


def test_shard_length_counts(folder):
    assert shard_length(shard_of(folder)) == 40


def test_a_remote_folder_is_read_through_a_local_copy(folder, monkeypatch):
    monkeypatch.setattr(reader, "is_remote", lambda path: True)
    assert RecordReader(folder, "train")[3]["number"] == -3
    assert shard_length(shard_of(folder)) == 40
