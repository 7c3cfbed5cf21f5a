"""`launch/local_processes.sh`: what its processes receive, what happens when one of them fails, and
that two processes compute what one computes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import os, pathlib, sys, time

index = os.environ["CONKD_PROCESS_ID"]
print(index, os.environ["CONKD_NUM_PROCESSES"], os.environ["CONKD_COORDINATOR"], *sys.argv[1:])
if sys.argv[1] == "fail":
    if index == "1":
        sys.exit(7)
    time.sleep(600)  # until the script ends it
    pathlib.Path(sys.argv[2]).touch()
"""


@pytest.fixture
def launch(tmp_path: Path):
    """Runs the script with a small program in place of conkd_jax.train."""
    (tmp_path / "program.py").write_text(PROGRAM)
    own = {"PYTHON": sys.executable, "PYTHONPATH": str(tmp_path), "CONKD_PROGRAM": "program"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(ROOT / "launch" / "local_processes.sh"), *arguments],
            env={**os.environ, **own},
            capture_output=True,
            text=True,
        )

    return run


def test_every_process_receives_its_index_and_arguments(launch) -> None:
    outcome = launch("3", "--config=a b", "--plan")
    assert outcome.returncode == 0, outcome.stderr
    lines = sorted(outcome.stdout.splitlines())
    assert [line.split()[:3] for line in lines] == [[f"[{i}]", str(i), "3"] for i in range(3)]
    assert all(line.endswith("--config=a b --plan") for line in lines)
    coordinators = {line.split()[3] for line in lines}
    assert len(coordinators) == 1
    assert coordinators.pop().startswith("localhost:")


def test_one_failure_ends_all(launch, tmp_path: Path) -> None:
    outcome = launch("3", "fail", str(tmp_path / "survived"))
    assert outcome.returncode == 7
    assert "exit code 7" in outcome.stderr
    assert not (tmp_path / "survived").exists(), "the script waited for the others"


@pytest.mark.parametrize("arguments", [(), ("0",), ("two", "--config=x")])
def test_a_wrong_number_is_explained(launch, arguments: tuple[str, ...]) -> None:
    outcome = launch(*arguments)
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("launch/local_processes.sh: expected N")


def pipeline(root: Path, num_processes: int) -> Path:
    """Runs the small world's pipeline, one device for each process; returns the run's folder."""
    options = {
        "artifacts_dir": root / "artifacts",
        "runs_dir": root / "runs",
        "parallel.num_devices": num_processes,
        "dialogue_teacher.epochs": 12,
        "student.epochs": 12,
        # Only dropout depends on the layout of devices.
        "rec_teacher.user_dropout": 0.0,
        "rec_teacher.context_dropout": 0.0,
        "dialogue_teacher.dropout": 0.0,
        "turn_classifier.dropout": 0.0,
        # Rounding to bfloat16 can turn a difference in the last digit into one in the third.
        "teacher_outputs.dtype": "float32",
    }
    command = [
        str(ROOT / "launch" / "local_processes.sh"),
        str(num_processes),
        "--config=tests/fixtures/small_world.py",
        *(f"--config.{name}={value}" for name, value in options.items()),
    ]
    with subprocess.Popen(
        command,
        env=os.environ | {"PYTHON": sys.executable},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            output, _ = process.communicate()
        finally:
            process.terminate()  # if the test is out of time; the script then ends its processes
    assert process.returncode == 0, output
    (folder,) = (root / "runs").iterdir()
    return folder


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_processes_compute_what_one_computes(tmp_path: Path) -> None:
    """The whole pipeline; both processes write into one folder of artifacts."""
    one, two = (pipeline(tmp_path / str(number), number) for number in (1, 2))
    for stage in ("rec_teacher", "dialogue_teacher", "turn_classifier", "student"):
        history = Path("artifacts") / stage / "history.jsonl"
        for wanted, found in zip(lines(one / history), lines(two / history), strict=True):
            assert found.keys() == wanted.keys()
            for name in wanted.keys() & {
                "step",
                "loss",
                "dev_nll",
                "dev_loss",
                "dev_cross_entropy",
            }:
                np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, err_msg=name)
    manifest = json.loads((two / "artifacts" / "student" / "manifest.json").read_text())
    assert manifest["machine"]["num_processes"] == 2
    predictions = [lines(folder / "predictions.jsonl") for folder in (one, two)]
    for wanted, found in zip(*predictions, strict=True):
        for name in ("conversation_id", "turn", "predicted_turn_type", "generated_tokens"):
            assert found[name] == wanted[name]
        np.testing.assert_allclose(found["token_nll"], wanted["token_nll"], rtol=1e-3, atol=1e-3)
    assert len({response["generated"] for response in predictions[0]}) > 3, (
        "nearly all responses are equal: this compares nothing"
    )
