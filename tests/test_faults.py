"""Disks that are full or read-only, power cuts, and signals, as whole programs meet them."""

import gc
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import pytest
from etils import epath

from conkd_jax import train
from conkd_jax.artifacts.build import ensure
from conkd_jax.artifacts.manifest import is_whole
from conkd_jax.artifacts.stage import Stage
from conkd_jax.artifacts.verify import verify
from conkd_jax.runs.folder import write_run_folder
from conkd_jax.stages import pipeline
from tests.fixtures.contents import contents
from tests.fixtures.disks import Disk, FullDisk
from tests.fixtures.processes import started_after
from tests.fixtures.programs import CONFIG, refused
from tests.fixtures.small_world import NAME, STAGES, SmallWorld

ROOT = Path(__file__).resolve().parents[1]
NOBODY = 65534  # a user who owns nothing


def arguments(root: Path) -> list[str]:
    return [CONFIG, f"--config.artifacts_dir={root}/artifacts", f"--config.runs_dir={root}/runs"]


# --- read-only disks ---------------------------------------------------------------------------


@pytest.fixture
def read_only(small_world):
    """A world whose artifacts this process may read but not write; its runs may be written."""
    with tempfile.TemporaryDirectory() as name:
        root, is_root = Path(name), os.geteuid() == 0
        shutil.copytree(small_world.artifacts_dir, root / "artifacts")
        (root / "runs").mkdir()
        for path in [*(root / "artifacts").rglob("*"), root / "artifacts", root]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        if is_root:  # whom permissions don't stop
            os.chown(root / "runs", NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield root
        finally:
            if is_root:
                os.seteuid(0)
            for path in [root, root / "artifacts", *(root / "artifacts").rglob("*")]:
                path.chmod(0o755)


def test_whole_artifacts_need_only_be_readable(call, read_only):
    files = sorted((read_only / "artifacts").rglob("*"))
    code, output, errors = call(train, *arguments(read_only))
    assert code == 0, output + errors
    assert list((read_only / "runs").glob("*/metrics.json"))
    assert sorted((read_only / "artifacts").rglob("*")) == files
    another = "--config.decode.max_tokens=9"
    refused(call(train, *arguments(read_only), another), "config.artifacts_dir: expected a folder")


# --- full disks --------------------------------------------------------------------------------


def write(settings, directory, context) -> dict:
    (directory / "out.txt").write_text("written")
    return {}


def test_a_full_disk_at_the_log(tmp_path):
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    stage = Stage("teacher", 1, {}, {}, write)
    with pytest.raises(OSError, match=r"No space left on device: '.*log.jsonl'"):
        ensure(stage, tmp_path)
    assert is_whole(stage, tmp_path)
    ensure(stage, tmp_path)  # what was reused need not be recorded


@pytest.fixture
def limited():
    """Limits the size of every file that this process writes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    caches = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)  # its files would be cut as well
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    jax.config.update("jax_enable_compilation_cache", caches)


def test_a_full_disk_at_a_run_s_folder(call, small_world, tmp_path, limited):
    root = tmp_path / "world"
    root.mkdir()
    (root / "artifacts").symlink_to(small_world.artifacts_dir)
    limited(2000)
    outcome = call(train, *arguments(root))
    limited(resource.RLIM_INFINITY)
    refused(outcome, "predictions.jsonl: File too large", "run the same command again")
    (run,) = (root / "runs").iterdir()
    assert not list(run.rglob("*.partial-*")) and not (run / "metrics.json").exists()
    shutil.rmtree(root)


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_a_full_disk_at_any_stage_is_one_line_and_loses_nothing(small_world, tmp_path, name):
    world = SmallWorld(tmp_path)
    shutil.copytree(small_world.artifacts_dir, world.artifacts_dir)
    stages = pipeline.build(world.config())
    for each in STAGES[STAGES.index(name) :]:
        shutil.rmtree(stages[each].directory(world.artifacts_dir))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))"
    done = subprocess.run(
        started_after(limit, sys.executable, "-m", "conkd_jax.train", *arguments(tmp_path)),
        cwd=ROOT,
        env=os.environ
        | {
            "JAX_PLATFORMS": "cpu",
            "JAX_ENABLE_COMPILATION_CACHE": "false",
            "PYTHONDONTWRITEBYTECODE": "1",  # Python would cut these files short, in silence
        },
        capture_output=True,
        text=True,
    )
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and len(told) == 1, done.stderr
    assert told == done.stderr.splitlines()[-1:] and "Traceback" not in done.stderr
    assert name in told[0] and "File too large" in told[0]
    assert "run the same command again" in told[0]
    assert not is_whole(stages[name], world.artifacts_dir)
    for each in STAGES[: STAGES.index(name)]:
        assert verify(stages[each].directory(world.artifacts_dir)).state == "whole"


@pytest.fixture
def only_read_cache():
    """Leaves the compilation cache as it is, whose files a full disk would cut."""
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", float("inf"))
    yield
    jax.config.update("jax_persistent_cache_min_compile_time_secs", before)


# Folders whose files are opened by C++.
OF_LIBRARIES = ("dialogues", "state", "best", "params")
# Some of the kinds of files that are written, one for each module that writes.
KINDS = {
    *("no a lock", "log.jsonl", "tries.json", "manifest.json", "no a folder of a stage"),
    *("in dialogues", "dialogues/dataset_info.json", "items.npz", "vocabulary.json"),
    *("tensorboard/events.out.tfevents", "in checkpoints/#/item", "checkpoints/#/files.json"),
    *("checkpoints/#/item/_METADATA", "history.jsonl", "in params", "params/_METADATA"),
    *("model.json", "measured-#.json", "heads.npz", "store.json"),
    *("tokens.npz", "predictions.jsonl", "checkpoints/responses-#.json", "scores.json"),
    *("no a folder of a run", "no artifacts/one of them", "artifacts/artifacts.txt"),
    *("config.json", "samples.md", "figures/one of them", "metrics.json"),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # those of a failed checkpoint
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # where they end
def test_a_full_disk_at_every_file(call, small_world, tmp_path, only_read_cache):
    """The next call goes on where the disk was full, until it is full at another kind of file."""
    world = SmallWorld(tmp_path / "world")
    world.root.mkdir()
    disk = FullDisk(world.root, OF_LIBRARIES)
    while True:
        with disk.filling():
            outcome = call(train, *arguments(world.root))
        if outcome[0] == 0:
            break
        error = refused(outcome, "free some ", "run the same command again")
        (told,) = re.findall(rf"{world.root}[^:;]*(?=: )", error)[:1]
        path = disk.path.partition(".partial-")[0]
        # A checkpoint may be told first: a training writes it in the background.
        is_near = path.startswith(told) or told.startswith(path) or "/checkpoints" in told
        assert is_near, (disk.hit[-1], error)
        assert error.count("\n") == 1 and not list(world.root.rglob("*.partial-*"))
    assert not KINDS - set(disk.hit), disk.hit
    (folder,) = (world.root / "runs").iterdir()
    assert (
        json.loads((folder / "metrics.json").read_text())["metrics"]
        == (json.loads((small_world.folder / "metrics.json").read_text())["metrics"])
    )
    for name, stage in pipeline.build(world.config()).items():
        made, straight = (stage.directory(each.artifacts_dir) for each in (world, small_world))
        assert contents(Path(made)) == contents(Path(straight)), name
    gc.collect()  # what failed checkpoints began and left


# --- power cuts --------------------------------------------------------------------------------


def test_a_run_s_folder_is_on_the_disk_before_its_metrics(small_world, tmp_path, monkeypatch):
    disk, config, folder, seen = Disk(monkeypatch), small_world.config(), tmp_path / "run", []

    def cut() -> None:
        if disk.read(folder / "metrics.json") is not None:
            seen.append(True)
            for path in folder.rglob("*"):
                if path.is_file() and "artifacts" not in path.parent.parts[-2:]:
                    assert disk.read(path) == path.read_bytes(), path

    disk.on_flush = cut
    write_run_folder(epath.Path(folder), config, NAME, pipeline.build(config), command="a test")
    assert seen and not list(folder.rglob("*.partial-*"))


# --- stopped programs --------------------------------------------------------------------------


def test_leftovers_of_killed_processes_are_deleted(tmp_path):
    stage = Stage("teacher", 1, {}, {}, write)
    directory = Path(stage.directory(tmp_path))
    (directory / "records").mkdir(parents=True)
    (directory / "records" / "incomplete.0123.features.json").write_text("{")
    (directory / ".incomplete-AB12").mkdir()
    (directory / "spec.json.partial-0a1b2c3d").write_text("{")
    ensure(stage, tmp_path)
    left = sorted(path.name for path in directory.rglob("*") if path.is_file())
    assert left == ["manifest.json", "out.txt"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_both_signals_stop_every_stage(tmp_path):
    """As soon as a stage begins; the same command begins it again, until both have stopped it."""
    numbers = [signal.SIGTERM, signal.SIGINT]
    # They may be ignored here, in the background of a shell.
    heard = "; ".join(f"signal.signal({int(number)}, signal.SIG_DFL)" for number in numbers)
    stages = [stage.name for stage in pipeline.build(SmallWorld(tmp_path).config()).values()]
    left = {(stage, number) for stage in stages for number in numbers}
    while left:
        process = subprocess.Popen(
            started_after(
                f"import signal; {heard}",
                *(sys.executable, "-u", "-m", "conkd_jax.train", *arguments(tmp_path)),
            ),
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        sent = 0
        for line in process.stdout:
            match = re.match(r"(\w+) \w{16}: (building|resuming)", line)
            sent = next((n for n in numbers if match and (match[1], n) in left), 0)
            if sent:
                left.remove((match[1], sent))
                process.send_signal(sent)
                break
        with process:
            output, errors = process.communicate()
        assert process.returncode == 128 + sent, errors
        assert "the same command resumes it" in output + errors and "Traceback" not in errors
    finished = subprocess.run([sys.executable, "-m", "conkd_jax.train", *arguments(tmp_path)])
    assert finished.returncode == 0
