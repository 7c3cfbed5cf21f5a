import dataclasses
import json
import math
import os
import re
import signal
import time

import jax
import numpy as np
import pytest

from conkd_jax.config import ConfigError
from conkd_jax.runtime.parallel import init_state
from conkd_jax.training import loop
from conkd_jax.training.checkpoint import Checkpoints
from tests.fixtures.disks import flip, largest_file
from tests.fixtures.points import (
    Points,
    make_task,
    optimizer_config,
    read_result,
    train_in_processes,
    training_processes,
)
from tests.fixtures.training import KINDS, assert_close, assert_same


class Crash(Exception):
    """Stands for anything that ends a process."""


class Interrupted(Points):
    """Points that call `happens` just before the batch of one step."""

    def __init__(self, at_step, happens, **fields):
        super().__init__(**fields)
        self.at_step, self.happens = at_step, happens

    def iterate(self, start_step):
        for step, batch in enumerate(super().iterate(start_step), start_step):
            if step == self.at_step:
                self.happens(batch)
            yield batch


def crash(batch):
    raise Crash


def train(task, directory, **options):
    defaults = {"seed": 1, "checkpoint_every": 5, "log_every": 1}
    options = {**defaults, "num_devices": task.loader.num_devices, **options}
    warmup_steps = min(3, task.num_steps - 1)
    config = options.pop("config", optimizer_config(warmup_steps=warmup_steps))
    return loop.train(task, config, directory=directory, **options)


def saved(task, directory):
    """The newest checkpoint: step, state (parameters, optimizer, EMA), best, host decisions."""
    from conkd_jax.training.optimizers import make_optimizer

    optimizer = make_optimizer(optimizer_config(), task.num_steps)
    target = init_state(task.init(jax.random.key(0)), optimizer, with_ema=task.ema_decay > 0)
    with Checkpoints(directory / "checkpoints") as checkpoints:
        return checkpoints.restore(target, target.params)


def assert_same_run(first, second):
    for field in dataclasses.fields(loop.Result):
        assert_same(getattr(first, field.name), getattr(second, field.name))


# --- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_eight_devices_train_as_one(tmp_path, kind):
    one = train(make_task(Points(1)), tmp_path / "1")
    eight = train(make_task(Points(8)), tmp_path / "8", kind=kind)
    assert len(one.history) == 20
    for a, b in zip(one.history, eight.history, strict=True):
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-4)
    np.testing.assert_allclose(
        one.history[0]["grad_norm"], eight.history[0]["grad_norm"], rtol=1e-5
    )


def test_training_learns_and_logs(tmp_path, capsys):
    result = train(make_task(num_steps=60), tmp_path, log_dir=tmp_path / "log", log_every=10)
    assert result.history[-1]["dev_loss"] < 0.75 * result.history[0]["dev_loss"]
    assert [line["step"] for line in result.history if "accuracy" in line] == sorted(
        {*range(4, 61, 4), *range(10, 61, 10)}
    )
    assert all(("dev_loss" in line) == (line["step"] % 4 == 0) for line in result.history)
    assert result.step == 60 and result.metrics == result.history[-1]
    assert "tokens" not in result.metrics
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.history
    events = b"".join(path.read_bytes() for path in (tmp_path / "log").glob("events.*"))
    assert b"dev_loss" in events and b"grad_norm" in events
    assert "points: done at step 60" in capsys.readouterr().out


def test_history_holds_means_of_its_window(tmp_path):
    """A line is the mean over the steps since the previous line, not the value of the last step."""
    every = train(make_task(evaluated=False), tmp_path / "a", log_every=1).history
    fifth = train(make_task(evaluated=False), tmp_path / "b", log_every=5).history
    assert [line["step"] for line in fifth] == [5, 10, 15, 20]
    for index, line in enumerate(fifth):
        mean = np.mean([each["loss"] for each in every[5 * index : 5 * index + 5]])
        np.testing.assert_allclose(line["loss"], mean, rtol=1e-6)


def test_the_history_of_a_long_training_has_a_bounded_number_of_lines(tmp_path, monkeypatch):
    """So have its TensorBoard log and its checkpoints, and a resumed one has the same lines."""
    monkeypatch.setattr(loop, "LOG_EVERY", 2)
    monkeypatch.setattr(loop, "MAX_POINTS", 10)
    options = {"log_every": 0, "log_dir": tmp_path / "log"}
    task = make_task(num_steps=57, evaluated=False)
    straight = train(task, tmp_path / "straight", **options)
    assert [line["step"] for line in straight.history] == [*range(6, 57, 6), 57]
    events = b"".join(path.read_bytes() for path in (tmp_path / "log").glob("events.*"))
    assert events.count(b"grad_norm") == len(straight.history)
    stopped = make_task(Interrupted(16, crash), num_steps=57, evaluated=False)
    with pytest.raises(Crash):
        train(stopped, tmp_path / "resumed", log_every=0)
    assert_same_run(train(task, tmp_path / "resumed", log_every=0), straight)


def test_constants_reach_the_loss(tmp_path):
    task = make_task(num_steps=1, evaluated=False)
    task.constants = {"scale": np.float32(0)}
    result = train(task, tmp_path)
    np.testing.assert_allclose(result.metrics["loss"], math.log(3), rtol=1e-6)


def scripted(values):
    """Returns an evaluation with these values in order, and the list of parameters it saw."""
    seen = []

    def evaluate(params):
        seen.append(jax.tree.map(np.array, params))
        return {"score": values[len(seen) - 1]}

    return {"evaluate": evaluate, "evaluate_every": 4}, seen


@pytest.mark.parametrize("mode, best", [("max", 2), ("min", 3)])
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_the_best_evaluation_is_kept(tmp_path, mode, best, ema_decay):
    evaluation, seen = scripted([0.2, 0.5, 0.1, 0.5, 0.3])
    task = make_task(select=("score", mode), ema_decay=ema_decay, **evaluation)
    result = train(task, tmp_path)
    assert result.step == result.metrics["step"] == 4 * best
    assert_same(result.params, seen[best - 1])
    state = saved(task, tmp_path).state
    assert_same(seen[-1], state.ema if ema_decay else state.params)


def test_patience_ends_training(tmp_path):
    evaluation, seen = scripted([0.5, 0.4, 0.6, 0.6, 0.7])
    task = make_task(num_steps=100, select=("score", "min"), patience=2, **evaluation)
    result = train(task, tmp_path)
    assert (result.step, len(seen), result.history[-1]["step"]) == (8, 4, 16)
    assert saved(task, tmp_path).step == 16
    again = train(task, tmp_path)  # training is over: a fifth evaluation would raise
    assert_same_run(result, again)


# --- resuming ----------------------------------------------------------------------------------

VARIANTS = {
    "plain": {},
    "dropout_and_ema": {"dropout": 0.3, "ema_decay": 0.9, "select": ("dev_loss", "min")},
    "early_stopping": {"select": ("dev_loss", "max"), "patience": 3},  # the gain is at the start
}
WAYS = [(name, 3, "pmap") for name in VARIANTS] + [(name, 13, "pmap") for name in VARIANTS]


@pytest.mark.parametrize("name, at_step, kind", [*WAYS, ("dropout_and_ema", 13, "mesh")])
def test_resumed_equals_straight(tmp_path, name, at_step, kind):
    options, fields = {"log_every": 3, "rng_impl": "unsafe_rbg", "kind": kind}, VARIANTS[name]
    task = make_task(**fields)
    straight = train(task, tmp_path / "straight", **options)
    with pytest.raises(Crash):
        train(make_task(Interrupted(at_step, crash), **fields), tmp_path / "again", **options)
    before = saved(task, tmp_path / "again")
    assert before is None if at_step == 3 else before.step == 10
    resumed = train(make_task(**fields), tmp_path / "again", **options)
    assert_same_run(straight, resumed)
    assert_same(saved(task, tmp_path / "straight"), saved(task, tmp_path / "again"))
    assert (tmp_path / "straight/history.jsonl").read_bytes() == (
        tmp_path / "again/history.jsonl"
    ).read_bytes()
    if "patience" in fields:
        assert straight.history[-1]["step"] == 16 < 20


@pytest.mark.parametrize(
    "before, after",
    [(("pmap", 8), ("mesh", 8)), (("mesh", 8), ("pmap", 2)), (("mesh", 2), ("mesh", 8))],
    ids=str,
)
def test_a_checkpoint_is_resumed_by_another_layout(tmp_path, before, after):
    fields = {"ema_decay": 0.9, "select": ("dev_loss", "min")}
    straight = train(make_task(Points(1), **fields), tmp_path / "straight")
    with pytest.raises(Crash):
        task = make_task(Interrupted(13, crash, num_devices=before[1]), **fields)
        train(task, tmp_path / "moved", kind=before[0])
    at_10 = saved(task, tmp_path / "moved")
    assert at_10.step == 10
    # Resumed by a training that is over at step 10, the checkpoint is what comes out again.
    again = make_task(Points(after[1]), num_steps=10, **fields)
    assert_same(train(again, tmp_path / "moved", kind=after[0]).params, at_10.best)
    moved = train(make_task(Points(after[1]), **fields), tmp_path / "moved", kind=after[0])
    assert [line["step"] for line in moved.history] == [*range(1, 21)]
    assert moved.step == straight.step
    assert_close(moved.params, straight.params, rtol=1e-4)
    for one, other in zip(moved.history, straight.history, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_resumed_from_the_checkpoint_before_a_damaged_one_equals_straight(tmp_path, capsys):
    options = {"log_every": 3, "rng_impl": "unsafe_rbg"}
    fields = VARIANTS["dropout_and_ema"]
    straight = train(make_task(**fields), tmp_path / "straight", **options)
    with pytest.raises(Crash):
        train(make_task(Interrupted(13, crash), **fields), tmp_path / "again", **options)
    newest = tmp_path / "again" / "checkpoints" / "10"
    flip(largest_file(newest / "state"), 8)
    resumed = train(make_task(**fields), tmp_path / "again", **options)
    assert f"{newest}/state" in (said := capsys.readouterr().out) and "is damaged" in said
    assert_same_run(straight, resumed)
    assert_same(
        saved(make_task(**fields), tmp_path / "straight").state,
        saved(make_task(**fields), tmp_path / "again").state,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(tmp_path, capsys, number):
    straight = train(make_task(), tmp_path / "straight")
    handler = signal.getsignal(number)
    loader = Interrupted(7, lambda batch: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as stop:
        train(make_task(loader), tmp_path / "again")
    assert stop.value.code == 128 + number
    assert signal.getsignal(number) is handler
    first, last = capsys.readouterr().out.splitlines()[-2:]
    assert "stopping: steps that have begun are finished" in first
    assert last.endswith("stopped at step 8, saved; the same command resumes it")
    assert saved(make_task(), tmp_path / "again").step == 8
    assert_same_run(straight, train(make_task(), tmp_path / "again"))


def test_a_signal_in_the_last_step_stops_before_the_next_stage(tmp_path, capsys):
    straight = train(make_task(), tmp_path / "straight")
    loader = Interrupted(19, lambda batch: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as stop:
        train(make_task(loader), tmp_path / "again")
    assert stop.value.code == 128 + signal.SIGTERM
    assert "stopped at step 20, saved" in capsys.readouterr().out
    assert_same_run(straight, train(make_task(), tmp_path / "again"))


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = train(make_task(select=("dev_loss", "min")), tmp_path)
    task = make_task(Interrupted(20, crash), select=("dev_loss", "min"))
    assert_same_run(first, train(task, tmp_path))


@pytest.mark.parametrize("shape", [(0,), (3, 0)])
def test_parameters_without_elements_are_refused_before_the_first_step(tmp_path, shape):
    task = make_task(num_steps=4)
    init = task.init
    task.init = lambda rng: {**init(rng), "relations": {"bases": np.zeros(shape, np.float32)}}
    message = r"points: parameter \['relations'\]\['bases'\] has shape " + re.escape(str(shape))
    with pytest.raises(loop.EmptyParameterError, match=message):
        train(task, tmp_path)
    assert not list(tmp_path.rglob("history.jsonl"))
    assert Checkpoints(tmp_path / "checkpoints").restore(None, None) is None


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    train(make_task(num_steps=2), tmp_path)
    task = make_task(num_steps=2)
    task.init = lambda rng: {"other": np.zeros(3, np.float32)}
    with pytest.raises(ValueError, match="does not fit this run's parameters"):
        train(task, tmp_path)


@pytest.mark.slow
def test_killed_anywhere_equals_straight(tmp_path):
    """SIGKILL twice, in the middle of steps and saves, then to the end."""
    options = ["--num_steps", 40, "--dropout", 0.3]
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    for folder in (straight, killed):
        folder.mkdir()
    train_in_processes(1, "--directory", straight, *options)
    for after_step in (1, 12):
        arguments = ["--directory", killed, *options, "--seconds", 0.05]
        with training_processes(1, *arguments) as (process,):
            while newest_checkpoint(killed) <= after_step:
                assert process.poll() is None, process.stdout.read()
                time.sleep(0.01)
        assert not (killed / "result-0.json").exists()
    train_in_processes(1, "--directory", killed, *options)
    for a, b in zip(read_result(straight), read_result(killed), strict=True):
        assert_same(a, b)


def newest_checkpoint(directory):
    names = [path.name for path in (directory / "checkpoints").glob("[0-9]*")]
    return max((int(name) for name in names if name.isdigit()), default=0)


# --- bad numbers and bad input -----------------------------------------------------------------


def poison(name, value):
    def spoil(batch):
        batch[name][0, 0, 0] = value

    return spoil


@pytest.mark.parametrize("at_step", [0, 12, 19])
def test_a_bad_loss_stops_with_its_rows(tmp_path, at_step):
    loader = Interrupted(at_step, poison("x", np.nan))
    with pytest.raises(FloatingPointError) as error:
        train(make_task(loader), tmp_path, checkpoint_every=1)
    message = str(error.value)
    assert f"points: loss nan and gradient norm nan at step {at_step};" in message
    assert f"row-{at_step}-31" in message and f"row-{at_step + 1}-" not in message
    checkpoint = saved(make_task(), tmp_path)
    if at_step == 0:
        assert checkpoint is None
    else:
        assert checkpoint.step == at_step  # of the steps before the bad one
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(checkpoint.state))


def test_a_bad_gradient_stops_where_the_loss_is_finite(tmp_path):
    def loss(params, batch, rng, constants):
        # |x|^1.5 has a finite value at 0; the square root inside gives the gradient nan there
        value = sum(
            jax.numpy.sqrt(jax.numpy.square(leaf * 0)).sum() for leaf in jax.tree.leaves(params)
        )
        return value, {}

    task = make_task(evaluated=False)
    task.loss = loss
    with pytest.raises(FloatingPointError, match="loss 0.0 and gradient norm nan at step 0"):
        train(task, tmp_path)


def test_a_bad_number_is_never_evaluated(tmp_path):
    evaluation, seen = scripted([0.1] * 5)
    task = make_task(Interrupted(11, poison("x", np.inf)), **evaluation)
    with pytest.raises(FloatingPointError, match="at step 11"):
        train(task, tmp_path)
    assert len(seen) == 2  # after steps 4 and 8; 12 would have seen the bad step


def test_a_bad_evaluation_stops(tmp_path):
    evaluation, _ = scripted([0.1, math.nan])
    with pytest.raises(FloatingPointError) as error:
        train(make_task(select=("score", "min"), **evaluation), tmp_path)
    message = str(error.value)
    assert "points: evaluate gives score = nan after 8 steps" in message
    assert "row-7-31" in message and "row-8-" not in message
    assert saved(make_task(select=("score", "min"), **evaluation), tmp_path).step == 5


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"num_steps": 0}, "num_steps is 0"),
        ({"evaluate_every": 0}, "evaluate_every is 0"),
        ({"select": ("dev_loss", "lowest")}, "lowest"),
        ({"evaluated": False, "select": ("dev_loss", "min")}, "together with an evaluate"),
        ({"patience": 2}, "patience is 2, which needs select"),
    ],
)
def test_tasks_that_contradict_themselves_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        make_task(**fields)


@pytest.mark.parametrize(
    "loader, config",
    [(Points(4), {}), (Points(8, 2), {}), (Points(8, 1), {"accumulate_steps": 2})],
)
def test_batches_of_another_layout_are_refused(tmp_path, loader, config):
    with pytest.raises(ValueError, match=r"batch\['x'\] has shape .* expected \(8, "):
        train(make_task(loader), tmp_path, num_devices=8, config=optimizer_config(**config))


@pytest.mark.parametrize("field, value", [("warmup_steps", 20), ("schedule", "step")])
def test_an_optimizer_that_cannot_work_is_named(tmp_path, field, value):
    message = f"config.points.optimizer.{field} is {value!r}"
    with pytest.raises(ConfigError, match=message):
        train(make_task(), tmp_path, config=optimizer_config(**{field: value}))
    assert not any(tmp_path.iterdir())


def test_metric_names_are_checked(tmp_path):
    evaluation, _ = scripted([0.1] * 5)
    with pytest.raises(ValueError, match=r"select names 'recall'; evaluate gives \['score'\]"):
        train(make_task(select=("recall", "max"), **evaluation), tmp_path / "a")
    task = make_task(evaluate=lambda params: {"loss": 1.0})
    with pytest.raises(ValueError, match=r"evaluate gives \['loss'\], names that training metrics"):
        train(task, tmp_path / "b")


def test_an_error_of_the_loader_is_raised(tmp_path):
    with pytest.raises(Crash):
        train(make_task(Interrupted(2, crash)), tmp_path)
