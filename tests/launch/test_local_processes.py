"""`launch/local_processes.sh`: what its processes receive, and what happens when one of them fails.

That they compute what one process computes is in tests/training/test_layouts.py.
"""

import os
import subprocess
import sys
from pathlib import Path

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
