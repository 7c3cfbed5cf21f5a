"""The training loop of the recommender, dialogue teacher, turn classifier and student.

A `Task` defines what is trained. `train` defines how: steps, evaluation, early stopping,
checkpoints, resuming, and stopping at a number that is not finite. This file must not depend on
particular models or stages.

A run is a function of (task, optimizer config, seed, layout) and, on CPUs, of the number of threads
(`conkd_jax.runtime.threads`). Everything that a step or a decision depends on is in the checkpoint,
so a run that was stopped at any point is resumed bit for bit.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
import optax
from etils import epath

from conkd_jax.config import ConfigError
from conkd_jax.errors import UserError
from conkd_jax.io import terminal
from conkd_jax.io.files import write_whole
from conkd_jax.runtime import parallel, threads
from conkd_jax.training import layouts, optimizers
from conkd_jax.training.checkpoint import CHECKPOINTS, Checkpoints
from conkd_jax.training.progress import Progress
from conkd_jax.training.watch import DivergedError, LateMetrics, Line, StopSignals, Track
from conkd_jax.typing import PyTree

LOG_EVERY = 50  # steps between lines of the history of a training that is not very long
MAX_POINTS = 10_000  # lines of the history of any training, besides those of evaluations
NUMERICS = "numerics"  # in a checkpoint's progress, beside the fields of `watch.Track`


class EmptyParameterError(UserError, ValueError):
    """A network that has nothing to train."""


@runtime_checkable
class Loader(Protocol):
    """The source of batches; the batch of a step is a pure function of the step."""

    def iterate(self, start_step: int) -> Iterator[Mapping[str, np.ndarray]]:
        """Batches of start_step, start_step + 1, … without end: arrays [D_local, A, ...]."""
        ...

    def row_ids(self, step: int) -> Any:
        """Identifies the rows in the batch of a step, for messages."""
        ...


@dataclasses.dataclass
class Task:
    """What is trained.

    Attributes:
      name: name of its part of the config, for messages and logs.
      init: maps a key to the initial parameters (nested dicts).
      loss: maps `(params, batch, rng, constants)` to `(loss_sum, {name: (sum, count)})`, for one
        device's micro-batch. Values of a batch are sums over devices and micro-batches: every
        division is already part of the weights. A metric "tokens" is (tokens, anything); it is
        used for the displayed tokens per second and is not part of the history.
      loader: batches by step.
      num_steps: number of steps of the whole training.
      constants: arrays that every step needs, such as a graph; placed on the devices once and
        passed to the step as an argument.
      divided: the arrays that stay divided on a mesh; see `layouts.Layout.train_step`.
      evaluate: maps parameters (on a device; the moving average, if there is one) to metrics. All
        processes use the values of the first. None for no evaluation.
      evaluate_every: steps between evaluations; the last step is always evaluated.
      select: (metric of `evaluate`, "min" or "max"); the result is the parameters of the best
        evaluation. None for the last parameters.
      patience: evaluations without improvement after which training stops; 0 never stops early.
      ema_decay: decay of the parameters' moving average; 0 for none.
    """

    name: str
    init: Callable[[jax.Array], PyTree]
    loss: parallel.Loss
    loader: Loader
    num_steps: int
    constants: PyTree = None
    divided: Collection[str] = ()
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
            raise ValueError(f"{self.name}: patience is {self.patience}, which needs select")


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a training.

    Attributes:
      params: the best or the last parameters, as NumPy arrays.
      step: number of updates that led to `params`.
      metrics: the line of `history` of that step.
      history: all lines; see `watch.Track`.
    """

    params: PyTree
    step: int
    metrics: Line
    history: list[Line]


def check_batch(task: Task, batch: Mapping, leading: tuple[int, int]) -> None:
    """Refuses a batch if its first two axes are not [local devices, micro-batches].

    Raises:
      ValueError: with the array's name and shape, and the expected shape.
    """
    for name, array in batch.items():
        if np.shape(array)[:2] != leading:
            raise ValueError(
                f"{task.name}: batch[{name!r}] has shape {np.shape(array)}; expected "
                f"({leading[0]}, {leading[1]}, ...): this process's devices, then "
                "optimizer.accumulate_steps. The loader and the loop must be given the same "
                "num_devices and accumulate_steps."
            )


def check_params(task: Task, params: PyTree) -> None:
    """Refuses parameters without elements, which can be neither trained nor saved.

    Raises:
      EmptyParameterError: with the parameter's name and shape.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if 0 in np.shape(leaf):
            raise EmptyParameterError(
                f"{task.name}: parameter {jax.tree_util.keystr(path)} has shape {np.shape(leaf)}; "
                "expected at least one element. The corpus, one of its graphs or the vocabulary "
                "has nothing that this part of the model is for: report.json in the corpus' folder "
                "counts what there is."
            )


@dataclasses.dataclass
class TrainingRun:
    """The state of a training run: everything that the loop changes.

    Attributes:
      task: what is trained.
      layout: how the state lies on the devices.
      state: on the devices.
      track: what the host's decisions depend on.
      best: parameters of the best evaluation, on the host; None before the first one.
      done: number of steps done.
    """

    task: Task
    layout: layouts.Layout
    state: parallel.TrainState
    track: Track
    best: PyTree | None
    done: int

    @classmethod
    def begin(
        cls,
        task: Task,
        optimizer: Any,
        seed: int,
        checkpoints: Checkpoints,
        layout: layouts.Layout,
    ):
        """The run before its first step, or restored from its newest checkpoint.

        A checkpoint of another layout will do: what is saved is whole.
        """
        params = task.init(jax.random.key(seed, impl="threefry2x32"))
        check_params(task, params)
        state = parallel.init_state(params, optimizer, with_ema=task.ema_decay > 0)
        track, best = Track(), None
        if restored := checkpoints.restore(state, state.params):
            progress = dict(restored.progress)
            before = progress.pop(NUMERICS, None)  # an earlier version has not recorded it
            if before and (why := threads.difference(before, threads.numerics())):
                terminal.say(f"warning: {task.name}, step {restored.step}: {why}")
            state, best, track = restored.state, restored.best, Track(**progress)
        return cls(task, layout, layout.put(state), track, best, int(state.step))

    @property
    def is_over(self) -> bool:
        """Whether all steps are done or early stopping applies."""
        return self.done >= self.task.num_steps or self.track.is_out_of(self.task.patience)

    @property
    def is_evaluation_due(self) -> bool:
        """Whether to evaluate after this step; always true of the last step."""
        return self.done == self.task.num_steps or is_due(self.done, self.task.evaluate_every)

    @property
    def params(self) -> PyTree:
        """The parameters to evaluate and return: the moving average, if there is one."""
        return self.state.params if self.state.ema is None else self.state.ema

    def add_line(self) -> Line:
        """Adds a line to the history, evaluates if that is due, and keeps the best parameters."""
        metrics = {}
        if self.is_evaluation_due:
            params = self.layout.on_one_device(self.params)
            metrics = evaluate(self.task, params, self.done)
        line = self.track.close_window(self.done, metrics)
        if metrics and self.task.select and self.track.is_gain(line, self.task.select):
            self.best = self.layout.to_host(self.params)
        return line

    def save(self, checkpoints: Checkpoints, directory: epath.Path) -> None:
        """Starts to write a checkpoint, and writes the history beside it."""
        state, track = self.layout.to_host(self.state), dataclasses.asdict(self.track)
        progress = {**track, NUMERICS: threads.numerics()}
        checkpoints.save(self.done, state, progress, self.best)
        if parallel.is_first_process():
            lines = "".join(json.dumps(line) + "\n" for line in self.track.history)
            write_whole(directory / "history.jsonl", lines)

    def result(self) -> Result:
        """The parameters of the best evaluation if the task selects, else the last ones."""
        step = self.track.best_step if self.task.select else self.done
        params = self.best if self.task.select else self.layout.to_host(self.params)
        metrics = next(line for line in self.track.history if line["step"] == step)
        return Result(params, step, dict(metrics), self.track.history)


def train(
    task: Task,
    optimizer_config: Any,
    *,
    seed: int,
    directory: epath.PathLike,
    log_dir: epath.PathLike | None = None,
    kind: str = "pmap",
    num_devices: int = 0,
    checkpoint_every: int = 0,
    log_every: int = 0,
    rng_impl: str = "threefry2x32",
) -> Result:
    """Trains a task to its end, starting from its newest checkpoint if there is one.

    Args:
      task: what is trained.
      optimizer_config: the `optimizer` config part; see `optimizers.make_optimizer`.
      seed: seed of the initial parameters and of the steps' random numbers.
      directory: folder for `checkpoints/` and `history.jsonl`.
      log_dir: folder of the TensorBoard log; None for no log.
      kind: "pmap", or "mesh" to split parameters and optimizer state over the devices.
      num_devices: number of devices over all processes; 0 for all.
      checkpoint_every: steps between checkpoints; with 0 the run is saved only when it ends or is
        stopped.
      log_every: steps between lines of the history, and between points of the TensorBoard log;
        evaluations add lines of their own. 0 for `line_distance` of the number of steps.
      rng_impl: implementation of the steps' root key; "unsafe_rbg" makes dropout cheap on CPU and
        TPU.

    Returns:
      The result, the same in every process.

    Raises:
      ConfigError: the optimizer config does not suit a training of this length; names the field.
      DivergedError: a loss, a gradient norm or the selected metric is not finite; nothing of
        that step is saved.
      ValueError: batches do not fit the devices, or the checkpoint is of another model.
      SystemExit: after SIGINT or SIGTERM, once the state is saved.
    """
    devices, directory = parallel.select_devices(num_devices), epath.Path(directory)
    optimizer = optimizer_of(task, optimizer_config)
    log_every = log_every or line_distance(task.num_steps)
    layout = layouts.layout_of(kind, devices)
    update = layout.train_step(
        task.loss, optimizer, ema_decay=task.ema_decay, rng_impl=rng_impl, divided=task.divided
    )
    parallel.connect(devices)
    root_key = jax.random.key_data(jax.random.key(seed, impl=rng_impl))
    fixed = layout.put({"key": root_key, "constants": task.constants})
    leading = (len(parallel.local_devices(devices)), optimizer_config.accumulate_steps)
    with Checkpoints(directory / CHECKPOINTS) as checkpoints, StopSignals() as stop:
        run = TrainingRun.begin(task, optimizer, seed, checkpoints, layout)
        with Progress(task.name, task.num_steps, run.done, log_dir) as progress:
            late = LateMetrics(
                task.name, task.loader.row_ids, run.track, progress.step, layout.to_host
            )
            batches = task.loader.iterate(run.done)
            while not run.is_over:
                batch = next(batches)
                check_batch(task, batch, leading)
                with progress.dispatching(batch):
                    run.state, metrics = update(run.state, layout.put_batch(batch), fixed)
                # The device is still computing this step. Reading its metrics now would make the
                # host wait instead of preparing the next batch, so they are read some steps later.
                late.add(run.done, metrics)
                run.done += 1

                if run.is_evaluation_due or is_due(run.done, log_every):
                    late.drain()
                    with progress.evaluating():
                        line = run.add_line()
                    progress.scalars(line)
                is_stopped = stop.is_asked(run.done, progress.say, is_last=run.is_over)
                if run.is_over or is_stopped or is_due(run.done, checkpoint_every):
                    late.drain()  # raises at a number that is not finite, before it is saved
                    run.save(checkpoints, directory)
                if is_stopped:
                    checkpoints.wait()
                    progress.say(f"stopped at step {run.done}, saved; the same command resumes it")
                    raise SystemExit(stop.exit_code)
            result = run.result()
            times = f" {progress.times()}." if progress.num_compiled else ""
            progress.say(f"done at step {run.done}.{times} {summary(result)}")
    return result


def optimizer_of(task: Task, config: Any) -> optax.GradientTransformation:
    """The optimizer of a task of this length.

    Args:
      task: what is trained.
      config: the `optimizer` config part.

    Raises:
      ConfigError: it does not suit a training of this length; names the field.
    """
    try:
        return optimizers.make_optimizer(config, task.num_steps)
    except ValueError as error:
        raise ConfigError(f"config.{task.name}.{error}") from error


def evaluate(task: Task, params: PyTree, step: int) -> dict[str, float]:
    """The first process's metrics of `task.evaluate`; none if the task has no evaluation.

    Args:
      task: what is trained.
      params: parameters on one device.
      step: number of steps done, for messages.

    Raises:
      ValueError: the selected metric is missing.
      DivergedError: the selected metric is not finite.
    """
    if task.evaluate is None:
        return {}
    values = task.evaluate(params)
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
            "this step was saved, and running the same command again would fail here again: lower "
            f"--config.{task.name}.optimizer.learning_rate, or inspect these rows."
        )
    return metrics


def line_distance(num_steps: int) -> int:
    """Steps between lines of a training's history: 50, or more in one that would exceed MAX_POINTS.

    >>> line_distance(5_000), line_distance(500_000), line_distance(20_000_000)
    (50, 50, 2000)
    """
    return max(LOG_EVERY, math.ceil(num_steps / MAX_POINTS))


def is_due(step: int, every: int) -> bool:
    """Whether `step` is a multiple of `every`; never if `every` is 0."""
    return every > 0 and step % every == 0


def summary(result: Result) -> str:
    """One line about the resulting parameters."""
    values = [f"{name} {value:.4g}" for name, value in result.metrics.items() if name != "step"]
    return f"Parameters of step {result.step}: {', '.join(values)}"
