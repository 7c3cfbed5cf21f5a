"""`launch/local_processes.sh`: what its processes receive, and what happens when one is lost.

That they compute what one process computes is in tests/training/test_layouts.py.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fixtures.processes import WAITS_FOR_OTHERS

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = str(ROOT / "launch" / "local_processes.sh")

PROGRAM = """
import os, pathlib, signal, subprocess, sys, time

index = os.environ["CONKD_PROCESS_ID"]
print(index, os.environ["CONKD_NUM_PROCESSES"], os.environ["CONKD_COORDINATOR"], *sys.argv[1:])
if sys.argv[1] == "fail":
    if index == "1":
        sys.exit(7)
    time.sleep(600)  # until the script ends it
    pathlib.Path(sys.argv[2]).touch()
if sys.argv[1] == "lose":
    how, folder = sys.argv[2], pathlib.Path(sys.argv[3])
    (folder / f"group{index}").write_text(str(os.getpgid(0)))
    if index == "1" and "deaf" in how:  # as a program is whose main thread waits in C++
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if index == "1" and how == "deaf child":
        nothing = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.Popen(["sleep", "600"], **nothing)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while len(list(folder.iterdir())) < 3:
        time.sleep(0.1)
    if index == "1" and how in ("killed", "stopped"):
        os.kill(os.getpid(), signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    if index == "2" and how != "killed":
        time.sleep(1)
        sys.exit(75)  # as a process that misses another one does
    time.sleep(600)
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Variables with which the script runs a small program in place of conkd_jax.train."""
    (tmp_path / "program.py").write_text(PROGRAM)
    own = {"PYTHON": sys.executable, "PYTHONPATH": str(tmp_path), "CONKD_PROGRAM": "program"}
    return {**os.environ, **own}


@pytest.fixture
def launch(environ):
    """Runs the script."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SCRIPT, *arguments], env=environ, capture_output=True, text=True, timeout=300
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


def expect_gone(groups: list[int]) -> None:
    """That no process of these groups is left; those that were killed may take a moment."""
    end = time.monotonic() + 10
    for group in groups:
        while True:
            try:
                os.killpg(group, 0)
            except ProcessLookupError:
                break
            assert time.monotonic() < end, "a process was left behind"
            time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "code"), [("killed", 137), ("stopped", 75), ("deaf", 75), ("deaf child", 75)]
)
def test_no_process_is_left_behind(environ, tmp_path: Path, how: str, code: int) -> None:
    groups = tmp_path / "groups"
    groups.mkdir()
    errors = tmp_path / "errors"
    try:
        with errors.open("w") as file:  # a pipe would end with the last process, not the script
            script = subprocess.Popen(
                [SCRIPT, "3", "lose", how, str(groups)],
                env=environ,
                stdout=subprocess.DEVNULL,
                stderr=file,
            )
        assert script.wait(timeout=60) == code
        assert f"exit code {code}" in errors.read_text()
        found = [int(path.read_text()) for path in groups.iterdir()]
        assert len(set(found)) == 3
        expect_gone(found)
    finally:
        for path in groups.iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(path.read_text()), signal.SIGKILL)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_script_that_is_ended_ends_its_processes(environ, tmp_path: Path, number, code: int):
    groups = tmp_path / "groups"
    groups.mkdir()
    script = subprocess.Popen(
        [SCRIPT, "2", "lose", "none", str(groups)], env=environ, stdout=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 60
        while not all((groups / f"group{i}").exists() for i in range(2)):
            assert time.monotonic() < end and script.poll() is None
            time.sleep(0.1)
        time.sleep(0.5)  # they have been written as well
        found = [int(path.read_text()) for path in groups.iterdir()]
        script.send_signal(number)
        assert script.wait(timeout=60) == code
        expect_gone(found)
    finally:
        script.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_real_run_that_loses_a_process_leaves_none_behind(tmp_path: Path, number) -> None:
    name_itself = "import os, sys; print(os.getpid(), os.getpgid(0), flush=True)\n"
    program = WAITS_FOR_OTHERS % {"for_ever": True, "raises": None}
    (tmp_path / "program.py").write_text(name_itself + program)
    environ = os.environ | {
        "PYTHON": sys.executable,
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
        "CONKD_PROGRAM": "program",
        "CONKD_LOST_AFTER": "8",
        "JAX_PLATFORMS": "cpu",
    }
    script = subprocess.Popen(
        [SCRIPT, "2"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert script.stdout is not None
        places, begun = {}, 0
        while begun < 2:
            index, *words = script.stdout.readline().split()
            begun += words == ["begun"]
            if len(words) == 2 and all(word.isdecimal() for word in words):
                places[index] = tuple(map(int, words))
        os.kill(places["[1]"][0], number)
        began = time.monotonic()
        output, errors = script.communicate(timeout=300)
        assert time.monotonic() - began < 120
    finally:
        script.terminate()  # a script that waits ends its processes
        script.communicate()
    assert script.returncode in ((137, 75) if number == signal.SIGKILL else (75,)), errors
    assert "ending the others" in errors
    assert number == signal.SIGKILL or "error: process 1 of 2" in output
    expect_gone([group for _, group in places.values()])


@pytest.mark.parametrize("arguments", [(), ("0",), ("two", "--config=x")])
def test_a_wrong_number_is_explained(launch, arguments: tuple[str, ...]) -> None:
    outcome = launch(*arguments)
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("launch/local_processes.sh: expected N")
