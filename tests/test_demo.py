"""The first look that README opens with."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conkd_jax import demo
from conkd_jax.stages import pipeline
from tests.fixtures.contents import contents
from tests.fixtures.disks import flip, largest_file
from tests.fixtures.programs import call_program, refused


def test_seeds_are_numbers(capsys):
    assert call_program(demo, "--seeds=0,one") == 2
    assert "--seeds: expected numbers such as 0,1,2; got 0,one" in capsys.readouterr().err


def test_the_committed_demo_shows_the_effect():
    """Three seeds: better than fine-tuning with p < .05, and three times chance."""
    path = Path(demo.__file__).parents[1] / "docs/results/demo/three_seeds.json"
    trainings = json.loads(path.read_text())["trainings"]
    assert [each["seed"] for each in trainings] == [0, 1, 2]
    for each in trainings:
        conkd, fine_tuned = each["metrics"][demo.CONKD], each["metrics"][demo.FINE_TUNED]
        assert each["p_values_of_conkd"][demo.FINE_TUNED] < 0.05
        assert conkd["f1@10"] > 1.5 * fine_tuned["f1@10"]
        assert conkd["f1@10"] >= 3 * conkd["f1@10_chance"]


@pytest.mark.slow
def test_what_is_damaged_is_made_anew(call, small_world, tmp_path, monkeypatch):
    """With a smaller system in place of all three, which is trained already."""
    shutil.copytree(small_world.artifacts_dir, tmp_path / "artifacts")
    monkeypatch.chdir(tmp_path)
    file = "tests/fixtures/small_world.py:demo"
    monkeypatch.setattr(demo, "CONFIGS", dict.fromkeys(demo.CONFIGS, file))
    for name, value in {"tested": None, "numbers": {}, "screen": ["the screen"]}.items():
        monkeypatch.setattr(demo, name, lambda *_, value=value: value)
    fingerprint = pipeline.build(small_world.config())["student"].fingerprint
    student = Path("artifacts", "student", fingerprint)
    whole = contents(student)
    flip(largest_file(student, "params/**/d/*"), 0)
    shutil.rmtree(Path("artifacts", "evaluation"))
    error = refused(call(demo), f"{student}/params", "--rebuild=student\n")
    option = error.split()[-1]
    code, output, errors = call(demo, option)
    assert code == 0 and "the screen" in output, output + errors
    assert f"removing {student}" in output
    assert contents(student) == whole


@pytest.mark.slow
def test_the_demo_ends_with_a_screen_of_80_columns(tmp_path):
    """As users start it: alone in a process, compiled for speed.

    In the folder that CONKD_TRAINED_DEMO names, `make demo` has just trained the systems: they are
    found there, as for a user who starts it again.
    """
    folder = os.environ.get("CONKD_TRAINED_DEMO", tmp_path)
    numbers = tmp_path / "seeds.json"
    environ = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    command = [sys.executable, "-m", "conkd_jax.demo", f"--json={numbers}"]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    screen = done.stdout[done.stdout.rindex("A conversation that no system") :].splitlines()
    assert max(map(len, screen)) <= 80 and len(screen) <= 40
    (training,) = json.loads(numbers.read_text())["trainings"]
    assert training["p_values_of_conkd"][demo.FINE_TUNED] < 0.05
