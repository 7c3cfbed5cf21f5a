import asyncio
import contextlib
import errno
import gc
import logging
import os
import shutil
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tensorstore

from conkd_jax.io.integrity import DamagedError
from conkd_jax.runtime import parallel
from conkd_jax.training import checkpoint
from conkd_jax.training.checkpoint import Checkpoints
from tests.fixtures.disks import FullDisk, flip, largest_file

PROGRESS = {"history": [{"step": 1, "loss": 0.1 + 0.2}], "window": {}, "best_step": 0}


def make_state(value=1.0, size=3):
    params = {
        "dense": {"kernel": np.full((2, size), value, np.float32)},
        "half": np.asarray(jnp.arange(size, dtype=jnp.bfloat16) / 3),
    }
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    return parallel.init_state(params, optimizer, with_ema=True)


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert type(x) is type(y) is np.ndarray and x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_everything_comes_back_in_its_own_types(tmp_path):
    state = make_state(0.1)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(state, state.params) is None
        checkpoints.save(5, state, PROGRESS, best=state.ema)
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(make_state(9.0), make_state(9.0).params)
    assert restored.step == 5 and restored.progress == PROGRESS
    assert_same(restored.state, state)  # optax's tuples too, not lists
    assert_same(restored.best, state.ema)


def test_the_two_newest_stay(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, make_state(step), PROGRESS)
            checkpoints.save(step, make_state(-1), PROGRESS)  # already there: left as it is
        checkpoints.wait()
        restored = checkpoints.restore(make_state(), make_state().params)
    assert restored.step == 3 and restored.best is None
    assert_same(restored.state, make_state(3))
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["2", "3"]


def test_an_unfinished_checkpoint_is_no_checkpoint(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, make_state(), PROGRESS)
    unfinished = tmp_path / "6.orbax-checkpoint-tmp" / "state"
    unfinished.mkdir(parents=True)
    (unfinished / "_METADATA").write_text('{"tree')
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(make_state(), make_state().params).step == 4
        checkpoints.save(6, make_state(6.0), PROGRESS)
        checkpoints.wait()
        assert checkpoints.restore(make_state(), make_state().params).step == 6


def test_another_tree_is_refused(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, make_state(), PROGRESS)
    other = make_state()
    other.params["more"] = np.zeros(2, np.float32)
    for target in (other, make_state(size=4)):
        with Checkpoints(tmp_path) as checkpoints:
            with pytest.raises(ValueError, match="does not fit this run's parameters"):
                checkpoints.restore(target, target.params)


def test_params_are_saved_and_replaced(tmp_path):
    params = make_state(2.0).params
    checkpoint.save(tmp_path / "params", make_state(1.0).params)
    checkpoint.save(tmp_path / "params", params)
    assert_same(checkpoint.load(tmp_path / "params"), params)


def test_missing_params_are_reported(tmp_path):
    with pytest.raises(FileNotFoundError, match="no saved parameters in .*nothing"):
        checkpoint.load(tmp_path / "nothing")


FULL_DISK = """
import resource
import numpy as np
from absl import flags
from conkd_jax.cli import command_line
from conkd_jax.training.checkpoint import Checkpoints

def main(argv):
    value = np.random.default_rng(0).normal(size=(1000, 1000)).astype(np.float32)
    with Checkpoints(argv[1]) as checkpoints:
        checkpoints.save(1, {"w": value[:10]}, {})
        checkpoints.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        checkpoints.save(2, {"w": value}, {})
        checkpoints.wait()

command_line.run(main, flags.FlagValues(), positional="FOLDER")
"""


@pytest.mark.slow
def test_a_full_disk_is_an_error_and_leaves_the_checkpoint_before(tmp_path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2, run.stderr
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path}: File too large. ")
    assert line.endswith("free some space and run the same command again.")
    with Checkpoints(tmp_path) as checkpoints:
        target = {"w": np.zeros((10, 1000), np.float32)}
        restored = checkpoints.restore(target, target)
    assert restored.step == 1 and restored.state["w"].any()


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # those of a failed save
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_after_a_full_disk_no_thread_waits(tmp_path):
    """Python would wait for it at the end of the program."""
    before, disk, params = set(threading.enumerate()), FullDisk(tmp_path), make_state(1.0).params
    is_saved = False
    while not is_saved:
        with disk.filling(), contextlib.suppress(OSError):
            with Checkpoints(tmp_path / "checkpoints") as checkpoints:
                checkpoints.save(1, make_state(1.0), PROGRESS, best=params)
            checkpoint.save(tmp_path / "params", params)
            is_saved = True
        gc.collect()
    assert {"no /checkpoints/#/state", "no /params"} <= set(disk.hit), disk.hit
    left = [each for each in threading.enumerate() if each not in before and not each.daemon]
    pools = ("ThreadPoolExecutor", "asyncio", "metadata_store", "orbax")
    assert not [each.name for each in left if not each.name.startswith(pools)]


# --- damaged checkpoints -----------------------------------------------------------------------


@pytest.fixture
def two(tmp_path):
    """A folder with checkpoints of steps 3 and 6."""
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for step in (3, 6):
            state = make_state(step)
            checkpoints.save(step, state, PROGRESS | {"best_step": step}, best=state.params)
    return tmp_path / "checkpoints"


def restored(directory):
    with Checkpoints(directory) as checkpoints:
        return checkpoints.restore(make_state(), make_state().params)


def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(two, capsys):
    for path in sorted(path for path in (two / "6").rglob("*") if path.is_file()):
        name, whole = path.relative_to(two), path.read_bytes()
        flip(path, 8 * len(whole) // 2)
        found = checkpoint.problem(two / "6")
        if name.name in ("_CHECKPOINT_METADATA", "commit_success.txt") and not found:
            assert restored(two).step == 6, "nothing that is read is in it"
        else:
            assert str(path) in found, name
        path.write_bytes(whole)
    assert checkpoint.problem(two / "6") == ""
    weights = largest_file(two / "6" / "state")
    flip(weights, 8)
    found = restored(two)
    assert f"{weights} is damaged: " in (said := capsys.readouterr().out)
    assert "went back to the checkpoint before it" in said
    assert found.step == found.progress["best_step"] == 3
    assert_same(found.state, make_state(3))
    with Checkpoints(two) as checkpoints:  # the damaged one is not in the way
        checkpoints.save(6, make_state(6), PROGRESS)
    assert_same(restored(two).state, make_state(6))


@pytest.mark.parametrize("part", ["state", "best", "progress"])
def test_a_checkpoint_that_lacks_a_part_is_damaged(two, part):
    shutil.rmtree(two / "6" / part)
    assert restored(two).step == 3


def test_no_checkpoint_is_left(two):
    for step in ("3", "6"):
        flip(largest_file(two / step), 8)
    with pytest.raises(DamagedError, match="No checkpoint before it is left") as caught:
        restored(two)
    assert caught.value.folder.name == two.parent.name
    assert (two / "3").exists()


def test_a_checkpoint_of_an_earlier_version_has_no_list(two):
    for step in ("3", "6"):
        (two / step / "files.json").unlink()
    assert restored(two).step == 6


def finish_after_its_loop() -> None:
    """A write of tensorstore that ends when the event loop that waited for it is closed."""
    promise, future = tensorstore.Promise.new()
    loop = asyncio.new_event_loop()

    async def write() -> None:
        await future

    task = loop.create_task(write())
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    promise.set_result(None)
    del task
    gc.collect()


def test_after_a_full_disk_the_writes_beside_it_say_nothing(monkeypatch, caplog):
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: heard.append(str(error.exc_value)))
    monkeypatch.setattr(logging.getLogger("asyncio"), "filters", [])
    finish_after_its_loop()
    assert heard == ["Event loop is closed"] and "it is pending" in caplog.text
    heard.clear()
    caplog.clear()
    with pytest.raises(OSError, match="No space left"), checkpoint._full_disk_told("folder"):
        raise ValueError(f"writing failed: {os.strerror(errno.ENOSPC)}")
    finish_after_its_loop()
    assert not heard and not caplog.records
    sys.unraisablehook(type("Error", (), {"exc_value": ValueError("another")}))
    assert heard == ["another"]


def test_memory_that_a_checkpoint_has_freed_is_returned_before_the_next_one(tmp_path, monkeypatch):
    """Once the threads of the one before are done, and before those of this one have begun."""
    events = []
    monkeypatch.setattr(checkpoint, "return_freed_memory", lambda: events.append("returned"))
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            events.append(checkpoints._manager.all_steps())
            checkpoints.save(step, make_state(), PROGRESS)
            checkpoints.wait()
    assert events == [[], "returned", [1], "returned"]
