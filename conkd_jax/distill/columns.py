"""Which targets a device has: all of them, or a part of a vocabulary that devices divide.

The softmax of a large vocabulary needs a table [Y, F], its gradient, and logits of every target.
Devices can divide the targets among them: each keeps w rows of the table and computes w columns of
the logits, for the tokens of *all* devices. What has to be known of all columns of a token is a few
numbers: the maximum and the sum of exponentials, and sums such as q · z. A collective adds them.

Both classes have the same methods, so the loss is written once. Those of `DividedColumns` are for
functions inside of `jax.shard_map`, where each device has its own tokens. This file must not depend
on what the columns mean.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax

from conkd_jax.typing import Array, Float, Int, PyTree, Shaped

NOTHING = -1e9  # the logit of a column that is no target: its probability is exactly 0


@dataclasses.dataclass(frozen=True)
class AllColumns:
    """Every target is on this device, and so are all tokens that it works on."""

    def gathered(self, tree: PyTree) -> PyTree:
        """The tokens of all devices [C, ...], from those of each."""
        return tree

    def own(self, values: Shaped[Array, " C"]) -> Shaped[Array, " c"]:
        """The values at this device's tokens."""
        return values

    def added_up(self, rows: Float[Array, "C F"]) -> Float[Array, "c F"]:
        """Sums over all devices' columns, at this device's tokens."""
        return rows

    def most(self, number: Int[Array, ""]) -> Int[Array, ""]:
        """The largest of all devices' numbers."""
        return number

    def ids(self, shape: tuple[int, ...], dtype: Any) -> Int[Array, "C w"]:
        """The target of each column of logits."""
        return lax.broadcasted_iota(dtype, shape, dimension=1)

    def sum(self, values: Float[Array, "C w"]) -> Float[Array, " C"]:
        """Sum over all targets."""
        return jnp.sum(values, axis=-1)

    def logsumexp(self, logits: Float[Array, "C w"]) -> Float[Array, " C"]:
        """Logarithm of the sum of exponentials over all targets."""
        return jax.nn.logsumexp(logits, axis=-1)

    def softmax(self, logits: Float[Array, "C w"]) -> Float[Array, "C w"]:
        """The softmax over all targets."""
        return jax.nn.softmax(logits, axis=-1)

    def at(self, logits: Float[Array, "C w"], labels: Int[Array, " C"]) -> Float[Array, " C"]:
        """The logits of one target of each token."""
        return jnp.take_along_axis(logits, labels[:, None], axis=-1, mode="clip")[:, 0]

    def places(self, token_ids: Int[Array, "C K"], num_columns: int) -> Int[Array, "C K"]:
        """The columns of targets here, and `num_columns` for those of other devices."""
        return token_ids

    def of_rows(self, logits: Float[Array, "c Y"]) -> Float[Array, "C w"]:
        """This device's columns of all devices' tokens, from all columns of its own."""
        return logits

    def with_items(
        self, values: Float[Array, "C w"], items: Float[Array, "C i"], num_words: int
    ) -> Float[Array, "C w"]:
        """`values` of targets with the values of items added; `items` has their columns alone."""
        words = values[:, :num_words]
        return jnp.concatenate([words, values[:, num_words:] + items], axis=1)


@dataclasses.dataclass(frozen=True)
class DividedColumns(AllColumns):
    """Device d of `num_devices` has the w = `width` targets d · w to (d + 1) · w - 1.

    The last columns may be padding, with the logit `NOTHING`. `items` of `with_items` has a column
    for every target here, 0 at words.
    """

    axis_name: str
    num_devices: int
    width: int

    @property
    def first(self) -> Int[Array, ""]:
        """The first target of this device."""
        return lax.axis_index(self.axis_name) * self.width

    def gathered(self, tree: PyTree) -> PyTree:
        """As in `AllColumns`: device 0's tokens come first, then device 1's."""
        return jax.tree.map(lambda leaf: lax.all_gather(leaf, self.axis_name, tiled=True), tree)

    def own(self, values: Shaped[Array, " C"]) -> Shaped[Array, " c"]:
        """As in `AllColumns`."""
        size = values.shape[0] // self.num_devices
        return lax.dynamic_slice_in_dim(values, lax.axis_index(self.axis_name) * size, size)

    def added_up(self, rows: Float[Array, "C F"]) -> Float[Array, "c F"]:
        """As in `AllColumns`."""
        return lax.psum_scatter(rows, self.axis_name, scatter_dimension=0, tiled=True)

    def most(self, number: Int[Array, ""]) -> Int[Array, ""]:
        """As in `AllColumns`."""
        return lax.pmax(number, self.axis_name)

    def ids(self, shape: tuple[int, ...], dtype: Any) -> Int[Array, "C w"]:
        """As in `AllColumns`."""
        return super().ids(shape, dtype) + self.first.astype(dtype)

    def sum(self, values: Float[Array, "C w"]) -> Float[Array, " C"]:
        """As in `AllColumns`."""
        return lax.psum(jnp.sum(values, axis=-1), self.axis_name)

    def logsumexp(self, logits: Float[Array, "C w"]) -> Float[Array, " C"]:
        """As in `AllColumns`."""
        largest = lax.pmax(jnp.max(logits, axis=-1), self.axis_name)
        return largest + jnp.log(self.sum(jnp.exp(logits - largest[:, None])))

    def softmax(self, logits: Float[Array, "C w"]) -> Float[Array, "C w"]:
        """As in `AllColumns`."""
        return jnp.exp(logits - self.logsumexp(logits)[:, None])

    def at(self, logits: Float[Array, "C w"], labels: Int[Array, " C"]) -> Float[Array, " C"]:
        """As in `AllColumns`."""
        is_label = self.ids(logits.shape, labels.dtype) == labels[:, None]
        return self.sum(jnp.where(is_label, logits, 0))

    def with_items(
        self, values: Float[Array, "C w"], items: Float[Array, "C i"], num_words: int
    ) -> Float[Array, "C w"]:
        """As in `AllColumns`."""
        return values + items

    def places(self, token_ids: Int[Array, "C K"], num_columns: int) -> Int[Array, "C K"]:
        """As in `AllColumns`."""
        places = token_ids - self.first.astype(token_ids.dtype)
        return jnp.where((places >= 0) & (places < num_columns), places, num_columns)

    def look_up(self, table: Float[Array, "w D"], ids: Int[Array, " n"]) -> Float[Array, "n D"]:
        """Rows of a table whose rows are divided as the targets are; `ids` of this device."""
        places = self.gathered(ids) - self.first  # [C]
        is_here = (places >= 0) & (places < self.width)
        rows = jnp.take(table, jnp.clip(places, 0, self.width - 1), axis=0)
        return self.added_up(jnp.where(is_here[:, None], rows, 0))

    def of_rows(self, logits: Float[Array, "c Y"]) -> Float[Array, "C w"]:
        """As in `AllColumns`."""
        padding = self.num_devices * self.width - logits.shape[1]
        padded = jnp.pad(logits, ((0, 0), (0, padding)), constant_values=NOTHING)
        return lax.all_to_all(padded, self.axis_name, split_axis=1, concat_axis=0, tiled=True)


ALL = AllColumns()


@flax.struct.dataclass
class Part:
    """A device's part of an array that stays divided while a loss is computed.

    Attributes:
      values: what this device holds.
      shape: of the whole array.
      axis: the axis that is divided in equal parts; None if `values` is the whole array.
      axis_name: the name of the axis of devices.
    """

    values: Any
    shape: tuple[int, ...] = flax.struct.field(pytree_node=False)
    axis: int | None = flax.struct.field(pytree_node=False)
    axis_name: str = flax.struct.field(pytree_node=False)

    def columns(self, size: int | None = None) -> DividedColumns:
        """How the devices divide targets, one for each index of the first axis, or `size` many."""
        num_devices = lax.axis_size(self.axis_name)
        size = self.shape[0] if size is None else size
        return DividedColumns(self.axis_name, num_devices, -(-size // num_devices))

    def block(
        self, columns: DividedColumns, axis: int, *, before: int = 0, fill: float = 0.0
    ) -> Array:
        """The indices of an axis that are this device's targets, and all of the other axes.

        The devices exchange parts; none of them ever holds the whole array, unless it has one axis
        alone.

        Args:
          columns: how the targets are divided.
          axis: the axis with an index for each target.
          before: how many targets come before its first index.
          fill: the value of targets that have no index.
        """
        num_devices, width = columns.num_devices, columns.width
        size, name = self.shape[axis], self.axis_name
        is_done = before == 0 and size == num_devices * width
        if is_done and self.axis == axis:
            return self.values
        values, other = self.values, self.axis
        if self.axis == axis:
            values, other = self._turned(num_devices, axis)
        padding = [(0, 0)] * values.ndim
        padding[axis] = (before, num_devices * width - before - size)
        values = jnp.pad(values, padding, constant_values=fill)
        if other is None:
            return lax.dynamic_slice_in_dim(values, columns.first, width, axis)
        values = lax.all_to_all(values, name, split_axis=axis, concat_axis=other, tiled=True)
        return lax.slice_in_dim(values, 0, self.shape[other], axis=other)

    def _turned(self, num_devices: int, axis: int) -> tuple[Array, int | None]:
        """The part that is whole along `axis` instead, and the axis that is divided now."""
        others = [other for other in range(len(self.shape)) if other != axis]
        if not others:
            return lax.all_gather(self.values, self.axis_name, axis=axis, tiled=True), None
        other = max(others, key=lambda each: self.shape[each])
        padding = [(0, 0)] * len(self.shape)
        padding[other] = (0, -self.shape[other] % num_devices)
        values = jnp.pad(self.values, padding)
        values = lax.all_to_all(
            values, self.axis_name, split_axis=other, concat_axis=axis, tiled=True
        )
        return values, other
