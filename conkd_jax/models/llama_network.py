"""The network of Llama: RMS norms, rotary positions, grouped-query attention, SwiGLU.

The layers are one `nn.scan` over parameters that are stacked on a first axis, so compiling takes
the same time for 30 layers as for 2. This module knows nothing of vocabularies, items or caches of
a batch; `models.llama` is its only user.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from conkd_jax.models.compute import Compute
from conkd_jax.typing import Array, Bool, Float, Int, Scalar

INIT = nn.initializers.normal(0.02)  # Llama's initializer_range


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """How Llama 3 stretches rotary positions for contexts longer than those of its pretraining.

    A frequency f turns L f / 2π times over the L positions of the pretraining. One that turns more
    than `high_freq_factor` times stays as it is, one that turns less than `low_freq_factor` times
    is divided by `factor`, and between the two there is a linear transition:

      f ← f (t + (1 - t) / factor),   t = (L f / 2π - low) / (high - low), clipped to [0, 1].

    Attributes:
      factor: divisor of low frequencies.
      low_freq_factor: turns up to which a frequency is low.
      high_freq_factor: turns from which a frequency is high.
      original_positions: L.

    Source: Llama 3.1's reference implementation ("llama3" in Hugging Face's `rope_scaling`).
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_positions: int

    def scaled(self, frequencies: Float[Array, " half"]) -> Float[Array, " half"]:
        """The stretched frequencies."""
        turns = self.original_positions * frequencies / (2 * math.pi)
        low, high = self.low_freq_factor, self.high_freq_factor
        t = jnp.clip((turns - low) / (high - low), 0.0, 1.0)
        return frequencies * (t + (1 - t) / self.factor)


@dataclasses.dataclass(frozen=True)
class LlamaSpec:
    """The shape of a Llama, without its vocabulary.

    Attributes:
      num_layers: transformer blocks.
      embed_dim: D, the width; features have F = D.
      num_heads: H, the heads of queries.
      num_kv_heads: K, the heads of keys and values, each shared by H/K heads of queries.
      head_dim: width of a head, even; usually D/H.
      mlp_dim: hidden width of the MLP.
      num_positions: longest sequence that it was trained on, in tokens. No array has this size.
      rope_theta: θ of the rotary positions.
      rope_scaling: how they are stretched; None if they are not.
      norm_epsilon: ε of the RMS norms.
      tied: whether the output layer is the embedding.
      dropout: rate on the embeddings and on the outputs of attention and MLP. Llama has none; it is
        for training small models from scratch.
    """

    num_layers: int
    embed_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    num_positions: int
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-5
    tied: bool = True
    dropout: float = 0.0
    rope_scaling: RopeScaling | None = None

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"LlamaSpec.num_heads = {self.num_heads} is not a multiple of num_kv_heads = "
                f"{self.num_kv_heads}; change one of them"
            )
        if self.head_dim % 2:
            raise ValueError(
                f"LlamaSpec.head_dim = {self.head_dim} is odd, but rotary positions rotate pairs"
            )

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> LlamaSpec:
        """The shape from its fields as JSON has them, of which `rope_scaling` may be missing."""
        scaling = fields.get("rope_scaling")
        return cls(**{**fields, "rope_scaling": RopeScaling(**scaling) if scaling else None})


class KeysValues(NamedTuple):
    """Keys and values of L places; of all layers with a first axis, of one layer without it."""

    keys: Float[Array, "*layers B L K d"]
    values: Float[Array, "*layers B L K d"]


class Attended(NamedTuple):
    """What the attention of every layer has in common.

    Attributes:
      cos: cosines of the rotary angles of the tokens that are read.
      sin: their sines.
      mask: True where a token may attend; None for causal attention among the tokens themselves.
      slot: the place of the past that the first token is written to; None without a past.
    """

    cos: Float[Array, "B T half"]
    sin: Float[Array, "B T half"]
    mask: Bool[Array, "B T L"] | None = None
    slot: Int[Array, ""] | None = None


def rotary_angles(
    positions: Int[Array, "B T"],
    head_dim: int,
    theta: float,
    scaling: RopeScaling | None = None,
) -> tuple[Float[Array, "B T half"], Float[Array, "B T half"]]:
    """Cosines and sines of the angles p θ^(-2i/d), i = 0 … d/2 - 1, of positions p; float32.

    Args:
      positions: p.
      head_dim: d.
      theta: θ.
      scaling: changes the frequencies θ^(-2i/d).

    Source: Su et al. 2021 (RoPE).
    """
    exponents = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
    frequencies = jnp.float32(theta) ** -exponents  # [half]
    frequencies = frequencies if scaling is None else scaling.scaled(frequencies)
    angles = positions.astype(jnp.float32)[:, :, None] * frequencies[None, None, :]
    return jnp.cos(angles), jnp.sin(angles)


def rotate(
    heads: Float[Array, "B T H d"], cos: Float[Array, "B T half"], sin: Float[Array, "B T half"]
) -> Float[Array, "B T H d"]:
    """Rotates each pair of entries (i, i + d/2) by its angle; computed in float32."""
    one, other = jnp.split(heads.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[:, :, None], sin[:, :, None]  # [B, T, 1, half]
    rotated = jnp.concatenate([one * cos - other * sin, other * cos + one * sin], axis=-1)
    return rotated.astype(heads.dtype)


class RMSNorm(nn.Module):
    """x / √(mean(x²) + ε), times a trained scale; computed in float32."""

    epsilon: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, states: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Normalises the last axis."""
        scale = self.param("scale", nn.initializers.ones_init(), (states.shape[-1],))
        wide = states.astype(jnp.float32)
        mean_square = jnp.square(wide).mean(-1, keepdims=True)
        normed = wide * jax.lax.rsqrt(mean_square + self.epsilon)
        # The gradient of the scale is a sum over all tokens, so this product is float32 too.
        return (normed * scale.reshape((1,) * (states.ndim - 1) + (-1,))).astype(self.dtype)


class Attention(nn.Module):
    """Causal attention in which H/K heads of queries share one head of keys and values.

    Source: Ainslie et al. 2023 (grouped-query attention).
    """

    spec: LlamaSpec
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, states: Float[Array, "B T D"], past: KeysValues | None, attended: Attended
    ) -> tuple[Float[Array, "B T D"], KeysValues]:
        """Attends among the tokens of `states`, or to a past that they are first written to.

        Returns:
          The attended values, and the keys and values of the tokens or the longer past.
        """
        spec = self.spec
        batch, length, _ = states.shape

        def heads(name: str, number: int):
            out = self._dense(number * spec.head_dim, name)(states)
            return out.reshape(batch, length, number, spec.head_dim)

        query = rotate(heads("query", spec.num_heads), attended.cos, attended.sin)
        key = rotate(heads("key", spec.num_kv_heads), attended.cos, attended.sin)
        own = KeysValues(key, heads("value", spec.num_kv_heads))
        if past is not None:
            zero = jnp.zeros((), jnp.int32)
            place = (zero, jnp.asarray(attended.slot, jnp.int32), zero, zero)
            own = KeysValues(
                *map(lambda a, b: jax.lax.dynamic_update_slice(a, b, place), past, own)
            )
        with jax.numpy_dtype_promotion("standard"):  # JAX's function needs it in bfloat16
            mixed = jax.nn.dot_product_attention(
                query,
                own.keys,
                own.values,
                mask=None if attended.mask is None else attended.mask[:, None],
                is_causal=attended.mask is None,
            )  # [B, T, H, d], with a softmax in float32
        flat = mixed.reshape(batch, length, spec.num_heads * spec.head_dim)
        return self._dense(spec.embed_dim, "out")(flat), own

    def _dense(self, width: int, name: str) -> nn.Dense:
        return nn.Dense(width, use_bias=False, dtype=self.dtype, kernel_init=INIT, name=name)


class MLP(nn.Module):
    """SwiGLU, W_down (SiLU(W_gate x) ⊙ W_up x), without biases.

    Source: Shazeer 2020.
    """

    spec: LlamaSpec
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, states: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """Applies the MLP to every state."""

        def dense(width: int, name: str) -> nn.Dense:
            return nn.Dense(width, use_bias=False, dtype=self.dtype, kernel_init=INIT, name=name)

        gate = nn.silu(dense(self.spec.mlp_dim, "gate")(states))
        up = dense(self.spec.mlp_dim, "up")(states)
        return dense(self.spec.embed_dim, "down")(gate * up)


class Block(nn.Module):
    """x ← x + Attention(RMSNorm(x)), x ← x + MLP(RMSNorm(x)).

    Attributes:
      spec: the shape.
      dtype: of weights and activations in products.
      deterministic: whether dropout is off.
      keep: whether keys and values are returned.
    """

    spec: LlamaSpec
    dtype: Any
    deterministic: bool
    keep: bool

    @nn.compact
    def __call__(
        self, states: Float[Array, "B T D"], past: KeysValues | None, attended: Attended
    ) -> tuple[Float[Array, "B T D"], KeysValues | None]:
        """Applies one layer; returns the states, and keys and values or None."""
        spec, dtype = self.spec, self.dtype

        def norm(name: str) -> RMSNorm:
            return RMSNorm(spec.norm_epsilon, dtype, name=name)

        drop = nn.Dropout(spec.dropout, deterministic=self.deterministic)
        attention = Attention(spec, dtype, name="attention")
        mixed, own = attention(norm("attention_norm")(states), past, attended)
        states = states + drop(mixed)
        states = states + drop(MLP(spec, dtype, name="mlp")(norm("mlp_norm")(states)))
        return states, own if self.keep else None


class LlamaNetwork(nn.Module):
    """Token ids to final normed states, with all layers as one scan.

    Parameters: "embed" → "embedding" [R, D]; "layers", each array with a first axis of num_layers;
    "norm" → "scale" [D].

    Attributes:
      spec: the shape.
      num_rows: rows of the embedding.
      compute: the type of products, and whether layers are computed again in the backward pass.
    """

    spec: LlamaSpec
    num_rows: int
    compute: Compute = Compute()

    @nn.compact
    def __call__(
        self,
        input_ids: Int[Array, "B T"],
        positions: Int[Array, "B T"],
        past: KeysValues | None = None,
        mask: Bool[Array, "B T L"] | None = None,
        slot: Scalar | Int[Array, ""] | None = None,
        *,
        deterministic: bool = True,
        keep: bool = False,
    ) -> tuple[Float[Array, "B T D"], KeysValues | None]:
        """Reads tokens.

        Args:
          input_ids: the tokens.
          positions: their positions, from 0.
          past: keys and values of every layer that the tokens attend to as well.
          mask: as in `Attended`.
          slot: as in `Attended`.
          deterministic: whether dropout is off.
          keep: whether to return keys and values.

        Returns:
          The states, and every layer's keys and values (with those of `past`), or None.
        """
        spec, dtype = self.spec, self.compute.array_dtype
        # The gradient of an embedding row is a sum over all tokens that read it: in float32.
        embed = nn.Embed(self.num_rows, spec.embed_dim, embedding_init=INIT, name="embed")
        states = nn.Dropout(spec.dropout, deterministic=deterministic)(embed(input_ids))
        attended = Attended(
            *rotary_angles(positions, spec.head_dim, spec.rope_theta, spec.rope_scaling),
            mask=mask,
            slot=slot,
        )
        # Inside a scan, XLA can't merge the second computation with the first.
        block = nn.remat(Block, prevent_cse=False) if self.compute.remat else Block
        layers = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=cast(Any, (0, nn.broadcast)),  # of past, and of attended
            length=spec.num_layers,
        )(spec, dtype, deterministic, keep, name="layers")
        states, kept = layers(states.astype(dtype), past, attended)
        return RMSNorm(spec.norm_epsilon, dtype, name="norm")(states), kept
