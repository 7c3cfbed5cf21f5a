"""`launch/tpu_pod.sh` on a cloud in a folder: from nothing to a result, also after a preemption."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.fixtures.processes import started_after

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = str(ROOT / "launch" / "tpu_pod.sh")

pytestmark = pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="the script sends the last commit of a checkout"
)


def pod(standin: dict[str, str], *arguments: str, **variables: str):
    return subprocess.run(
        [SCRIPT, *arguments], env=standin | variables, capture_output=True, text=True, timeout=300
    )


def calls(standin: dict[str, str]) -> list[list[str]]:
    lines = (Path(standin["STANDIN"]) / "calls.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def log(standin: dict[str, str], host: int) -> list[str]:
    return (Path(standin["STANDIN"]) / "hosts" / str(host) / "conkd.log").read_text().splitlines()


def until(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_from_nothing_to_a_result(standin):
    outcome = pod(standin, "create", "pod", SPOT="1", PROJECT="mine")
    assert outcome.returncode == 0, outcome.stderr
    asked = calls(standin)[0]
    assert asked[:5] == ["compute", "tpus", "queued-resources", "create", "pod"]
    assert {"--node-id=pod", "--zone=us-west4-a", "--project=mine", "--spot"} < set(asked)
    assert "WAITING_FOR_RESOURCES" in outcome.stderr and "ACTIVE" in outcome.stderr

    assert pod(standin, "install", "pod").returncode == 0
    host = Path(standin["STANDIN"]) / "hosts" / "1"
    assert (host / "conkd_jax" / "conkd_jax" / "train.py").is_file()
    assert "--editable .[tpu,kgsf]" in (host / "installed").read_text()

    forwarded = {"JAX_A": 'it\'s "so" $HOME', "CONKD_RAW_DIR": "gs://a b", "HF_TOKEN": "secret"}
    outcome = pod(standin, "run", "pod", "go", "--config=a b", "it's", **forwarded)
    assert outcome.returncode == 0, outcome.stderr
    until(lambda: all((host.parent / str(i) / "conkd.exit").exists() for i in range(2)))
    for index in range(2):
        found = json.loads(log(standin, index)[0])
        assert found.pop("arguments") == ["go", "--config=a b", "it's"]
        assert found == {
            "CONKD_COORDINATOR": "auto",
            "CONKD_RAW_DIR": "gs://a b",
            "JAX_A": 'it\'s "so" $HOME',
        }

    status = pod(standin, "status", "pod").stdout.splitlines()
    assert status[:2] == ["TPU: ACTIVE", "program: ended with exit code 0"]
    assert pod(standin, "delete", "pod").returncode == 0
    assert calls(standin)[-1][3:] == ["delete", "pod", "--zone=us-west4-a", "--force", "--quiet"]
    assert pod(standin, "status", "pod").stdout == "TPU: NONE\n"


def test_stop_ends_the_program_at_a_checkpoint(standin, tmp_path: Path):
    for command in (["create", "pod"], ["install", "pod"], ["run", "pod", "wait", f"{tmp_path}/a"]):
        assert pod(standin, *command).returncode == 0
    until(lambda: (tmp_path / "a-0").exists() and (tmp_path / "a-1").exists())
    assert "program: running" in pod(standin, "status", "pod").stdout
    assert pod(standin, "stop", "pod").returncode == 0
    until(lambda: "exit code 143" in pod(standin, "status", "pod").stdout)
    assert log(standin, 1)[-1] == "saved"


def test_logs_follow_host_0_and_ctrl_c_ends_the_following_only(standin, tmp_path: Path):
    for command in (["create", "pod"], ["install", "pod"], ["run", "pod", "wait", f"{tmp_path}/a"]):
        assert pod(standin, *command).returncode == 0
    until(lambda: (tmp_path / "a-0").exists() and (tmp_path / "a-1").exists())
    heard = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL)"  # as in a terminal
    logs = subprocess.Popen(
        started_after(heard, SCRIPT, "logs", "pod"),
        env=standin,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert logs.stdout is not None
        assert json.loads(logs.stdout.readline())["arguments"] == ["wait", f"{tmp_path}/a"]
        with (Path(standin["STANDIN"]) / "hosts" / "0" / "conkd.log").open("a") as log_of_host_0:
            log_of_host_0.write("step 100\n")
        assert logs.stdout.readline() == "step 100\n"
        os.killpg(
            logs.pid, signal.SIGINT
        )  # Ctrl-C reaches the script and the commands it waits for
        assert logs.wait(timeout=60) != 0
    finally:
        if logs.poll() is None:
            os.killpg(logs.pid, signal.SIGKILL)
        logs.communicate()
    assert "--worker=0" in calls(standin)[-1]
    assert "program: running" in pod(standin, "status", "pod").stdout
    assert pod(standin, "stop", "pod").returncode == 0
    until(lambda: "exit code 143" in pod(standin, "status", "pod").stdout)


def test_keep_goes_through_a_preemption(standin, tmp_path: Path):
    keeper = subprocess.Popen(
        [SCRIPT, "keep", "pod", "wait-once", str(tmp_path / "begun")],
        env=standin | {"JAX_A": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: all((tmp_path / f"begun-{host}").exists() for host in range(2)))
        subprocess.run([f"{standin['STANDIN']}/gcloud", "preempt"], env=standin, check=True)
        _, errors = keeper.communicate(timeout=300)
    finally:
        keeper.kill()
    assert keeper.returncode == 0, errors
    assert "SUSPENDED, so it is asked for again" in errors
    assert [call[3] for call in calls(standin)].count("create") == 2
    assert "'" + SCRIPT + " delete pod' ends the costs" in errors


@pytest.mark.parametrize("code", [2, 1])
def test_keep_ends_with_the_program(standin, code: int):
    assert pod(standin, "keep", "pod", str(code)).returncode == code
    assert [call[3] for call in calls(standin)].count("create") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "expected a command"),
        (("launch", "pod"), "got 'launch'"),
        (("run",), "expected the name"),
        (("run", "pod"), "expected the arguments of program"),
        (("delete", "pod", "other"), "expected no more arguments"),
    ],
)
def test_a_wrong_call_is_explained(standin, arguments: tuple[str, ...], told: str):
    outcome = pod(standin, *arguments)
    assert outcome.returncode == 2
    assert told in outcome.stderr and len(outcome.stderr.splitlines()) == 1
    assert not (Path(standin["STANDIN"]) / "calls.jsonl").exists()


def test_a_missing_zone_is_told(standin):
    outcome = pod(standin, "create", "pod", ZONE="")
    assert outcome.returncode == 2 and "expected ZONE" in outcome.stderr


def test_a_dry_run_calls_nothing(standin):
    outcome = pod(standin, "--dry-run", "keep", "pod", "--config=a b", SPOT="1")
    assert outcome.returncode == 0, outcome.stderr
    assert not (Path(standin["STANDIN"]) / "calls.jsonl").exists()
    lines = outcome.stdout.splitlines()
    assert lines[0].startswith("gcloud compute tpus queued-resources create pod")
    assert any("--config=a" in line for line in lines)
