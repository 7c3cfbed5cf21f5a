"""`launch/slurm.sh` under stand-ins for Slurm's commands: what each task gets, and time limits."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
JOB = {"SLURM_JOB_ID": "41234", "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "node[7-8]"}


def job(standin: dict[str, str], *arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", str(ROOT / "launch" / "slurm.sh"), *arguments],
        env=standin | JOB | {"SLURM_SUBMIT_DIR": str(ROOT)} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def calls(standin: dict[str, str]) -> list[str]:
    return (Path(standin["STANDIN"]) / "calls").read_text().splitlines()


def test_every_task_knows_its_place(standin):
    process = job(standin, "go", "--config=a b", JAX_A="1")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    found = sorted((json.loads(line) for line in output.splitlines()), key=str)
    assert [task["CONKD_PROCESS_ID"] for task in found] == ["0", "1"]
    for task in found:
        assert task["CONKD_COORDINATOR"] == f"node7:{20000 + 41234 % 20000}"
        assert task["CONKD_NUM_PROCESSES"] == "2"
        assert task["arguments"] == ["go", "--config=a b"] and task["JAX_A"] == "1"
    assert calls(standin) == ["scontrol show hostnames node[7-8]"]


def test_submitted_with_sbatch_it_runs_in_the_checkout(standin):
    """Slurm runs a copy of the script elsewhere; the script finds its folder all the same."""
    options = ["--nodes=2", "--gpus-per-node=8", "--time=12:00:00"]
    outcome = subprocess.run(
        ["sbatch", *options, "launch/slurm.sh", "go", "--config=a b"],
        cwd=ROOT,
        env=standin,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert outcome.returncode == 0, outcome.stderr
    found = sorted((json.loads(line) for line in outcome.stdout.splitlines()), key=str)
    assert [task["CONKD_PROCESS_ID"] for task in found] == ["0", "1"]
    assert {task["CONKD_COORDINATOR"] for task in found} == {f"node7:{20000 + 41234 % 20000}"}
    assert all(task["arguments"] == ["go", "--config=a b"] for task in found)
    submitted = f"sbatch {' '.join(options)} launch/slurm.sh go --config=a b"
    assert calls(standin) == [submitted, "scontrol show hostnames node[7-8]"]


@pytest.mark.parametrize("requeue", ["1", "0"])
def test_at_the_time_limit_tasks_save_and_the_job_is_queued_again(standin, tmp_path, requeue: str):
    process = job(standin, "wait", str(tmp_path / "begun"), REQUEUE=requeue)
    try:
        end = time.monotonic() + 120
        while not list(tmp_path.glob("begun-*")):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.1)
        time.sleep(0.5)  # the other task has begun as well
        process.send_signal(signal.SIGTERM)  # what `#SBATCH --signal=B:TERM@300` sends
        output, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert output.count("saved") == 2, errors
    assert process.returncode == 143
    queued = ["scontrol requeue 41234"] * (requeue == "1")
    assert calls(standin)[1:] == ["scancel --signal=TERM 41234", *queued]


@pytest.mark.parametrize("code", [2, 1])
def test_a_failure_is_not_queued_again(standin, code: int):
    process = job(standin, str(code))
    process.communicate(timeout=300)
    assert process.returncode == code
    assert not any("requeue" in call for call in calls(standin))


def test_the_options_that_slurm_reads():
    lines = (ROOT / "launch" / "slurm.sh").read_text().splitlines()
    options = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]
    first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    last_option = max(i for i, line in enumerate(lines) if line.startswith("#SBATCH"))
    assert last_option < first_command, "sbatch reads no option below the first command"
    assert {"--ntasks-per-node=1", "--requeue", "--signal=B:TERM@300"} < set(options)


def test_outside_a_job_it_says_sbatch(standin):
    outcome = subprocess.run(
        [ROOT / "launch" / "slurm.sh", "--config=x"], env=standin, capture_output=True, text=True
    )
    assert outcome.returncode == 2 and "sbatch" in outcome.stderr
