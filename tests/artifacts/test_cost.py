"""What a stage will cost is estimated from earlier runs, and what it has cost is recorded."""

import json

import numpy as np
import pytest

from conkd_jax.artifacts.build import ensure, explain
from conkd_jax.artifacts.cost import CostWatch, expected, in_words, peak_memory
from conkd_jax.artifacts.stage import Stage
from conkd_jax.io.integrity import sealed

SIZE = 300_000


def write(settings, directory, context) -> dict:
    (directory / "weights").write_bytes(b"\x00" * SIZE)
    (directory / "checkpoints").mkdir()
    (directory / "checkpoints" / "state").write_bytes(b"\x00" * 2 * SIZE)
    return {}


def corpus(dialogues: int) -> Stage:
    return Stage("corpus", 1, {"num_dialogues": dialogues}, {}, write)


def student(*, dialogues: int = 100, epochs: int = 4, width: int = 64, seed: int = 0) -> Stage:
    settings = {"model": {"epochs": epochs, "width": width}, "seed": seed}
    return Stage("student", 1, settings, {"corpus": corpus(dialogues)}, write)


def took(stage: Stage, root, seconds: float, compiled: float = 0.0, **changes) -> None:
    """Builds an artifact and sets what its manifest says about its cost."""
    ensure(stage, root)
    path = stage.directory(root) / "manifest.json"
    manifest = json.loads(path.read_text()) | {
        "wall_seconds": seconds,
        "compile_seconds": compiled,
    }
    del manifest["sha256"]
    path.write_text(sealed(manifest | changes))


def test_what_a_stage_has_cost_is_recorded(tmp_path):
    manifest = ensure(student(), tmp_path)
    assert manifest["costs"]["memory"] > 50e6  # this process
    assert manifest["costs"]["checkpoints"] == 2 * SIZE
    assert manifest["wall_seconds"] > 0 and manifest["files"]["weights"]["bytes"] == SIZE


def test_the_peak_of_memory_is_that_of_the_stage():
    big = np.ones(30_000_000)  # 240 MB
    before = peak_memory()
    del big
    CostWatch()
    after = peak_memory()
    assert after < before - 200e6
    np.ones(10_000_000).sum()
    assert peak_memory() > after + 60e6


def test_no_like_run(tmp_path):
    assert expected(student(), tmp_path) is None
    took(student(), tmp_path, 60, machine={"devices": "8 x NVIDIA H100"})
    assert expected(student(epochs=8), tmp_path) is None
    assert in_words(None) == "no like run yet"


def test_times_are_scaled_and_compiling_is_not(tmp_path):
    took(student(dialogues=100, epochs=4), tmp_path, 90, compiled=10)
    found = expected(student(dialogues=300, epochs=8), tmp_path)
    assert found.seconds == pytest.approx(10 + 80 * 2 * 3)
    assert found.is_scaled and found.num_runs == 1 and found.num_differences == 0
    assert found.disk == 3 * SIZE
    assert "8 min 10 s" in in_words(found) and "from 1 earlier run, scaled" in in_words(found)


def test_the_runs_that_are_most_alike_count(tmp_path):
    took(student(width=512), tmp_path, 9000)
    for seed, seconds in enumerate((50, 60, 1000)):
        took(student(seed=seed), tmp_path, seconds)
    found = expected(student(seed=3), tmp_path)
    assert found.seconds == 60 and found.num_runs == 3 and not found.is_scaled
    other = expected(student(width=500), tmp_path)
    assert other.num_differences == 1 and other.num_runs == 4
    assert "with 1 other setting" in in_words(other)


def test_the_plan_has_the_cost_of_what_would_run(tmp_path):
    took(student(), tmp_path, 60)
    rows = explain(student(epochs=8), tmp_path)
    assert {row.name: row.cost and row.cost.seconds for row in rows} == {
        "corpus": None,  # whole
        "student": 120,
    }
    assert all(row.cost is None for row in explain(student(), tmp_path))


def test_a_manifest_of_an_earlier_version_counts_as_far_as_it_goes(tmp_path):
    took(student(), tmp_path, 60)
    path = student().directory(tmp_path) / "manifest.json"
    manifest = json.loads(path.read_text())
    for key in ("files", "sha256", "costs", "numerics"):
        del manifest[key]
    for key in ("platform", "device_kind", "threads"):
        del manifest["machine"][key]
    path.write_text(json.dumps(manifest))
    (tmp_path / "student" / "damaged").mkdir()
    (tmp_path / "student" / "damaged" / "manifest.json").write_text("{")
    found = expected(student(seed=1), tmp_path)
    assert found.seconds == 60 and found.memory is None and found.disk is None
