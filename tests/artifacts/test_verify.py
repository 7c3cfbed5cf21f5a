"""What is found out about artifacts by reading all of them."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from conkd_jax.artifacts.build import ensure
from conkd_jax.artifacts.stage import Stage
from conkd_jax.artifacts.verify import artifacts_below, verify
from conkd_jax.training.checkpoint import Checkpoints
from tests.fixtures.disks import take_hashes


def write(settings, directory, context) -> dict:
    (directory / "params").mkdir()
    (directory / "params" / "w").write_bytes(bytes(100))
    (directory / "spec.json").write_text("{}")
    return {}


@pytest.fixture
def artifact(tmp_path) -> Path:
    stage = Stage("student", 1, {"seed": 0}, {}, write)
    ensure(stage, tmp_path)
    return Path(stage.directory(tmp_path))


def test_a_whole_artifact(artifact):
    assert verify(artifact)[1:] == ("whole", "2 files, 0.0 MB")


def test_everything_that_is_wrong_is_said(artifact):
    (artifact / "params" / "w").write_bytes(bytes(99))
    (artifact / "spec.json").unlink()
    found = verify(artifact)
    assert found.state == "damaged"
    assert found.what == (
        f"{artifact}/params/w is damaged: expected 100 bytes, found 99; "
        f"{artifact}/spec.json is missing"
    )


def test_an_artifact_of_another_place(artifact):
    copy = artifact.parent / "0123456789abcdef"
    shutil.copytree(artifact, copy)
    found = verify(copy)
    assert found.state == "damaged"
    assert f"is of another artifact, student/{artifact.name}" in found.what


def test_an_artifact_of_an_earlier_version(artifact):
    take_hashes(artifact)
    (artifact / "spec.json").write_text("[]")  # not noticed
    found = verify(artifact)
    assert found.state == "no hashes" and "was not checked" in found.what


def test_a_partial_artifact_has_its_checkpoints_checked(artifact):
    (artifact / "manifest.json").unlink()
    (artifact / "tries.json").write_text("{}")
    with Checkpoints(artifact / "checkpoints") as checkpoints:
        checkpoints.save(3, {"w": np.ones(4, np.float32)}, {"best_step": 0})
    assert verify(artifact)[1:] == ("partial", "not finished; 1 checkpoint checked")
    progress = artifact / "checkpoints" / "3" / "progress" / "metadata"
    progress.write_text(progress.read_text().replace("0", "1", 1))
    found = verify(artifact)
    assert found.state == "damaged" and found.what.startswith(f"{progress} is damaged")


def test_artifacts_are_found_from_any_height(artifact):
    (artifact.parent / ".0123.lock").write_text("")
    (artifact.parent.parent / "log.jsonl").write_text("")
    for folder in (artifact, artifact.parent, artifact.parent.parent):
        assert [Path(path) for path in artifacts_below(folder)] == [artifact]
    assert verify(artifact.parent / "0000")[1:] == ("missing", "nothing there")
