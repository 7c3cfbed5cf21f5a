"""The one training loop: recommender, dialogue teacher, turn classifier and student all use it.

A `Task` says what is trained; `train` says how: steps, evaluation, early stopping, checkpoints,
resuming, the stop at a bad number. It must not know which model or which stage it serves.

A run is a function of (task, optimizer config, seed, device count). Whatever a step or a decision
depends on is in the checkpoint, so a run that was stopped anywhere continues bit for bit.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from etils import epath
from jaxtyping import PyTree

from conkd_jax import optimizers, parallel
from conkd_jax.checkpoint import CHECKPOINTS, Checkpoints
from conkd_jax.config import ConfigError
from conkd_jax.progress import Progress
from conkd_jax.watch import DivergedError, LateMetrics, Line, StopSignals, Track


@runtime_checkable
class Loader(Protocol):
    """Where batches come from; batch(step) is a pure function of the step."""

    def iterate(self, start_step: int) -> Iterator[Mapping[str, np.ndarray]]:
        """Batches of start_step, start_step + 1, … without end, arrays [D_local, A, ...]."""
        ...

    def row_ids(self, step: int) -> Any:
        """Names of the rows in the batch of a step, for messages."""
        ...


@dataclasses.dataclass
class Task:
    """What is trained.

    Attributes:
      name: of its part of the config, for messages and logs.
      init: rng to the first parameters (nested dicts).
      loss: `(params, batch, rng, constants)` to `(loss_sum, {name: (sum, count)})` for one
        device's micro-batch. Sums over devices and micro-batches give the batch's values: weights
        hold the division. A metric "tokens" is (tokens, anything), for tokens a second; it stays
        out of the history.
      loader: gives batches by step.
      num_steps: steps of the whole training.
      constants: arrays every step needs (a graph): replicated once, an argument of the step.
      evaluate: parameters (on a device; the EMA's, if any) to metrics. The first process's values
        are everybody's. None: no evaluation.
      evaluate_every: steps between evaluations; the last step always evaluates.
      select: (metric of `evaluate`, "min" or "max"): the result is the best evaluation's
        parameters. None: the last ones.
      patience: evaluations without a gain before training stops; 0 never stops early.
      ema_decay: decay of the moving average of parameters; 0 = none.
    """

    name: str
    init: Callable[[jax.Array], PyTree]
    loss: parallel.Loss
    loader: Loader
    num_steps: int
    constants: PyTree = None
    evaluate: Callable[[PyTree], Mapping[str, float]] | None = None
    evaluate_every: int = 0
    select: tuple[str, str] | None = None
    patience: int = 0
    ema_decay: float = 0.0

    def __post_init__(self):
        if self.num_steps < 1:
            raise ValueError(f"{self.name}: num_steps is {self.num_steps}; expected >= 1")
        if self.evaluate is not None and self.evaluate_every < 1:
            raise ValueError(f"{self.name}: evaluate_every is {self.evaluate_every}; expected >= 1")
        if self.select is not None and (
            self.evaluate is None or self.select[1] not in ("min", "max")
        ):
            raise ValueError(
                f'{self.name}: select is {self.select!r}; expected (metric, "min" or "max") '
                "together with an evaluate function"
            )
        if self.patience and self.select is None:
            raise ValueError(f"{self.name}: patience {self.patience} needs select, got None")


@dataclasses.dataclass(frozen=True)
class Result:
    """What training gives: NumPy parameters (best, or last), their step, its metrics, the curves.

    `step` counts the updates behind `params`; `metrics` is that step's line of `history`.
    """

    params: PyTree
    step: int
    metrics: Line
    history: list[Line]


def check_batch(task: Task, batch: Mapping, leading: tuple[int, int]) -> None:
    """Refuses a batch whose first two axes are not [local devices, micro-batches].

    Raises:
      ValueError: names the array, its shape and what was expected.
    """
    for name, array in batch.items():
        if np.shape(array)[:2] != leading:
            raise ValueError(
                f"{task.name}: batch[{name!r}] has shape {np.shape(array)}; expected "
                f"({leading[0]}, {leading[1]}, ...): this process's devices, then "
                "optimizer.accumulate_steps. The loader and the loop must be given the same "
                "num_devices and accumulate_steps."
            )


@dataclasses.dataclass
class Run:
    """One training run at one moment: what the loop changes.

    Attributes:
      task: what is trained.
      state: on the devices, replicated.
      track: what the host decides by.
      best: parameters of the best evaluation, on the host; None before it.
      done: steps done.
    """

    task: Task
    state: parallel.TrainState
    track: Track
    best: PyTree | None
    done: int

    @classmethod
    def begin(cls, task: Task, optimizer: Any, seed: int, checkpoints: Checkpoints, devices: list):
        """The run before its first step, or as its newest checkpoint left it."""
        params = task.init(jax.random.key(seed, impl="threefry2x32"))
        state = parallel.init_state(params, optimizer, with_ema=task.ema_decay > 0)
        track, best = Track(), None
        if restored := checkpoints.restore(state, state.params):
            state, best, track = restored.state, restored.best, Track(**restored.progress)
        return cls(task, parallel.replicate(state, devices), track, best, int(state.step))

    @property
    def is_over(self) -> bool:
        """Whether all steps are done, or early stopping ends the run here."""
        return self.done >= self.task.num_steps or self.track.is_out_of(self.task.patience)

    @property
    def is_evaluation_due(self) -> bool:
        """Whether the task asks for an evaluation after this step; the last step always does."""
        return self.done == self.task.num_steps or is_due(self.done, self.task.evaluate_every)

    @property
    def params(self) -> PyTree:
        """The replicated parameters that are evaluated and returned: the EMA's, or the last."""
        return self.state.params if self.state.ema is None else self.state.ema

    def add_line(self) -> Line:
        """Adds a line to the history, evaluating where that is due; keeps the best parameters."""
        metrics = evaluate(self.task, self.params, self.done) if self.is_evaluation_due else {}
        line = self.track.close_window(self.done, metrics)
        if metrics and self.task.select and self.track.is_gain(line, self.task.select):
            self.best = parallel.to_host(self.params)
        return line

    def save(self, checkpoints: Checkpoints, directory: epath.Path) -> None:
        """Starts a checkpoint and writes the history beside it."""
        state, track = parallel.to_host(self.state), dataclasses.asdict(self.track)
        checkpoints.save(self.done, state, track, self.best)
        if parallel.is_first_process():
            unfinished = directory / "history.jsonl.tmp"
            unfinished.write_text("".join(json.dumps(line) + "\n" for line in self.track.history))
            unfinished.replace(directory / "history.jsonl")

    def result(self) -> Result:
        """The best evaluation's parameters where the task selects, else the last ones."""
        step = self.track.best_step if self.task.select else self.done
        params = self.best if self.task.select else parallel.to_host(self.params)
        metrics = next(line for line in self.track.history if line["step"] == step)
        return Result(params, step, dict(metrics), self.track.history)


def train(
    task: Task,
    optimizer_config: Any,
    *,
    seed: int,
    directory: epath.PathLike,
    log_dir: epath.PathLike | None = None,
    num_devices: int = 0,
    checkpoint_every: int = 0,
    log_every: int = 50,
    rng_impl: str = "threefry2x32",
) -> Result:
    """Trains a task to its end, from its newest checkpoint if there is one.

    Args:
      task: what is trained.
      optimizer_config: the `optimizer` config part; see `optimizers.make_optimizer`.
      seed: of the initial parameters and of every step's rng.
      directory: gets `checkpoints/` and `history.jsonl`.
      log_dir: TensorBoard's folder; None writes none.
      num_devices: over all processes; 0 = all.
      checkpoint_every: steps between checkpoints; 0 saves at the end, or when stopped, only.
      log_every: steps between lines of history (evaluations add theirs).
      rng_impl: of the steps' root key; "unsafe_rbg" makes dropout cheap on CPU and TPU.

    Returns:
      The result; every process gets the same one.

    Raises:
      ConfigError: the optimizer part can't work for a training of this length; names the field.
      DivergedError: a loss, a gradient norm or the selected metric is not finite; nothing of
        that step is saved.
      ValueError: batches that don't fit the devices, or a checkpoint of another model.
      SystemExit: after SIGINT or SIGTERM, when the state is saved.
    """
    devices, directory = parallel.select_devices(num_devices), epath.Path(directory)
    try:
        optimizer = optimizers.make_optimizer(optimizer_config, task.num_steps)
    except ValueError as error:
        raise ConfigError(f"config.{task.name}.{error}") from error
    update = parallel.make_train_step(
        task.loss, optimizer, devices, ema_decay=task.ema_decay, rng_impl=rng_impl
    )
    root_key = jax.random.key_data(jax.random.key(seed, impl=rng_impl))
    fixed = parallel.replicate({"key": root_key, "constants": task.constants}, devices)
    leading = (len(parallel.local_devices(devices)), optimizer_config.accumulate_steps)
    with Checkpoints(directory / CHECKPOINTS) as checkpoints, StopSignals() as stop:
        run = Run.begin(task, optimizer, seed, checkpoints, devices)
        with Progress(task.name, task.num_steps, run.done, log_dir) as progress:
            late = LateMetrics(task.name, task.loader.row_ids, run.track, progress.step)
            batches = task.loader.iterate(run.done)
            while not run.is_over:
                batch = next(batches)
                check_batch(task, batch, leading)
                run.state, metrics = update(run.state, batch, fixed)
                late.add(run.done, metrics)
                run.done += 1

                if run.is_evaluation_due or is_due(run.done, log_every):
                    late.drain()
                    progress.scalars(run.add_line())
                is_stopped = not run.is_over and stop.is_asked(run.done)
                if run.is_over or is_stopped or is_due(run.done, checkpoint_every):
                    late.drain()
                    run.save(checkpoints, directory)
                if is_stopped:
                    checkpoints.wait()
                    progress.say(f"stopped at step {run.done}, saved; the same command goes on")
                    raise SystemExit(stop.exit_code)
            result = run.result()
            progress.say(f"done at step {run.done}. {summary(result)}")
    return result


def evaluate(task: Task, params: PyTree, step: int) -> dict[str, float]:
    """The first process's metrics of `task.evaluate`; none where the task has none.

    Args:
      task: what is trained.
      params: replicated.
      step: steps done, for the message.

    Raises:
      ValueError: the selected metric is not among them.
      DivergedError: the selected metric is not finite.
    """
    if task.evaluate is None:
        return {}
    values = task.evaluate(parallel.unreplicate(params))
    metrics = parallel.broadcast({name: float(value) for name, value in values.items()})
    if task.select is None:
        return metrics
    name = task.select[0]
    if name not in metrics:
        raise ValueError(f"{task.name}: select names {name!r}; evaluate gives {sorted(metrics)}")
    if not math.isfinite(metrics[name]):
        raise DivergedError(
            f"{task.name}: evaluate gives {name} = {metrics[name]} after {step} steps; expected a "
            f"finite number. Rows of the last batch: {task.loader.row_ids(step - 1)}. Nothing of "
            "this step was saved, and the same command would come here again: lower "
            f"--config.{task.name}.optimizer.learning_rate, or look at these rows."
        )
    return metrics


def is_due(step: int, every: int) -> bool:
    """Whether `step` is a multiple of `every`; never where `every` is 0."""
    return every > 0 and step % every == 0


def summary(result: Result) -> str:
    """One line about the parameters that are kept."""
    values = [f"{name} {value:.4g}" for name, value in result.metrics.items() if name != "step"]
    return f"Parameters of step {result.step}: {', '.join(values)}"
