"""Whole programs whose artifacts and runs lie in a bucket."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from etils import epath

from conkd_jax import verify
from conkd_jax.artifacts.manifest import whole_manifest
from conkd_jax.stages import pipeline
from conkd_jax.training import checkpoint
from tests.fixtures.forked import folder_of_run
from tests.fixtures.programs import CONFIG
from tests.fixtures.small_world import STAGES, SmallWorld
from tests.fixtures.training import assert_same

ROOT = Path(__file__).resolve().parents[1]
BUCKET = "gs://bucket/world"


def start(root, store=None) -> subprocess.Popen:
    """Starts the run of the small world at a root, which may be in a bucket of the store."""
    command = (
        *(sys.executable, "-u", "-m", "conkd_jax.train", CONFIG),
        *(f"--config.artifacts_dir={root}/artifacts", f"--config.runs_dir={root}/runs"),
        "--config.checkpoint_every=40",
    )
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | (store.environment if store else {}) | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill_once(store, what: str) -> None:
    """Starts the run, and kills it as soon as an object with these words in its name is there."""
    process = start(BUCKET, store)
    with process:
        while not any(what in name for name in store.names(BUCKET)):
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.02)
        process.kill()


@pytest.mark.soak
def test_a_run_in_a_bucket_killed_and_resumed_equals_the_local_one(object_store, tmp_path, call):
    here, there = SmallWorld(tmp_path), SmallWorld(epath.Path(BUCKET))
    with start(tmp_path) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    # In the store of the teachers, and in the student after its first checkpoint.
    student = pipeline.build(here.config())["student"].fingerprint
    for what in ("measured-00000.json", f"{student}/checkpoints/40/commit_success.txt"):
        kill_once(object_store, what)
    with start(BUCKET, object_store) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert f"student {student}: resuming" in output and "Traceback" not in output, output
    stages = pipeline.build(here.config())
    for name in STAGES:
        ours = whole_manifest(stages[name], there.artifacts_dir)
        assert ours["metrics"] == whole_manifest(stages[name], here.artifacts_dir)["metrics"], name
        for folder in ("params", "frozen"):
            local = stages[name].directory(here.artifacts_dir) / folder
            if local.exists():
                remote = stages[name].directory(there.artifacts_dir) / folder
                assert_same(checkpoint.load(remote), checkpoint.load(local))
    folder = folder_of_run(here)
    run = f"{BUCKET}/runs/{folder.name}"
    for name in ("predictions.jsonl", "samples.md"):
        assert object_store.read(f"{run}/{name}") == (folder / name).read_bytes()
    documents = [
        json.loads(object_store.read(f"{run}/metrics.json")),
        json.loads((folder / "metrics.json").read_bytes()),
    ]
    assert documents[0]["metrics"] == documents[1]["metrics"]
    leftovers = [name for name in object_store.names(BUCKET) if "/checkpoints/" in name]
    assert not leftovers and not any(".partial-" in name for name in object_store.names(BUCKET))

    code, output, errors = call(verify, f"{BUCKET}/artifacts")
    assert code == 0, output + errors
