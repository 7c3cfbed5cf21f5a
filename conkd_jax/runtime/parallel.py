"""Devices and processes: the only user of `jax.pmap`, and how processes agree.

This file turns a loss written for one device's micro-batch into a train step over all devices. It
must not depend on what is trained, where batches come from or how a state is saved.

Gradients, losses and metrics are summed over devices (`psum`), never averaged. The weights inside a
batch already contain the division by global counts, so the number of devices does not change the
result.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax._src import distributed  # its client of the coordination service has no public name
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from conkd_jax.typing import PyTree

AXIS = "devices"
_LONGEST_WAIT_MS = 7 * 24 * 3600 * 1000  # of `connect`; a process that was lost ends the run before
_CONNECTED: set[tuple] = set()  # devices that this process has connected
Device = Any  # jax.Device, which type checkers do not accept as a type

# (params, one device's micro-batch, rng, constants) -> (loss sum, {metric: (sum, count)})
Loss = Callable[[PyTree, PyTree, jax.Array, PyTree], tuple[jax.Array, dict[str, tuple]]]


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes, and so what a checkpoint needs for an identical resumed run.

    Attributes:
      params: trained parameters.
      opt_state: state of the optimizer.
      step: number of steps done, int32.
      ema: moving average of the parameters, if there is one.
    """

    params: PyTree
    opt_state: PyTree
    step: Any
    ema: PyTree | None = None


# --- processes -------------------------------------------------------------------------------


def is_first_process() -> bool:
    """Whether this is the process that makes decisions, writes logs and prints."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process has reached this call; free with one process."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def connect(devices: Sequence[Device]) -> None:
    """Opens the connections that steps over these devices need; free with one process.

    On CPUs they are opened by the first computation over the devices, and a process then waits no
    longer than 30 seconds for another one, which may still be compiling. So the processes wait for
    each other first, however long that takes, and then compute something that needs no compiling to
    speak of. Calls for the same devices after the first do nothing.

    Args:
      devices: as `select_devices` returns them.
    """
    if jax.process_count() == 1 or tuple(devices) in _CONNECTED:
        return
    client: Any = distributed.global_state.client
    client.wait_at_barrier(f"conkd_jax connects {len(_CONNECTED)}", _LONGEST_WAIT_MS)
    together = jax.pmap(lambda x: jax.lax.psum(x, AXIS), AXIS, devices=devices)
    jax.block_until_ready(together(np.zeros(len(local_devices(devices)), np.float32)))
    barrier("connected")  # which has connections of its own
    _CONNECTED.add(tuple(devices))


def broadcast(value: Any) -> Any:
    """Returns the first process's `value` (plain JSON) in every process, exactly."""
    if jax.process_count() == 1:
        return value
    # As bytes, because a collective moves arrays only, and as an array a Python float would be
    # rounded to float32. The length goes first: all processes must pass arrays of one shape.
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
    """The run's devices, process by process, with the same number of devices in each.

    Args:
      count: number of devices over all processes; 0 for all.

    Raises:
      ValueError: more devices than exist, or a number that does not divide among the processes.
    """
    by_process: dict[int, list[Device]] = {}
    for device in sorted(jax.devices(), key=lambda d: (d.process_index, d.id)):
        by_process.setdefault(device.process_index, []).append(device)
    available = sum(map(len, by_process.values()))
    count = count or available
    if count > available or count % len(by_process):
        raise ValueError(
            f"parallel.num_devices is {count}, but there are {available} devices in "
            f"{len(by_process)} process(es): expected at most {available}, a multiple of the "
            "number of processes, or 0 for all. On a CPU, set JAX_NUM_CPU_DEVICES for more."
        )
    share = count // len(by_process)
    return [device for devices in by_process.values() for device in devices[:share]]


def num_devices(count: int = 0) -> int:
    """Number of devices that `parallel.num_devices` stands for: all of them if it is 0."""
    return len(select_devices(count))


def local_devices(devices: Sequence[Device]) -> list[Device]:
    """Those of `devices` that belong to this process, in order."""
    return [d for d in devices if d.process_index == jax.process_index()]


def replicate(tree: PyTree, devices: Sequence[Device]) -> PyTree:
    """Places one copy on each device, under a new leading axis, as `map_devices` needs it."""
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
    # Not leaf[0]: that indexes the whole sharded array, which moves data between devices.
    return jax.tree.map(lambda leaf: leaf.addressable_data(0)[0], tree)


def to_host(tree: PyTree) -> PyTree:
    """This process's first copy, as NumPy arrays that share no memory with the device."""
    return jax.tree.map(lambda leaf: np.array(leaf.addressable_data(0))[0], tree)


def map_devices(
    function: Callable, devices: Sequence[Device], *, donate: tuple[int, ...] = ()
) -> Callable:
    """Maps `function` over all devices; arguments and results have a leading device axis.

    Args:
      function: for one device; may use collectives over AXIS.
      devices: where to run.
      donate: indices of arguments whose memory the results may take over.
    """
    return jax.pmap(function, axis_name=AXIS, devices=list(devices), donate_argnums=donate)


# --- the train step --------------------------------------------------------------------------


def sum_gradients(
    loss: Loss, params: PyTree, batch: PyTree, root: jax.Array, block: jax.Array, constants: PyTree
) -> tuple[PyTree, dict[str, tuple]]:
    """Gradients and metrics of one device's [A, ...] micro-batches, summed over A.

    They are sums because the weights already contain the division; `optax.MultiSteps` would take
    means. Micro-batch a has the key fold_in(root, block · A + a).

    Args:
      loss: as in `make_train_step`.
      params: one device's copy.
      batch: arrays [A, ...].
      root: the root key of the training.
      block: index of this group of A micro-batches within the training.
      constants: passed to the loss.

    Returns:
      Gradients like `params`, and {metric: (sum, count)} in float32, with "loss" among them.
    """

    def total(params: PyTree, micro_batch: PyTree, index: jax.Array) -> tuple:
        # A single number is folded in. "unsafe_rbg" folds by exclusive or: if step and device were
        # folded in one after the other, (step, device) and (device, step) would share a key.
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
    """The state before the first step, as NumPy arrays that are not shared with `params`."""
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
    """Makes one optimizer step over all devices.

    Micro-batches are numbered throughout the training, first by step, then by device. The key of a
    micro-batch is the root key folded with its number, so one device with A micro-batches draws the
    same random numbers as A devices with one each.

    Args:
      loss: maps `(params, batch, rng, constants)` to `(loss_sum, {name: (sum, count)})`, for one
        device's micro-batch.
      optimizer: receives gradients summed over devices and micro-batches.
      devices: where to run.
      ema_decay: decay of the parameters' moving average, if the state has one.
      rng_impl: implementation of the root key: "threefry2x32", "rbg" or "unsafe_rbg".

    Returns:
      `step(state, batch, fixed)`, which takes the replicated state (donated), host arrays
      [D_local, A, ...] and the replicated {"key": root key data, "constants": ...}, and returns
      the next state and the metrics, with "loss" and "grad_norm" (before clipping) among them.
    """

    def step(state: TrainState, batch: PyTree, fixed: dict) -> tuple[TrainState, dict]:
        root = jax.random.wrap_key_data(fixed["key"], impl=rng_impl)
        block = state.step * len(devices) + jax.lax.axis_index(AXIS)
        sums = sum_gradients(loss, state.params, batch, root, block, fixed["constants"])
        gradients, metrics = jax.lax.psum(sums, AXIS)
        # From here on every device computes the same numbers from the same sums.
        return updated(state, gradients, metrics, optimizer, ema_decay)

    return map_devices(step, devices, donate=(0,))


def updated(
    state: TrainState,
    gradients: PyTree,
    metrics: dict[str, tuple],
    optimizer: optax.GradientTransformation,
    ema_decay: float,
) -> tuple[TrainState, dict[str, tuple]]:
    """The state after an optimizer step, and the metrics with "loss" and "grad_norm".

    Args:
      state: the state before the step.
      gradients: summed over all devices and micro-batches, so that clipping inside the optimizer
        sees the gradient of the whole batch.
      metrics: likewise, {metric: (sum, count)}.
      optimizer: receives the gradients.
      ema_decay: decay of the parameters' moving average, if the state has one.
    """
    metrics["loss"] = (metrics["loss"][0], jnp.float32(1))
    metrics["grad_norm"] = (optax.tree.norm(gradients), jnp.float32(1))
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if ema is not None:
        ema = optax.incremental_update(params, ema, 1.0 - ema_decay)
    return TrainState(params, opt_state, state.step + 1, ema), metrics
