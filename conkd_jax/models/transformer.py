"""Encoder and decoder layers of the transformer (Vaswani et al. 2017), for KGSF and the classifier.

Flax's own attention lacks two things that are needed here: a defined result where every key is
masked, and a way to compute a memory's keys and values once for all decoding steps. So attention is
assembled here from Flax's parts, under Flax's parameter names. This file must not depend on
vocabularies, embeddings or graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.models.layers import Dense, DenseGeneral, attend
from conkd_jax.typing import Array, Bool, Float, Int

LAYER_NORM_EPSILON = 1e-5  # PyTorch's default


class KeysValues(NamedTuple):
    """Keys and values of a memory of L places, in H heads of width D/H."""

    keys: Float[Array, "B L H D/H"]
    values: Float[Array, "B L H D/H"]


class LayerCache(NamedTuple):
    """What a decoder layer keeps while a batch is decoded.

    Attributes:
      own: keys and values of the tokens read so far, at a static length; zeros after them.
      memories: keys and values of every memory; no step changes them.
    """

    own: KeysValues
    memories: tuple[KeysValues, ...]


class Attention(nn.Module):
    """Multi-head attention, softmax(Q Kᵀ / √d) V, with zeros where every key is masked.

    Parameters have the names and shapes of Flax's MultiHeadDotProductAttention. If all keys of a
    query are masked, the result is exactly zero, without the output bias; a plain softmax would
    return the mean of the padding.

    Attributes:
      embed_dim: D of queries and output; a memory may have another width.
      num_heads: divides `embed_dim`.
      dropout: rate on the attention weights.
      dtype: the type of products and outputs; the softmax is float32.

    Source: Vaswani et al. 2017, §3.2.
    """

    embed_dim: int
    num_heads: int
    dropout: float = 0.0
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Creates the projections."""
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"attention of width embed_dim = {self.embed_dim} can't be divided into "
                f"num_heads = {self.num_heads} equal heads; change one of them"
            )
        heads = (self.num_heads, self.embed_dim // self.num_heads)
        self.query = DenseGeneral(heads, dtype=self.dtype)
        self.key = DenseGeneral(heads, dtype=self.dtype)
        self.value = DenseGeneral(heads, dtype=self.dtype)
        self.out = DenseGeneral(self.embed_dim, axis=(-2, -1), dtype=self.dtype)

    def keys_values(self, memory: Float[Array, "B L D"]) -> KeysValues:
        """Computes the memory's keys and values, which serve any number of queries."""
        return KeysValues(self.key(memory), self.value(memory))

    def __call__(
        self,
        states: Float[Array, "B Q D"],
        memory: KeysValues,
        mask: Bool[Array | np.ndarray, "#B #Q L"],
        *,
        deterministic: bool,
    ) -> Float[Array, "B Q D"]:
        """Attends from every state to the memory.

        Args:
          states: the queries.
          memory: from `keys_values`.
          mask: True where a query may attend.
          deterministic: whether dropout is off.
        """
        use_dropout = self.dropout > 0.0 and not deterministic
        attended = attend(
            self.query(states),
            memory.keys,
            memory.values,
            jnp.asarray(mask)[:, None],
            dropout_rng=self.make_rng("dropout") if use_dropout else None,
            dropout_rate=self.dropout,
            broadcast_dropout=False,
        )  # [B, Q, H, D/H]
        return jnp.where(jnp.any(mask, axis=-1, keepdims=True), self.out(attended), 0)


class EncoderLayer(nn.Module):
    """A standard transformer layer: self-attention, then a ReLU MLP, each with a post-LayerNorm.

    x ← LN(x + Attention(x)), x ← LN(x + MLP(x)). It is torch.nn.TransformerEncoderLayer with its
    defaults.

    Attributes:
      num_heads: attention heads; divides the width of the states.
      mlp_dim: hidden width of the MLP.
      dropout: rate on the outputs of attention and MLP, and inside the MLP after its ReLU.
      attention_dropout: rate on the attention weights.
      dtype: the type of products and states; layer norms are computed in float32.

    Source: Vaswani et al. 2017, §3.1.
    """

    num_heads: int
    mlp_dim: int
    dropout: float = 0.1
    attention_dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        states: Float[Array, "B S D"],
        mask: Bool[Array | np.ndarray, "B S"],
        *,
        deterministic: bool,
    ) -> Float[Array, "B S D"]:
        """Encodes a batch.

        Args:
          states: one per token.
          mask: True at real tokens; no token attends to the others.
          deterministic: whether dropout is off.
        """
        width = states.shape[-1]

        def drop(x):
            return nn.Dropout(self.dropout)(x, deterministic=deterministic)

        def norm(name):
            return nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, dtype=self.dtype, name=name)

        attention = Attention(
            width, self.num_heads, self.attention_dropout, self.dtype, name="attention"
        )
        attended = attention(
            states, attention.keys_values(states), mask[:, None, :], deterministic=deterministic
        )
        states = norm("norm_1")(states + drop(attended))
        hidden = drop(nn.relu(Dense(self.mlp_dim, dtype=self.dtype, name="linear_1")(states)))
        hidden = Dense(width, dtype=self.dtype, name="linear_2")(hidden)
        return norm("norm_2")(states + drop(hidden))


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to each memory in turn, then a ReLU MLP; all post-LayerNorm.

    x ← LN(x + SelfAttention(x)), x ← LN(x + Attention_m(x, memory_m)) for m = 1, 2, …,
    x ← LN(x + MLP(x)). With one memory it is torch.nn.TransformerDecoderLayer with its defaults.

    Attributes:
      embed_dim: D of the states.
      num_memories: number of memories, attended to one after the other.
      num_heads: as in `EncoderLayer`.
      mlp_dim: as in `EncoderLayer`.
      dropout: as in `EncoderLayer`; attention weights have none.
      dtype: as in `EncoderLayer`.

    Source: Vaswani et al. 2017, §3.1; more than one memory: KGSF's decoder.
    """

    embed_dim: int
    num_memories: int
    num_heads: int
    mlp_dim: int
    dropout: float = 0.1
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Creates the submodules."""

        def attention():
            return Attention(self.embed_dim, self.num_heads, dtype=self.dtype)

        def norm():
            return nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, dtype=self.dtype)

        self.self_attention = attention()
        self.self_norm = norm()
        self.memory_attention = [attention() for _ in range(self.num_memories)]
        self.memory_norm = [norm() for _ in range(self.num_memories)]
        self.linear_1 = Dense(self.mlp_dim, dtype=self.dtype)
        self.linear_2 = Dense(self.embed_dim, dtype=self.dtype)
        self.mlp_norm = norm()
        self.drop = nn.Dropout(self.dropout)

    def __call__(
        self,
        states: Float[Array, "B T D"],
        memories: Sequence[Float[Array, "B _ _"]],
        masks: Sequence[Bool[Array | np.ndarray, "B _"]],
        *,
        deterministic: bool,
    ) -> Float[Array, "B T D"]:
        """Decodes all tokens at once under teacher forcing; no token attends to later ones.

        Args:
          states: one per token.
          memories: [B, L, D] each, in the order in which they are attended to.
          masks: [B, L] each, True at the real places. A row without real places adds zeros.
          deterministic: whether dropout is off.
        """
        length = states.shape[1]
        return self._advance(
            states,
            self.self_attention.keys_values(states),
            jnp.tril(jnp.ones((1, length, length), bool)),
            self._read(memories),
            masks,
            deterministic,
        )

    def open_cache(self, memories: Sequence[Float[Array, "B _ _"]], max_tokens: int) -> LayerCache:
        """Computes every memory's keys and values, and allocates those of `max_tokens` tokens."""
        read = self._read(memories)
        own = jax.tree.map(
            lambda x: jnp.zeros((x.shape[0], max_tokens, *x.shape[2:]), x.dtype), read[0]
        )
        return LayerCache(own, read)

    def step(
        self,
        states: Float[Array, "B 1 D"],
        cache: LayerCache,
        position: Int[Array, ""],
        masks: Sequence[Bool[Array | np.ndarray, "B _"]],
    ) -> tuple[Float[Array, "B 1 D"], LayerCache]:
        """Reads one more token of every row, at `position`, counted from 0; without dropout."""
        own = jax.tree.map(
            lambda past, new: jax.lax.dynamic_update_slice_in_dim(past, new, position, axis=1),
            cache.own,
            self.self_attention.keys_values(states),
        )
        # The cache has a static length, so every step has the same shapes and is compiled once.
        # Slots after `position` still hold zeros. A zero key would get attention, so it is masked.
        is_read = jnp.arange(own.keys.shape[1], dtype=jnp.int32) <= position
        states = self._advance(states, own, is_read[None, None, :], cache.memories, masks, True)
        return states, cache._replace(own=own)

    def _read(self, memories) -> tuple[KeysValues, ...]:
        pairs = zip(self.memory_attention, memories, strict=True)
        return tuple(attention.keys_values(memory) for attention, memory in pairs)

    def _advance(self, states, own, own_mask, memories, masks, deterministic):
        def drop(x):
            return self.drop(x, deterministic=deterministic)

        attended = self.self_attention(states, own, own_mask, deterministic=deterministic)
        states = self.self_norm(states + drop(attended))
        for attention, norm, memory, mask in zip(
            self.memory_attention, self.memory_norm, memories, masks, strict=True
        ):
            attended = attention(states, memory, mask[:, None, :], deterministic=deterministic)
            states = norm(states + drop(attended))
        hidden = self.linear_2(drop(nn.relu(self.linear_1(states))))
        return self.mlp_norm(states + drop(hidden))


def sinusoidal_positions(length: int, embed_dim: int) -> Float[np.ndarray, "L D"]:
    """Codes of positions p = 0, 1, …: sin(p / 10000^{2j/D}) at column 2j, its cosine at 2j + 1.

    Source: Vaswani et al. 2017, §3.5.
    """
    column = np.arange(embed_dim)
    angles = np.arange(length)[:, None] / 10000.0 ** (column // 2 * 2 / embed_dim)
    return np.where(column % 2 == 0, np.sin(angles), np.cos(angles)).astype(np.float32)
