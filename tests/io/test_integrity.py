"""Lists of files, the smallest changes to them, and the order in which they reach the disk."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from conkd_jax.artifacts.build import ensure
from conkd_jax.artifacts.stage import Stage
from conkd_jax.data.shards.writer import write_dataset
from conkd_jax.io import integrity
from conkd_jax.io.files import write_json
from conkd_jax.io.integrity import DamagedError
from conkd_jax.training import checkpoint
from conkd_jax.training.checkpoint import Checkpoints
from tests.fixtures.disks import Disk, flip

NUMBERS = tfds.features.FeaturesDict({"number": np.int64})


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "params" / "d").mkdir(parents=True)
    (tmp_path / "params" / "d" / "weights").write_bytes(bytes(range(256)))
    (tmp_path / "spec.json").write_text("{}")
    (tmp_path / "empty").write_text("")
    return tmp_path


# --- lists -------------------------------------------------------------------------------------


def test_a_list_holds_every_file_with_its_size_and_hash(folder):
    (folder / "spec.json.partial-0a1b").write_text("of a killed process")
    integrity.write_list(folder, without=["empty"])
    weights = hashlib.sha256(bytes(range(256))).hexdigest()
    assert integrity.read_list(folder) == {
        "params/d/weights": {"bytes": 256, "sha256": weights},
        "spec.json": {"bytes": 2, "sha256": hashlib.sha256(b"{}").hexdigest()},
    }
    assert integrity.read_list(folder / "params") is None


def test_a_seal_notices_every_flipped_bit(tmp_path):
    path = tmp_path / "list"
    document = {"a": [1, {"sha256": "no seal"}], "files": {"ü": {}}, "metrics": {"x": 0.1}}
    text = integrity.sealed(document)
    path.write_text(text)
    assert integrity.unsealed(text).items() >= document.items()
    for bit in range(8 * len(text)):
        flip(path, bit)
        with pytest.raises(ValueError):
            integrity.unsealed(path.read_bytes().decode(errors="replace"))
        flip(path, bit)
    assert integrity.unsealed(path.read_text())
    for end in range(len(text)):
        with pytest.raises(ValueError):
            integrity.unsealed(text[:end])


def test_a_document_without_files_needs_no_seal():
    assert integrity.unsealed('{"stage": "corpus"}') == {"stage": "corpus"}


# --- checks ------------------------------------------------------------------------------------


def test_a_file_is_checked_once_and_again_after_a_write(folder, monkeypatch):
    path, read = folder / "spec.json", []
    entry = integrity.entry_of(path)
    real = integrity.sha256_of_file
    monkeypatch.setattr(integrity, "sha256_of_file", lambda p: read.append(p) or real(p))
    integrity.check(path, entry, folder)
    integrity.check(path, entry, folder)
    assert len(read) == 1
    path.write_text("[]")
    with pytest.raises(DamagedError, match="spec.json is damaged: expected content with SHA-256"):
        integrity.check(path, entry, folder)


def test_what_is_wrong_is_said(folder):
    weights = folder / "params" / "d" / "weights"
    entries = integrity.inventory(folder)
    assert not integrity.missing(folder, entries) and not integrity.of_another_size(folder, entries)
    flip(weights, 3)
    assert not integrity.of_another_size(folder, entries)
    found = integrity.problem(weights, entries["params/d/weights"])
    assert found.startswith(f"{weights} is damaged: expected content with SHA-256 ")
    weights.write_bytes(bytes(255))
    expected = f"{weights} is damaged: expected 256 bytes, found 255"
    assert integrity.problem(weights, entries["params/d/weights"]) == expected
    assert integrity.of_another_size(folder, entries) == expected
    weights.unlink()
    assert integrity.missing(folder, entries) == ["params/d/weights"]
    assert integrity.problem(weights, entries["params/d/weights"]) == f"{weights} is missing"


def test_an_error_names_what_mends_it():
    stage = "artifacts/student/0123"
    assert str(DamagedError("x is damaged.", stage)).endswith("with --rebuild=student/0123")
    assert (
        str(DamagedError("x is damaged.", stage, "make it")) == "x is damaged. To mend it: make it"
    )


# --- power cuts --------------------------------------------------------------------------------


def make_everything(settings, directory, context) -> dict:
    """Writes as stages do: parameters, shards, whole files, and files of other libraries."""
    rng = np.random.default_rng(0)
    checkpoint.save(directory / "params", {"w": rng.normal(size=(64, 64)).astype(np.float32)})
    write_dataset(directory / "records", NUMBERS, {"train": [{"number": n} for n in range(9)]})
    write_json(directory / "spec.json", {"num_layers": 2})
    with (directory / "tokens.npz").open("wb") as file:
        np.savez_compressed(file, tokens=np.arange(1000))
    return {}


def test_an_artifact_is_on_the_disk_before_its_manifest(tmp_path, monkeypatch):
    disk = Disk(monkeypatch)
    stage, ends = Stage("student", 1, {}, {}, make_everything), []
    path = tmp_path / "student" / stage.fingerprint / "manifest.json"

    def cut() -> None:
        if (content := disk.read(path)) is None:
            return  # there is no artifact yet
        ends.append(content)
        assert disk.has_folder(path.parent, below=tmp_path)
        for name, entry in json.loads(content)["files"].items():
            file = path.parent / name
            assert hashlib.sha256(disk.read(file) or b"").hexdigest() == entry["sha256"], name
            assert disk.has_folder(file.parent, below=tmp_path), name

    disk.on_flush = cut
    listed = ensure(stage, tmp_path)["files"]
    assert ends
    assert {name.split("/")[0] for name in listed} == {
        "params",
        "records",
        "spec.json",
        "tokens.npz",
    }


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    disk, named = Disk(monkeypatch), []
    tree = {"w": np.arange(1000, dtype=np.float32)}

    def look() -> None:
        named.extend(path for path in tmp_path.iterdir() if path.name == "7")

    disk.on_flush = look
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, tree, {"step": 7}, best=tree)
    assert not named, "a flush after the name"
    for name, entry in integrity.read_list(tmp_path / "7").items():
        content = disk.contents[(tmp_path / "7" / name).stat().st_ino]
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], name
