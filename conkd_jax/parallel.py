"""Devices and processes: the only user of `jax.pmap` and of multi-process collectives.

Turns a loss written for one device's micro-batch into a train step over every device. It must not
know what is trained, where batches come from or how a state is saved.

Gradients, losses and metrics are summed over devices (`psum`), never averaged: the weights inside
a batch already hold the division by the global counts, so the number of devices never changes the
result.
"""

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

AXIS = "devices"
Device = Any  # jax.Device, which type checkers do not take for a type

# (params, one device's micro-batch, rng, constants) -> (loss sum, {metric: (sum, count)})
Loss = Callable[[PyTree, PyTree, jax.Array, PyTree], tuple[jax.Array, dict[str, tuple]]]


@flax.struct.dataclass
class TrainState:
    """Everything a step changes: what a checkpoint must hold for a resumed run to be the same."""

    params: PyTree
    opt_state: PyTree
    step: Any  # steps done, int32
    ema: PyTree | None = None


# --- processes -------------------------------------------------------------------------------


def initialize_distributed(cpu_devices: int = 0) -> None:
    """Joins the processes of one run; call it before anything touches a device.

    Reads CONKD_COORDINATOR ("host:port"), CONKD_NUM_PROCESSES and CONKD_PROCESS_ID. Where
    CONKD_COORDINATOR is "auto", jax finds the cluster by itself (TPU pods, Slurm, Open MPI); where
    it is not set, this is a run of one process.

    Args:
      cpu_devices: virtual devices of this process on a CPU; 0 leaves jax's own number.

    Raises:
      ValueError: the address is set but the number or the index of the processes is not.
    """
    if cpu_devices:
        jax.config.update("jax_num_cpu_devices", cpu_devices)
    coordinator = os.environ.get("CONKD_COORDINATOR", "")
    if not coordinator:
        return
    if coordinator == "auto":
        jax.distributed.initialize()
        return
    try:
        num_processes = int(os.environ["CONKD_NUM_PROCESSES"])
        process_id = int(os.environ["CONKD_PROCESS_ID"])
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"CONKD_COORDINATOR is {coordinator!r}, so CONKD_NUM_PROCESSES and CONKD_PROCESS_ID "
            f"must be integers too; got {error}. See launch/local_processes.sh."
        ) from error
    jax.distributed.initialize(coordinator, num_processes, process_id)


def is_first_process() -> bool:
    """Whether this process decides, writes logs and prints."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process has come here; free with one process."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def broadcast(value: Any) -> Any:
    """The first process's `value` (plain JSON) in every process, exactly."""
    if jax.process_count() == 1:
        return value
    payload = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(payload.size)))
    buffer = payload if is_first_process() else np.zeros(size, np.uint8)
    return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(buffer)).tobytes())


def any_process(flag: bool) -> bool:
    """Whether `flag` holds in at least one process."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.int32(flag))))


# --- devices ---------------------------------------------------------------------------------


def select_devices(count: int = 0) -> list[Device]:
    """The run's devices, process by process; the same number of each process.

    Args:
      count: devices over all processes; 0 takes every device there is.

    Raises:
      ValueError: more devices than exist, or a number that the processes can't share evenly.
    """
    by_process: dict[int, list[Device]] = {}
    for device in sorted(jax.devices(), key=lambda d: (d.process_index, d.id)):
        by_process.setdefault(device.process_index, []).append(device)
    available = sum(map(len, by_process.values()))
    count = count or available
    if count > available or count % len(by_process):
        raise ValueError(
            f"parallel.num_devices is {count}; here are {available} devices in "
            f"{len(by_process)} process(es): expected at most {available}, a multiple of the "
            "processes, or 0 for all. On a CPU, set jax_num_cpu_devices for more."
        )
    share = count // len(by_process)
    return [device for devices in by_process.values() for device in devices[:share]]


def num_devices(count: int = 0) -> int:
    """How many devices `parallel.num_devices` asks for: all of them where it is 0."""
    return len(select_devices(count))


def check_batch_size(batch_size: int, num_devices: int, accumulate_steps: int = 1) -> None:
    """Refuses, before anything compiles, a batch that can't be cut evenly.

    Raises:
      ValueError: fewer rows than devices x micro-batches, or a remainder.
    """
    parts = num_devices * accumulate_steps
    if batch_size < parts or batch_size % parts:
        raise ValueError(
            f"a batch of {batch_size} rows can't be shared by {num_devices} device(s) x "
            f"{accumulate_steps} micro-batch(es): expected a multiple of {parts}. Change "
            "batch_size, parallel.num_devices or optimizer.accumulate_steps."
        )


def local_devices(devices: Sequence[Device]) -> list[Device]:
    """Those of `devices` that this process drives, in order."""
    return [d for d in devices if d.process_index == jax.process_index()]


def replicate(tree: PyTree, devices: Sequence[Device]) -> PyTree:
    """One copy per device under a new leading axis, the form `map_devices` takes and returns."""
    sharding = NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec(AXIS))

    def place(leaf: Any) -> jax.Array:
        leaf = np.asarray(leaf)
        copies = [jax.device_put(leaf[None], device) for device in local_devices(devices)]
        return jax.make_array_from_single_device_arrays(
            (len(devices), *leaf.shape), sharding, copies
        )

    return jax.tree.map(place, tree)


def unreplicate(tree: PyTree) -> PyTree:
    """This process's first copy, without the leading axis, still on its device."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0)[0], tree)


def to_host(tree: PyTree) -> PyTree:
    """This process's first copy as NumPy arrays of their own."""
    return jax.tree.map(lambda leaf: np.array(leaf.addressable_data(0))[0], tree)


def map_devices(
    function: Callable, devices: Sequence[Device], *, donate: tuple[int, ...] = ()
) -> Callable:
    """`function` on every device at once: arguments and results have a leading device axis."""
    return jax.pmap(function, axis_name=AXIS, devices=list(devices), donate_argnums=donate)


# --- the train step --------------------------------------------------------------------------


def sum_gradients(
    loss: Loss, params: PyTree, batch: PyTree, root: jax.Array, block: jax.Array, constants: PyTree
) -> tuple[PyTree, dict[str, tuple]]:
    """Gradients and metrics of one device's [A, ...] micro-batches, summed over A.

    Sums and never means, as `optax.MultiSteps` would do: weights hold the division already.

    Args:
      root: the training's key. Micro-batch a has the rng fold_in(root, block · A + a): one number,
        since with "unsafe_rbg", whose fold_in is an exclusive or, keys folded in one after the
        other can be swapped and cancel.
      block: number of these A micro-batches in the training.

    Returns:
      Gradients like `params`, and {metric: (sum, count)} in float32 with "loss" among them.
    """

    def total(params: PyTree, micro_batch: PyTree, index: jax.Array) -> tuple:
        value, metrics = loss(params, micro_batch, jax.random.fold_in(root, index), constants)
        metrics = {**metrics, "loss": (value, 0.0)}
        return value, jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), metrics)

    def gradients_of(element: tuple) -> tuple:
        (_, metrics), gradients = jax.value_and_grad(total, has_aux=True)(params, *element)
        return gradients, metrics

    def add(sums: tuple, element: tuple) -> tuple:
        return jax.tree.map(jnp.add, sums, gradients_of(element)), None

    num_micro_batches = jax.tree.leaves(batch)[0].shape[0]
    elements = (batch, block * num_micro_batches + jnp.arange(num_micro_batches))
    shapes = jax.eval_shape(gradients_of, jax.tree.map(lambda x: x[0], elements))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.scan(add, zeros, elements)[0]


def init_state(
    params: PyTree, optimizer: optax.GradientTransformation, *, with_ema: bool
) -> TrainState:
    """The state before the first step, as NumPy arrays of their own."""
    params = jax.tree.map(np.array, params)
    state = TrainState(
        params=params,
        opt_state=optimizer.init(params),
        step=np.zeros((), np.int32),
        ema=params if with_ema else None,
    )
    return jax.tree.map(np.array, state)


def make_train_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    devices: Sequence[Device],
    *,
    ema_decay: float = 0.0,
    rng_impl: str = "threefry2x32",
) -> Callable[[TrainState, PyTree, PyTree], tuple[TrainState, dict[str, tuple]]]:
    """One optimizer step over all devices.

    Micro-batches are numbered through the training, step by step and device by device, and each
    has the rng of its number: one device with A micro-batches draws as A devices do.

    Args:
      loss: the loss of one device's micro-batch: `(params, batch, rng, constants)` to
        `(loss_sum, {name: (sum, count)})`.
      optimizer: sees gradients summed over devices and micro-batches.
      devices: where to run.
      ema_decay: decay of the parameters' moving average, where the state has one.
      rng_impl: implementation of the root key, "threefry2x32", "rbg" or "unsafe_rbg".

    Returns:
      `step(state, batch, fixed)`: replicated state (donated), host arrays [D_local, A, ...], and
      the replicated {"key": root key data, "constants": ...}; gives the next state and the
      metrics, "loss" and "grad_norm" (before clipping) among them.
    """

    def step(state: TrainState, batch: PyTree, fixed: dict) -> tuple[TrainState, dict]:
        root = jax.random.wrap_key_data(fixed["key"], impl=rng_impl)
        block = state.step * len(devices) + jax.lax.axis_index(AXIS)
        sums = sum_gradients(loss, state.params, batch, root, block, fixed["constants"])
        gradients, metrics = jax.lax.psum(sums, AXIS)
        metrics["loss"] = (metrics["loss"][0], jnp.float32(1))
        metrics["grad_norm"] = (optax.tree.norm(gradients), jnp.float32(1))
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            ema = optax.incremental_update(params, ema, 1.0 - ema_decay)
        return TrainState(params, opt_state, state.step + 1, ema), metrics

    return map_devices(step, devices, donate=(0,))
