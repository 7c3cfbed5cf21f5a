"""Runs are sent to trackers whole, resumed ones go on there, and no tracker can harm a run.

Weights & Biases and MLflow are the real packages, offline.
"""

import importlib.util
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from conkd_jax import rows, train
from conkd_jax.training import loop, trackers
from conkd_jax.training.trackers import TrackedRun, TrackerError
from tests.fixtures.points import Points, make_task, optimizer_config
from tests.fixtures.programs import CONFIG, refused

RUN = TrackedRun("0123456789abcdef", "points-seed0", "", {"a.rate": 0.5, "a.name": "x", "seed": 0})
FINAL = {"valid/f1@10": 0.25, "valid/ppl": 12.5}
NUM_STEPS, STOPPED_AT = 20, 12


class Stopping(Points):
    """Points whose process is told to stop at a step, as by Slurm."""

    def iterate(self, start_step):
        for step, batch in enumerate(super().iterate(start_step), start_step):
            if step == STOPPED_AT:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


def train_points(directory: Path, loader: Points) -> list:
    task = make_task(loader, num_steps=NUM_STEPS)
    options = {"seed": 1, "checkpoint_every": 5, "log_every": 1, "num_devices": 1}
    return loop.train(task, optimizer_config(), directory=directory, **options).history


def train_with_a_stop(name: str, directory: Path) -> list[dict]:
    """Trains in two attempts, as two processes would; returns the history of the training."""
    with pytest.raises(SystemExit), trackers.tracked(name, RUN):
        train_points(directory, Stopping(1))
    with trackers.tracked(name, RUN) as finish:
        history = train_points(directory, Points(1))
        finish(FINAL)
    assert len(history) == NUM_STEPS
    return history


# --- MLflow ------------------------------------------------------------------------------------


@pytest.fixture
def mlflow_client(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/mlruns")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    from mlflow import MlflowClient

    return MlflowClient


def test_mlflow_has_one_whole_run(tmp_path, mlflow_client):
    history = train_with_a_stop("mlflow", tmp_path / "points")
    client = mlflow_client()
    experiment = client.get_experiment_by_name("conkd_jax")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == (RUN.name, "FINISHED")
    assert run.data.params == {name: str(value) for name, value in RUN.config.items()}
    assert run.data.metrics["valid/f1_at_10"] == 0.25 and run.data.metrics["valid/ppl"] == 12.5
    for name in ("loss", "grad_norm", "dev_loss"):
        sent = {
            m.step: m.value for m in client.get_metric_history(run.info.run_id, f"points/{name}")
        }
        assert sent == {line["step"]: line[name] for line in history if name in line}


def test_mlflow_knows_that_a_run_was_stopped(tmp_path, mlflow_client):
    with pytest.raises(SystemExit), trackers.tracked("mlflow", RUN):
        train_points(tmp_path / "points", Stopping(1))
    (run,) = mlflow_client().search_runs(
        [mlflow_client().get_experiment_by_name("conkd_jax").experiment_id]
    )
    assert run.info.status == "KILLED"


def test_mlflow_takes_a_whole_config(small_world, mlflow_client):
    config = small_world.config().flat()
    with trackers.tracked("mlflow", TrackedRun("k", "n", "a sweep", config)):
        pass
    (run,) = mlflow_client().search_runs(
        [mlflow_client().get_experiment_by_name("conkd_jax").experiment_id]
    )
    assert run.data.params["distill.gate"] == "hard" and len(run.data.params) == len(config) > 200
    assert run.data.tags["group"] == "a sweep"


# --- Weights & Biases --------------------------------------------------------------------------


@pytest.fixture
def wandb_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return tmp_path / "wandb"


def records_of(folder: Path) -> list:
    """What Weights & Biases would upload from an offline run, in order.

    The file is a log as LevelDB has it: blocks of 32 KiB with pieces of records, each after its
    CRC (4 bytes), length (2) and kind (1: whole, 2 to 4: first, middle and last piece).
    """
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.glob("run-*.wandb")
    data, place, pieces, records = file.read_bytes(), 7, b"", []
    while place + 7 <= len(data):
        if (left := -place % (1 << 15)) and left < 7:
            place += left  # no piece begins in the last bytes of a block
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        pieces += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            records.append(wandb_internal_pb2.Record.FromString(pieces))
            pieces = b""
    return records


def items_of(items) -> dict:
    return {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in items}


def test_wandb_has_one_whole_run(tmp_path, wandb_folder):
    import wandb

    history = train_with_a_stop("wandb", tmp_path / "points")
    wandb.teardown()  # as at the end of a process: waits until the files are whole
    attempts = sorted(wandb_folder.glob("offline-run-*"), key=lambda path: path.stat().st_ctime)
    assert len(attempts) == 2 and {path.name.rpartition("-")[2] for path in attempts} == {RUN.key}
    records = [records_of(folder) for folder in attempts]
    sent = {}
    for record in (each for attempt in records for each in attempt):
        if record.WhichOneof("record_type") == "run":
            assert (record.run.run_id, record.run.display_name) == (RUN.key, RUN.name)
            assert record.run.project == "conkd_jax"
            assert items_of(record.run.config.update).items() >= RUN.config.items()
        if record.WhichOneof("record_type") == "history":
            point = items_of(record.history.item)
            sent[point["points/step"]] = point
    assert sorted(sent) == [line["step"] for line in history]
    for line in history:
        for name in ("loss", "grad_norm", "dev_loss"):
            assert sent[line["step"]].get(f"points/{name}") == line.get(name)
    summaries = [items_of(r.summary.update) for r in records[1] if r.HasField("summary")]
    assert {
        key: value for each in summaries for key, value in each.items()
    }.items() >= FINAL.items()
    exits = [[r.exit.exit_code for r in attempt if r.HasField("exit")] for attempt in records]
    assert exits == [[1], [0]]


# --- a tracker of the user's own -----------------------------------------------------------------


class Memory:
    """Keeps what it is sent."""

    def __init__(self, run):
        self.run, self.lines, self.metrics = run, [], "not finished"
        OPENED.append(self)

    def scalars(self, part, step, values):
        self.lines.append((part, step, dict(values)))

    def finish(self, metrics):
        self.metrics = metrics


class Failing(Memory):
    def scalars(self, part, step, values):
        super().scalars(part, step, values)
        raise ConnectionError("the service is down")


class Unreachable:
    def __init__(self, run):
        raise ConnectionError("no such host")


OPENED: list[Memory] = []
OWN = f"{__name__}:Memory"


@pytest.fixture(autouse=True)
def opened():
    OPENED.clear()
    yield OPENED
    OPENED.clear()


def test_without_a_tracker_nothing_is_sent(tmp_path):
    with trackers.tracked("", RUN) as finish:
        train_points(tmp_path / "points", Points(1))
        finish(FINAL)
    trackers.scalars("points", 1, {"loss": 1.0})  # outside of any run
    assert not OPENED


def test_a_tracker_that_fails_is_left_out(tmp_path, capsys):
    with trackers.tracked(f"{__name__}:Failing", RUN) as finish:
        with_it = train_points(tmp_path / "a", Points(1))
        finish(FINAL)
    without = train_points(tmp_path / "b", Points(1))
    assert with_it == without
    assert len(OPENED[0].lines) == 1
    output = capsys.readouterr().out
    assert output.count("warning: --tracker") == 1 and "the service is down" in output


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wand", "expected wandb, mlflow, or a class of your own"),
        ("no_such_module:Writer", "can't be imported"),
        (f"{__name__}:Missing", "can't be imported"),
        (f"{__name__}:Unreachable", "ConnectionError: no such host"),
        ("builtins:repr", "scalars: expected a function"),
    ],
)
def test_what_is_no_tracker_is_told_at_once(name, words):
    with pytest.raises(TrackerError, match=words), trackers.tracked(name, RUN):
        pytest.fail("the training began")


@pytest.mark.parametrize("name", trackers.KNOWN)
def test_a_package_that_is_missing_is_one_line(call, monkeypatch, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    for program, arguments in ((train, [CONFIG]), (rows, ["kgsf:demo", "--dry_run"])):
        outcome = call(program, *arguments, f"--tracker={name}")
        refused(outcome, f"the package {name} is not installed", f"'conkd_jax[{name}]'")


# --- whole runs ----------------------------------------------------------------------------------


def folders(world, tmp_path) -> list[str]:
    return [f"--config.artifacts_dir={world.artifacts_dir}", f"--config.runs_dir={tmp_path}/runs"]


def test_a_sweep_is_a_group_of_runs_and_a_tracker_is_in_no_fingerprint(
    call, small_world, tmp_path, opened
):
    arguments = [CONFIG, *folders(small_world, tmp_path), f"--workdir={tmp_path}/sweep"]
    arguments += ["--config.sweep.field=decode.max_tokens", "--config.sweep.over=(8,)"]
    code, output, errors = call(train, *arguments, f"--tracker={OWN}")
    assert code == 0, errors
    (one,) = opened
    assert one.run.group == "sweep" and one.run.name.startswith("sweep/")
    assert one.lines == []  # all of it was trained before, without a tracker
    metrics = json.loads(next((tmp_path / "sweep").glob("*/metrics.json")).read_text())
    assert one.metrics == {f"valid/{name}": value for name, value in metrics["metrics"].items()}
    assert "tensorboard --logdir=" in output


def test_the_tracker_of_the_how_to_page_sees_what_is_trained(
    call, small_world, tmp_path, monkeypatch
):
    page = (Path(__file__).parents[2] / "docs/howto/track_experiments.md").read_text()
    (tmp_path / "csv_tracker.py").write_text(page.split("```python\n")[1].split("```")[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    own = [f"--config.artifacts_dir={small_world.artifacts_dir}", "--config.student.epochs=1"]
    code, output, errors = call(train, CONFIG, *own, "--tracker=csv_tracker:Table")
    assert code == 0, errors
    (file,) = tmp_path.glob("*.csv")
    table = [line.split(",") for line in file.read_text().splitlines()]
    (folder,) = (tmp_path / "runs").iterdir()
    assert table[0] == ["run", folder.name, "1"]
    metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
    final = {row[2]: float(row[3]) for row in table if row[0] == "final"}
    assert final == {f"valid/{name}": value for name, value in metrics.items()}
    lines = (folder / "artifacts/student/history.jsonl").read_text().splitlines()
    history = [json.loads(line) for line in lines]
    sent = [(int(r[1]), float(r[3])) for r in table if r[0] == "student" and r[2] == "loss"]
    assert sent == [(line["step"], line["loss"]) for line in history if "loss" in line]
    assert len(sent) >= 1 and {row[0] for row in table} == {"run", "student", "final"}
    events = list((folder / "artifacts/student/tensorboard").glob("events.*"))
    assert events and np.any([b"dev_" in path.read_bytes() for path in events])
