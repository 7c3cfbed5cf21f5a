"""Recurrent encoders of a history: a GRU over the tokens of each utterance, one over utterances.

ReDial's dialogue model and its sentiment model are both built from them. The cell is Flax's. A
history is one flat sequence of tokens in which the places of its utterances are known
(`data.rows.utterances`). This file must not depend on rows, corpora or losses.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from conkd_jax.typing import Array, Float, Int

Places = Int[Array | np.ndarray, "B U"]


class UtteranceGRU(nn.Module):
    """A bidirectional GRU that starts anew in every utterance.

    The vector of an utterance is [h→ at its last token; h← at its first token], the final states of
    both directions, as of a GRU that is run over this utterance alone.

    Attributes:
      features: width of each direction.
      num_layers: number of layers; a layer reads both directions of the layer below.
      dropout: rate between layers.
      dtype: the type of the products; the states are float32.
    """

    features: int
    num_layers: int = 1
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        vectors: Float[Array, "B L D"],
        starts: Places,
        ends: Places,
        *,
        deterministic: bool = True,
    ) -> Float[Array, "B U F2"]:
        """The vector of every utterance, of width 2 · `features`.

        Args:
          vectors: the token vectors of the utterances, one after the other.
          starts: the place of each utterance's first token; -1 for padding.
          ends: the place of its last token; -1 for padding.
          deterministic: whether dropout is off.

        Returns:
          The vectors; arbitrary ones for padding.
        """
        states, length = vectors, vectors.shape[1]
        forward = backward = states
        for layer in range(self.num_layers):
            if layer:
                states = nn.Dropout(self.dropout)(states, deterministic=deterministic)
            forward = _RestartingGRU(self.features, self.dtype, name=f"forward_{layer}")(
                states, _is_at(starts, length)
            )
            backward = _RestartingGRU(
                self.features, self.dtype, is_reversed=True, name=f"backward_{layer}"
            )(states, _is_at(ends, length))
            states = jnp.concatenate([forward, backward], axis=-1)
        return jnp.concatenate([_at(forward, ends), _at(backward, starts)], axis=-1)


class ConversationGRU(nn.Module):
    """A GRU over the utterances of a history, each with its sender beside it.

    Attributes:
      features: width of the states.
      num_layers: number of layers.
      dropout: rate between layers.
      dtype: the type of the products; the states are float32.
    """

    features: int
    num_layers: int = 1
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        utterances: Float[Array, "B *K U F"],
        senders: Float[Array | np.ndarray, "B *K U"],
        *,
        deterministic: bool = True,
    ) -> Float[Array, "B *K U H"]:
        """The state after every utterance.

        Args:
          utterances: vectors of the utterances, padded at the end.
          senders: +1 for the recommender, -1 for the seeker.
          deterministic: whether dropout is off.
        """
        states: Any = jnp.concatenate([utterances, jnp.asarray(senders)[..., None]], axis=-1)
        for layer in range(self.num_layers):
            if layer:
                states = nn.Dropout(self.dropout)(states, deterministic=deterministic)
            cell = nn.GRUCell(self.features, dtype=self.dtype, name=f"layer_{layer}")
            states = nn.RNN(cell)(states)
        return states


def last_state(states: Float[Array, "B *K U H"], ends: Places) -> Float[Array, "B *K H"]:
    """The state after the last utterance of each history; zeros for a history without any.

    Args:
      states: the states after all utterances, those after padding included.
      ends: the places of the utterances, -1 for padding at the end.
    """
    count = (jnp.asarray(ends) >= 0).sum(axis=1)  # [B]
    index = jnp.maximum(count - 1, 0).reshape(-1, *[1] * (states.ndim - 1))
    last = jnp.take_along_axis(states, index, axis=-2)[..., 0, :]
    return jnp.where(count.reshape(-1, *[1] * (last.ndim - 1)) > 0, last, 0.0)


class _RestartingGRU(nn.Module):
    """A GRU over the places of a sequence, in one direction, with a zero state at every restart."""

    features: int
    dtype: Any
    is_reversed: bool = False

    @nn.compact
    def __call__(self, vectors, is_restart):
        def step(cell, state, at):
            vector, restarts = at
            return cell(jnp.where(restarts[:, None], 0.0, state), vector)

        scan = nn.scan(
            step,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
            reverse=self.is_reversed,
        )
        start = jnp.zeros((vectors.shape[0], self.features), vectors.dtype)
        cell = nn.GRUCell(self.features, dtype=self.dtype, name="cell")
        return scan(cell, start, (vectors, is_restart))[1]  # [B, L, F]


def _is_at(places: Places, length: int) -> Array:
    """Whether each of `length` places is among the given ones, [B, L]."""
    return (jnp.arange(length)[None, :, None] == jnp.asarray(places)[:, None, :]).any(axis=-1)


def _at(states: Array, places: Places) -> Array:
    """The states at given places, [B, U, F]."""
    return jnp.take_along_axis(states, jnp.maximum(jnp.asarray(places), 0)[:, :, None], axis=1)
