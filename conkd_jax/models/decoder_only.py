"""What GPT-2 and Llama share as language models: states, prompts and limits of decoder-only models.

A subclass has the network, and with it `init`, `features`, `head`, `prefill`, `branch` and `step`.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.models.compute import Compute
from conkd_jax.typing import Array, Bool, Float, Int, Params, PRNGKeyArray


@dataclasses.dataclass(frozen=True)
class DecoderOnly(abc.ABC):
    """A decoder-only transformer over `num_rows` embedding rows.

    Attributes:
      spec: the network's shape.
      num_rows: rows of the token embedding: Y = V ∪ I first, then the input-only rows.
      compute: the type of its products, and what the backward pass keeps.
    """

    ROW_LAYERS: ClassVar[tuple[str, ...]]  # layers whose "embedding" has a row for each token
    KERNEL_AXES: ClassVar[tuple[str, str]]  # the last two axes of each "kernel"
    ROW_AXIS: ClassVar[int]  # of the batch in a cache's keys and values; their places are axis 2

    spec: Any
    num_rows: int
    compute: Compute = Compute()

    def computing(self, compute: Compute) -> DecoderOnly:
        """The same model, with another `compute`."""
        return dataclasses.replace(self, compute=compute)

    @abc.abstractmethod
    def features(
        self,
        params: Params,
        input_ids: Int[Array | np.ndarray, "B S"],
        *,
        rng: PRNGKeyArray | None = None,
    ) -> Float[Array, "B S F"]:
        """Computes the final normed hidden states; feature s predicts token s+1.

        Attention is causal, so padding on the right needs no mask: no earlier token attends to it.

        Args:
          params: the model's parameters.
          input_ids: token ids, padded on the right.
          rng: key of the dropout masks; None turns dropout off.

        Raises:
          ValueError: the sequence is longer than the model's positions.
        """

    @abc.abstractmethod
    def prefill(
        self,
        params: Params,
        input_ids: Int[Array | np.ndarray, "B S"],
        attention_mask: Bool[Array | np.ndarray, "B S"],
        max_length: int,
    ) -> tuple[Float[Array, "B F"], Any]:
        """Reads prompts padded on the LEFT and opens a cache of static length.

        Args:
          params: the model's parameters.
          input_ids: prompts.
          attention_mask: True at real tokens; positions count from the first of each row.
          max_length: S + the number of `step`s to follow; at most the model's positions.

        Returns:
          The features of each row's last token, and the cache for `step`.

        Raises:
          ValueError: `max_length` exceeds the model's positions.
        """

    @abc.abstractmethod
    def branch(
        self,
        layers: Any,
        rows: Int[Array | np.ndarray, " B"],
        ends: Int[Array | np.ndarray, " B"],
        num_read: Int[Array | np.ndarray, " B"],
        length: int,
        max_length: int,
    ) -> Any:
        """Opens a cache for prompts that begin like longer ones, which were read before.

        It is the cache that `prefill` opens for prompts of `num_read` tokens, padded to `length`.

        Args:
          layers: the `layers` of `prefill`'s cache for the longer prompts.
          rows: the longer prompt that each prompt is the beginning of.
          ends: the place in that row after the last token that they share.
          num_read: number of tokens that they share, which are the whole prompt; 0 for none.
          length: S, at least `num_read`.
          max_length: S + the number of `step`s to follow.
        """

    @abc.abstractmethod
    def step(
        self, params: Params, token: Int[Array | np.ndarray, " B"], cache: Any
    ) -> tuple[Float[Array, "B F"], Any]:
        """Reads one more token of every row, at most as often as `max_length` allows."""

    def states(
        self, params: Params, inputs: Mapping[str, Any], rng: PRNGKeyArray | None = None
    ) -> Float[Array, "B S F"]:
        """`features` of a batch's `input_ids`."""
        return self.features(params, inputs["input_ids"], rng=rng)

    def open_cache(
        self, params: Params, inputs: Mapping[str, Any], max_tokens: int
    ) -> tuple[Float[Array, "B F"], Any]:
        """`prefill` with room for a response of `max_tokens`, of which the last is never read.

        Args:
          params: the model's parameters.
          inputs: of `TokenPrompts`; or "branched", the cache of all tokens but the last (`branch`),
            and "opening" [B], the last.
          max_tokens: the most tokens of the response.
        """
        if "branched" in inputs:
            return self.step(params, inputs["opening"], inputs["branched"])
        ids = inputs["input_ids"]
        return self.prefill(params, ids, inputs["attention_mask"], ids.shape[1] + max_tokens - 1)

    def longest_prompt(self, max_tokens: int) -> int:
        """Number of positions that a response of `max_tokens` leaves for its prompt."""
        return self.spec.num_positions - max_tokens + 1

    def _positions(self, batch_size: int, length: int) -> Int[Array, "B S"]:
        """The positions of sequences without padding on the left."""
        self._check_length(length)
        return jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (batch_size, length))

    def _check_length(self, length: int) -> None:
        if length > self.spec.num_positions:
            raise ValueError(
                f"a sequence of {length} tokens is longer than the model's "
                f"{self.spec.num_positions} positions; shorten it or raise "
                f"{type(self.spec).__name__}.num_positions"
            )


@functools.partial(jax.jit, static_argnames=("before", "after", "row_axis"))
def windows(
    array: Float[Array, ...],
    rows: Int[Array | np.ndarray, " B"],
    ends: Int[Array | np.ndarray, " B"],
    *,
    before: int,
    after: int,
    row_axis: int,
) -> Float[Array, ...]:
    """Some rows of the keys or values of a cache, each with other places.

    Args:
      array: keys or values; the rows are in `row_axis`, the places in axis 2.
      rows: the rows, in any order and as often as they are wanted.
      ends: for each, the end of its places.
      before: how many places before the end; those before the first one are zeros.
      after: how many places behind the end, whatever they hold.
      row_axis: 0 or 1.
    """

    def window(row, end):
        places = jnp.take(array, row, axis=row_axis)  # now in axis 1
        room = [(before, after) if axis == 1 else (0, 0) for axis in range(places.ndim)]
        return jax.lax.dynamic_slice_in_dim(jnp.pad(places, room), end, before + after, axis=1)

    return jax.vmap(window, out_axes=row_axis)(jnp.asarray(rows), jnp.asarray(ends))
