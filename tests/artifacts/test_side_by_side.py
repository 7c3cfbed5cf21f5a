"""Stages that don't need each other are built at the same time, and come out the same."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from conkd_jax import train
from conkd_jax.artifacts.build import ensure
from conkd_jax.artifacts.fingerprint import ArtifactError
from conkd_jax.artifacts.manifest import is_whole
from conkd_jax.artifacts.side_by_side import LOGS, ensure_side_by_side, ready
from conkd_jax.artifacts.stage import Stage, in_order
from conkd_jax.stages import pipeline
from tests.fixtures.contents import contents
from tests.fixtures.programs import CONFIG, refused
from tests.fixtures.small_world import SmallWorld
from tests.fixtures.three_teachers import TEACHERS, by_name, student


def program(root: Path, body: str):
    """Commands that build one stage of `student`, in a process of its own, after `body`."""

    def command(wanted: Stage) -> list[str]:
        text = f"""
            import pathlib, sys, time
            from conkd_jax.artifacts.build import ensure
            from tests.fixtures.three_teachers import by_name, student
            root, name = pathlib.Path({str(root)!r}), {wanted.name!r}
        """
        end = "ensure(by_name(student())[name], root)\n"
        return [sys.executable, "-c", textwrap.dedent(text) + textwrap.dedent(body) + end]

    return command


def test_what_is_ready_has_its_inputs(tmp_path):
    last = student()
    stages = by_name(last)
    assert ready([last], tmp_path) == [stages["corpus"]]
    ensure(stages["corpus"], tmp_path)
    assert ready([last, last], tmp_path) == [stages[name] for name in TEACHERS]
    ensure(stages["second"], tmp_path)
    assert ready([last], tmp_path) == [stages["first"], stages["third"]]
    ensure(last, tmp_path)
    assert ready([last], tmp_path) == []


def test_stages_that_are_ready_meet(tmp_path):
    """Two of the three see each other before either of them ends."""
    meet = """
        here = root / "here"
        here.mkdir(exist_ok=True)
        (here / name).touch()
        began = time.monotonic()
        while len(list(here.iterdir())) < 2 and time.monotonic() - began < 300:
            time.sleep(.05)
        assert len(list(here.iterdir())) > 1
    """
    last = student()
    ensure_side_by_side([last], tmp_path, program(tmp_path, meet), num_jobs=2)
    assert is_whole(last, tmp_path)
    logs = sorted(path.name for path in (tmp_path / LOGS).iterdir())
    # What is ready alone needs no process.
    assert logs == sorted(f"{name}-{by_name(last)[name].fingerprint}.log" for name in TEACHERS)


def test_a_failure_names_the_stage_and_its_log_and_keeps_the_others(tmp_path):
    fail = """
        if name == "second":
            sys.exit("error: no second teacher")
    """
    last = student()
    with pytest.raises(ArtifactError, match="second.*exit code 1, error: no second.*[.]log"):
        ensure_side_by_side([last], tmp_path, program(tmp_path, fail), num_jobs=3)
    stages = by_name(last)
    assert [name for name in TEACHERS if is_whole(stages[name], tmp_path)] == ["first", "third"]
    ensure_side_by_side([last], tmp_path, program(tmp_path, ""), num_jobs=3)
    assert is_whole(last, tmp_path)


# --- train ---------------------------------------------------------------------------------------


def options(world: SmallWorld) -> list[str]:
    return [f"--config.artifacts_dir={world.artifacts_dir}", f"--config.runs_dir={world.root}/runs"]


def test_until_stops_after_a_stage(call, tmp_path):
    world = SmallWorld(tmp_path)
    code, output, _ = call(train, CONFIG, *options(world), "--until=vocabulary")
    assert code == 0 and "vocabulary/" in output
    built = {path.parent.parent.name for path in world.artifacts_dir.glob("*/*/manifest.json")}
    assert built == {"corpus", "vocabulary"} and not (tmp_path / "runs").exists()
    message = refused(call(train, CONFIG, *options(world), "--until=teacher"), "--until=teacher")
    assert "expected a stage of this run: corpus" in message


def test_jobs_need_locks_and_one_tracker(call, tmp_path):
    two = [CONFIG, "--jobs=2", "--config.artifacts_dir=gs://bucket/artifacts"]
    refused(call(train, *two), "--jobs=2", "object store")
    more = [CONFIG, *options(SmallWorld(tmp_path)), "--jobs=2"]
    refused(call(train, *more, "--tracker=tests.fixtures.three_teachers:Number"), "--tracker")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_what_is_trained_at_once_has_the_bits_of_what_is_trained_in_turn(tmp_path):
    in_turn, at_once = (SmallWorld(tmp_path / name) for name in ("in_turn", "at_once"))
    for world, num_jobs in ((in_turn, 1), (at_once, 2)):
        command = [sys.executable, "-m", "conkd_jax.train", CONFIG, *options(world)]
        command += [f"--jobs={num_jobs}", "--until=student"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("2 at once" in done.stdout) == (num_jobs == 2)
    stages = in_order(pipeline.build(at_once.config())["student"])
    assert {"rec_teacher", "dialogue_teacher", "student"} <= {each.name for each in stages}
    for each in stages:
        pair = [Path(each.directory(world.artifacts_dir)) for world in (in_turn, at_once)]
        assert contents(pair[0]) == contents(pair[1]), each.name
