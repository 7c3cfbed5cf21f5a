"""Shards are whole or refused; records come back as they went in."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from conkd_jax.data import shards as records

FEATURES = tfds.features.FeaturesDict(
    {
        "name": tfds.features.Text(),
        "texts": tfds.features.Sequence(tfds.features.Text()),
        "ids": tfds.features.Tensor(shape=(None,), dtype=np.int32),
        "rows": tfds.features.Tensor(shape=(None, 3), dtype=np.float32),
        "number": tfds.features.Scalar(np.int64),
    }
)


def example(number: int) -> dict:
    return {
        "name": f"é😀 {number}",
        "texts": ["", "a"] * number,
        "ids": np.arange(number, dtype=np.int32),
        "rows": np.full((number, 3), number, np.float32),
        "number": -number,
    }


@pytest.fixture
def folder(tmp_path):
    records.write_shards(tmp_path / "d", FEATURES, {"train": map(example, range(40)), "dev": []})
    return tmp_path / "d"


def shard_of(folder):
    return records.shard_path(folder, "train", 0, 1)


def test_records_come_back_in_order(folder):
    reader = records.RecordReader(folder, "train", expect=FEATURES)
    assert len(reader) == 40
    for number, record in enumerate(reader):
        want = example(number)
        assert (record["name"], record["number"]) == (want["name"], want["number"])
        assert record["texts"] == want["texts"]
        np.testing.assert_array_equal(record["ids"], want["ids"])
        np.testing.assert_array_equal(record["rows"], want["rows"])
        assert record["rows"].shape == (number, 3) and record["rows"].dtype == np.float32


def test_a_batch_is_read_in_the_order_asked(folder):
    reader = records.RecordReader(folder, "train")
    assert [r["number"] for r in reader[[5, 0, 5]]] == [-5, 0, -5]
    assert [r["number"] for r in reader[np.array([7, 3])]] == [-7, -3]
    assert [r["number"] for r in reader[2:4]] == [-2, -3]
    assert reader[6]["number"] == -6
    assert reader[[]] == []
    with pytest.raises(IndexError, match="40 records"):
        reader[40]


def test_an_empty_split_is_a_split(folder):
    assert records.splits(folder) == {"train": 40, "dev": 0}
    assert len(records.RecordReader(folder, "dev")) == 0


def test_several_shards_are_one_split(tmp_path):
    for shard, numbers in enumerate((range(3), range(3, 10))):
        with records.ShardWriter(
            records.shard_path(tmp_path, "train", shard, 2, name="x"), FEATURES
        ) as writer:
            for number in numbers:
                writer.write(example(number))
    records.write_metadata(tmp_path, FEATURES, {"train": [3, 7]}, name="x")
    reader = records.RecordReader(tmp_path, "train")
    assert [r["number"] for r in reader] == [-n for n in range(10)]


def test_an_unfinished_shard_has_no_name(tmp_path):
    path = records.shard_path(tmp_path, "train", 0, 1)
    with pytest.raises(RuntimeError, match="stop"), records.ShardWriter(path, FEATURES) as writer:
        writer.write(example(1))
        assert not path.exists()
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, signal, sys
import numpy as np
from conkd_jax.data import records
from tests.data.test_records import FEATURES, example
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
noise = np.random.default_rng(0).normal(size=(3000, 3)).astype(np.float32)
path = records.shard_path(sys.argv[1], "train", 0, 1)
try:
    with records.ShardWriter(path, FEATURES) as writer:
        for _ in range(5):
            writer.write(example(1) | {"rows": noise})
except records.RecordError as error:
    print(error)
"""


def test_a_full_disk_leaves_nothing_and_is_explained(tmp_path):
    """The file size limit of a process stands for the disk."""
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Could not write the shard" in done.stdout and "make room" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_metadata_needs_its_shards(tmp_path):
    with pytest.raises(records.RecordError, match="found no file"):
        records.write_metadata(tmp_path, FEATURES, {"train": [1]})


@pytest.mark.parametrize("keep", [0, 100, 65536])
def test_a_truncated_shard_is_refused(folder, keep):
    content = shard_of(folder).read_bytes()
    assert len(content) > keep
    shard_of(folder).write_bytes(content[:keep])
    with pytest.raises(records.RecordError, match=r"truncated or was replaced.*again"):
        records.RecordReader(folder, "train")


def test_a_shard_of_the_same_size_but_other_bytes_is_refused(folder):
    content = bytearray(shard_of(folder).read_bytes())
    content[200:4000] = bytes(3800)
    shard_of(folder).write_bytes(bytes(content))
    with pytest.raises(records.RecordError, match="again"):
        list(records.RecordReader(folder, "train"))


def test_a_foreign_file_in_a_shards_place_is_refused(folder):
    size = shard_of(folder).stat().length
    shard_of(folder).write_bytes(b"not a shard".ljust(size, b"!"))
    with pytest.raises(records.RecordError, match="again"):
        list(records.RecordReader(folder, "train"))
    with pytest.raises(records.RecordError, match="again"):
        records.shard_length(shard_of(folder))


def test_a_missing_shard_is_named(folder):
    shard_of(folder).unlink()
    with pytest.raises(records.RecordError, match="records-train.array_record-00000-of-00001"):
        records.RecordReader(folder, "train")


def test_a_wrong_count_is_refused(folder):
    records.write_metadata(folder, FEATURES, {"train": [41], "dev": [0]})
    with pytest.raises(records.RecordError, match="41|again"):
        list(records.RecordReader(folder, "train"))


def test_another_schema_is_refused_by_its_field(folder):
    other = tfds.features.FeaturesDict({**FEATURES, "number": tfds.features.Scalar(np.int32)})
    with pytest.raises(records.RecordError, match="another schema .number: expected"):
        records.RecordReader(folder, "train", expect=other)


def test_missing_folders_and_splits_are_named(folder, tmp_path):
    with pytest.raises(records.RecordError, match="no dataset_info.json"):
        records.RecordReader(tmp_path / "nowhere", "train")
    with pytest.raises(records.RecordError, match="no split 'test'; it has train, dev"):
        records.RecordReader(folder, "test")
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(records.RecordError, match="again"):
        records.RecordReader(folder, "train")


def test_shard_length_counts(folder):
    assert records.shard_length(shard_of(folder)) == 40


def test_a_remote_folder_is_read_through_a_local_copy(folder, monkeypatch):
    monkeypatch.setattr(records, "_is_local", lambda path: False)
    assert records.RecordReader(folder, "train")[3]["number"] == -3
    assert records.shard_length(shard_of(folder)) == 40


def test_a_remote_shard_is_uploaded_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_is_local", lambda path: False)
    records.write_shards(tmp_path / "up", FEATURES, {"train": map(example, range(3))})
    monkeypatch.undo()
    assert [r["number"] for r in records.RecordReader(tmp_path / "up", "train")] == [0, -1, -2]
