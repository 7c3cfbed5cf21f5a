"""A shard appears under its name only when it is complete."""

import subprocess
import sys
from pathlib import Path

import pytest

from conkd_jax.data.shards.layout import RecordError, shard_path
from conkd_jax.data.shards.reader import RecordReader
from conkd_jax.data.shards.writer import open_shard, write_dataset, write_metadata
from conkd_jax.io import files
from tests.data.shards.examples import FEATURES, example


def test_several_shards_are_one_split(tmp_path: Path) -> None:
    for shard, numbers in enumerate((range(3), range(3, 10))):
        path = shard_path(tmp_path, "train", shard, 2, name="x")
        with open_shard(path, FEATURES) as writer:
            for number in numbers:
                writer.write(example(number))
        assert writer.num_records == len(numbers)
    write_metadata(tmp_path, FEATURES, {"train": [3, 7]}, name="x")
    reader = RecordReader(tmp_path, "train")
    assert [r["number"] for r in reader] == [-n for n in range(10)]


def test_an_unfinished_shard_has_no_name(tmp_path: Path) -> None:
    path = shard_path(tmp_path, "train", 0, 1)
    with pytest.raises(RuntimeError, match="stop"), open_shard(path, FEATURES) as writer:
        writer.write(example(1))
        assert not path.exists()
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_equal_records_are_equal_bytes_in_every_process(tmp_path: Path) -> None:
    """Protocol buffers order a map differently in each process unless they are told not to."""
    code = "import sys, pathlib; from tests.data.shards.examples import write_example as write; "
    contents = []
    for number in range(3):
        folder = tmp_path / str(number)
        command = [sys.executable, "-c", code + "write(pathlib.Path(sys.argv[1]))", str(folder)]
        subprocess.run(command, check=True)
        contents.append({path.name: path.read_bytes() for path in folder.glob("*.array_record*")})
    assert contents[0].keys() and contents[0] == contents[1] == contents[2]


def test_a_full_disk_leaves_nothing_and_is_explained(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.data.shards.full_disk", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Could not write the shard" in done.stdout and "free some disk space" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_metadata_needs_its_shards(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="found no file"):
        write_metadata(tmp_path, FEATURES, {"train": [1]})


def test_a_remote_shard_is_uploaded_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "is_remote", lambda path: True)
    write_dataset(tmp_path / "up", FEATURES, {"train": map(example, range(3))})
    monkeypatch.undo()
    assert [r["number"] for r in RecordReader(tmp_path / "up", "train")] == [0, -1, -2]
