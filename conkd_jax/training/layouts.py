"""Where a training keeps its arrays: `parallel.kind` of the config.

"pmap" (`Replicated`) gives every device all parameters and the whole optimizer state. "mesh"
(`Sharded`) gives every device a part of each array and is for models that outgrow a device; it is
fully sharded data parallelism (FSDP). Both take the same loss, batches and keys, and compute the
same gradients up to rounding.

Outside of a step everything is whole: `to_host` returns the same arrays from both, so a checkpoint
or a result does not show which layout wrote it, or on how many devices. This file must not depend
on what is trained.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from conkd_jax.distill.columns import Part
from conkd_jax.runtime import parallel
from conkd_jax.runtime.parallel import AXIS, Device, Loss, TrainState
from conkd_jax.typing import PyTree

# (state, batch of `put_batch`, fixed) -> (next state, metrics); `fixed` is `put` of the root key's
# data and the constants of the loss. It is a compiled function, and `lower` takes shapes.
TrainStep = Any


@runtime_checkable
class Layout(Protocol):
    """How arrays lie on the devices of a training. Every process must call every method."""

    devices: Sequence[Device]

    def put(self, tree: PyTree) -> PyTree:
        """Places host arrays, the same in every process, as a step takes and returns them."""
        ...

    def put_batch(self, batch: PyTree) -> PyTree:
        """Places this process's part of a batch, host arrays [D_local, A, ...]."""
        ...

    def to_host(self, tree: PyTree) -> PyTree:
        """Returns what was put, or a step's result, as NumPy arrays with memory of their own."""
        ...

    def on_one_device(self, tree: PyTree) -> PyTree:
        """Returns the same on the first of this process's devices."""
        ...

    def shapes(self, tree: PyTree) -> PyTree:
        """Returns the shapes of what `put` would place, from arrays or shapes."""
        ...

    def batch_shapes(self, micro_batch: PyTree, accumulate_steps: int) -> PyTree:
        """Returns the shapes of what `put_batch` would place, from those of a micro-batch."""
        ...

    def train_step(
        self,
        loss: Loss,
        optimizer: optax.GradientTransformation,
        *,
        ema_decay: float = 0.0,
        rng_impl: str = "threefry2x32",
        divided: Collection[str] = (),
    ) -> TrainStep:
        """Makes one optimizer step over all devices; see `parallel.make_train_step`.

        Args:
          loss: as there. A layout that divides arrays gives it a `distill.columns.Part` for each
            that is named in `divided`, and whole arrays otherwise.
          optimizer: as there.
          ema_decay: as there.
          rng_impl: as there.
          divided: paths such as "params/wte/embedding" or "constants/rec_kernels".
        """
        ...


def layout_of(kind: str, devices: Sequence[Device]) -> Layout:
    """The layout of a `parallel.kind` on some devices."""
    return {"pmap": Replicated, "mesh": Sharded}[kind](devices)


def in_words(kind: str, num_devices: int) -> str:
    """What a training does with its devices, for a line of output.

    >>> in_words("pmap", 1)
    'training on 1 device'
    >>> in_words("mesh", 8)
    'training on 8 devices, which share parameters and optimizer state (parallel.kind=mesh)'
    """
    if num_devices == 1:
        return "training on 1 device"
    how = {
        "pmap": "each with all parameters",
        "mesh": "which share parameters and optimizer state",
    }[kind]
    return f"training on {num_devices} devices, {how} (parallel.kind={kind})"


# --- pmap ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Replicated:
    """Every device holds everything; arrays have a leading axis of devices (`parallel`)."""

    devices: Sequence[Device]

    def put(self, tree: PyTree) -> PyTree:
        """As in `Layout`."""
        return parallel.replicate(tree, self.devices)

    def put_batch(self, batch: PyTree) -> PyTree:
        """Returns the batch itself: pmap takes this process's host arrays."""
        return batch

    def to_host(self, tree: PyTree) -> PyTree:
        """As in `Layout`."""
        return parallel.to_host(tree)

    def on_one_device(self, tree: PyTree) -> PyTree:
        """As in `Layout`; nothing is copied."""
        return parallel.unreplicate(tree)

    def shapes(self, tree: PyTree) -> PyTree:
        """As in `Layout`."""
        return _stacked(tree, len(self.devices))

    def batch_shapes(self, micro_batch: PyTree, accumulate_steps: int) -> PyTree:
        """As in `Layout`."""
        return _stacked(micro_batch, len(self.devices), accumulate_steps)

    def train_step(
        self,
        loss: Loss,
        optimizer: optax.GradientTransformation,
        *,
        divided: Collection[str] = (),
        **options: Any,
    ) -> TrainStep:
        """As in `Layout`; every array is whole here."""
        del divided
        return parallel.make_train_step(loss, optimizer, self.devices, **options)


# --- mesh ------------------------------------------------------------------------------------


def split_of(shape: Sequence[int], num_devices: int) -> PartitionSpec:
    """How an array is split over the devices: along its largest axis that they divide.

    The first of several largest axes. An array without such an axis is whole on every device.

    >>> tuple(split_of((768, 3072), 8)), tuple(split_of((3,), 8))
    ((None, 'devices'), ())
    """
    divisible = [axis for axis, size in enumerate(shape) if size and size % num_devices == 0]
    if not divisible:
        return PartitionSpec()
    axis = max(divisible, key=lambda axis: shape[axis])
    return PartitionSpec(*[None] * axis, AXIS)


@dataclasses.dataclass(frozen=True)
class Sharded:
    """Every device holds a part of each array (`split_of`), of constants as well.

    A step joins the parts of the parameters for the loss of a micro-batch only. The derivative of
    joining is to sum over devices and to split (`all_gather` and `psum_scatter`), so gradients are
    added up in parts as well. Arrays that are named as `divided` are not joined: the loss gets a
    part and exchanges what it needs with other devices itself. The optimizer then works on the
    parts. Where it needs all of them, which is for the norm that clipping reads, XLA adds the sum
    over devices.

    Scoring and decoding are not spread: `on_one_device` needs room for the parameters on one
    device, though not for gradients or optimizer state.
    """

    devices: Sequence[Device]

    @functools.cached_property
    def mesh(self) -> Mesh:
        """All devices in one row."""
        return Mesh(np.asarray(self.devices), (AXIS,))

    def _splits(self, leaves: list) -> list[PartitionSpec]:
        return [split_of(np.shape(leaf), len(self.devices)) for leaf in leaves]

    def _sharding(self, leaf: Any) -> NamedSharding:
        return NamedSharding(self.mesh, split_of(np.shape(leaf), len(self.devices)))

    def _kept_split(self, leaf: jax.Array) -> jax.Array:
        """Tells XLA, inside of a step, to give an array out as `put` places it."""
        return jax.lax.with_sharding_constraint(leaf, self._sharding(leaf))

    def put(self, tree: PyTree) -> PyTree:
        """As in `Layout`; an array that is split is never whole on a device."""

        def place(leaf: Any) -> jax.Array:
            leaf = np.asarray(leaf)
            return jax.make_array_from_callback(leaf.shape, self._sharding(leaf), leaf.__getitem__)

        return jax.tree.map(place, tree)

    def put_batch(self, batch: PyTree) -> PyTree:
        """As in `Layout`."""
        sharding = NamedSharding(self.mesh, PartitionSpec(AXIS))
        return jax.tree.map(
            lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), batch
        )

    @functools.cached_property
    def _joined(self) -> Callable[[jax.Array], jax.Array]:
        """Makes an array whole on every device."""
        return jax.jit(lambda leaf: leaf, out_shardings=NamedSharding(self.mesh, PartitionSpec()))

    def _whole(self, leaf: jax.Array) -> jax.Array:
        return (leaf if leaf.is_fully_replicated else self._joined(leaf)).addressable_data(0)

    def to_host(self, tree: PyTree) -> PyTree:
        """As in `Layout`; array by array, so that the devices never hold all of them whole.

        With one process, none of them is ever whole on a device: the host joins the parts.
        """
        return jax.tree.map(
            lambda leaf: np.array(leaf if leaf.is_fully_addressable else self._whole(leaf)), tree
        )

    def on_one_device(self, tree: PyTree) -> PyTree:
        """As in `Layout`."""
        return jax.tree.map(self._whole, tree)

    def shapes(self, tree: PyTree) -> PyTree:
        """As in `Layout`."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                np.shape(leaf), leaf.dtype, sharding=self._sharding(leaf)
            ),
            tree,
        )

    def batch_shapes(self, micro_batch: PyTree, accumulate_steps: int) -> PyTree:
        """As in `Layout`."""
        sharding = NamedSharding(self.mesh, PartitionSpec(AXIS))
        stacked = _stacked(micro_batch, len(self.devices), accumulate_steps)
        return jax.tree.map(lambda leaf: leaf.update(sharding=sharding), stacked)

    def train_step(
        self,
        loss: Loss,
        optimizer: optax.GradientTransformation,
        *,
        ema_decay: float = 0.0,
        rng_impl: str = "threefry2x32",
        divided: Collection[str] = (),
    ) -> TrainStep:
        """As in `Layout`."""

        def step(state: TrainState, batch: PyTree, fixed: dict) -> tuple[TrainState, dict]:
            # Lists of leaves, as a container may refuse what is not an array, such as a split.
            params, params_tree = jax.tree.flatten(state.params)
            fixed_parts, fixed_tree = jax.tree.flatten(fixed)
            splits, fixed_splits = self._splits(params), self._splits(fixed_parts)
            joined = _join(params, splits, _named({"params": state.params}, divided))
            joined_fixed = _join(fixed_parts, fixed_splits, _named(fixed, divided))

            def loss_of_parts(params: list, batch: PyTree, rng: jax.Array, constants: PyTree):
                return loss(params_tree.unflatten(joined(params)), batch, rng, constants)

            def on_each_device(params: list, step: Any, batch: PyTree, fixed: list) -> tuple:
                whole = fixed_tree.unflatten(joined_fixed(fixed))
                gradients, metrics = parallel.sum_gradients(
                    loss_of_parts,
                    params,
                    jax.tree.map(lambda leaf: leaf[0], batch),  # [1, A, ...] of this device
                    jax.random.wrap_key_data(whole["key"], impl=rng_impl),
                    step * len(self.devices) + jax.lax.axis_index(AXIS),
                    whole["constants"],
                )
                return _sum_of_unsplit(gradients, splits), jax.lax.psum(metrics, AXIS)

            sums, metrics = jax.shard_map(
                on_each_device,
                mesh=self.mesh,
                in_specs=(splits, PartitionSpec(), PartitionSpec(AXIS), fixed_splits),
                out_specs=(splits, PartitionSpec()),
                check_vma=False,
            )(params, state.step, batch, fixed_parts)
            gradients = params_tree.unflatten(sums)
            state, metrics = parallel.updated(state, gradients, metrics, optimizer, ema_decay)
            return jax.tree.map(self._kept_split, state), metrics

        return jax.jit(step, donate_argnums=0)


def _named(tree: PyTree, paths: Collection[str]) -> list[bool]:
    """Which leaves of a tree are among some paths."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    return [name in paths for name in names]


def _join(
    wholes: list[Any], splits: list[PartitionSpec], stay_divided: list[bool]
) -> Callable[[list[jax.Array]], list[jax.Array | Part]]:
    """A function that joins the parts of all devices, inside of `shard_map`.

    Args:
      wholes: the arrays, for their shapes.
      splits: how they are split.
      stay_divided: those that become a `Part` instead.
    """
    shapes = [np.shape(whole) for whole in wholes]

    def join(part: jax.Array, shape: tuple, split: PartitionSpec, stays: bool) -> Any:
        axis = len(split) - 1 if len(split) else None
        if stays:
            return Part(part, shape, axis, AXIS)
        return part if axis is None else jax.lax.all_gather(part, AXIS, axis=axis, tiled=True)

    return lambda parts: [*map(join, parts, shapes, splits, stay_divided)]


def _sum_of_unsplit(gradients: list[jax.Array], splits: list[PartitionSpec]) -> list[jax.Array]:
    """Gradients summed over devices. Those of split arrays are sums already (see `Sharded`)."""
    return [
        gradient if len(split) else jax.lax.psum(gradient, AXIS)
        for gradient, split in zip(gradients, splits, strict=True)
    ]


def _stacked(tree: PyTree, *leading: int) -> PyTree:
    """The same shapes with further axes in front."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((*leading, *np.shape(leaf)), leaf.dtype), tree
    )
