"""Attentive pooling of a set of graph nodes into one vector.

A node's energy does not depend on the set that it is pooled in, so it is computed once per node and
gathered together with the node's vector. This file must not depend on what the nodes stand for.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.models.layers import Dense
from conkd_jax.typing import Array, Bool, Float, Int

MASKED = -1e30  # finite: a softmax over -inf alone, the set without members, would be nan


_INITIALIZERS = {  # gain² = 2
    "xavier_normal": nn.initializers.variance_scaling(2.0, "fan_avg", "normal"),
    "xavier_uniform": nn.initializers.variance_scaling(2.0, "fan_avg", "uniform"),
}


class AttentionEnergies(nn.Module):
    """Energy of every node, ε_i = bᵀ tanh(A h_i); a softmax over a set gives attention weights.

    Initialised by Xavier's rule with gain 1.414, as in KGSF (normal) and KBRD (uniform).

    Attributes:
      attention_dim: number of rows of A.
      initialization: "xavier_normal" or "xavier_uniform".
      dtype: the type of both products; tanh and energies are float32.

    Source: the self-attention layers of KGSF's and KBRD's public code.
    """

    attention_dim: int
    initialization: str = "xavier_normal"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, nodes: Float[Array, "N D"]) -> Float[Array, " N"]:
        """Energies of the nodes; `attention_pool` turns those of a set into weights."""
        xavier = _INITIALIZERS[self.initialization]
        layer = functools.partial(Dense, use_bias=False, kernel_init=xavier, dtype=self.dtype)
        hidden = jnp.tanh(layer(self.attention_dim, name="a")(nodes).astype(jnp.float32))
        return layer(1, name="b")(hidden).astype(jnp.float32)[:, 0]


def attention_pool(
    nodes: Float[Array, "N D"],
    energies: Float[Array, " N"],
    members: Int[Array | np.ndarray, "B L"],
    mask: Bool[Array | np.ndarray, "B L"],
) -> Float[Array, "B D"]:
    """Pools sets of nodes: Σ_i α_i h_i with α = softmax over the energies of the set.

    Masked places get energy -1e30 and weight exactly 0. (KGSF's public code multiplies by +1e-30
    instead, which masks nothing.)

    Args:
      nodes: vectors of all nodes.
      energies: of all nodes, from `AttentionEnergies`.
      members: index into `nodes` of each set's members; any valid index where masked.
      mask: True at members, False at padding.

    Returns:
      One vector per set; zeros for a set without members.
    """
    weights = jax.nn.softmax(jnp.where(mask, energies[members], MASKED), axis=-1)
    weights = jnp.where(mask, weights, 0.0)  # those of an empty set are uniform until here
    return jnp.einsum("bl,bld->bd", weights, nodes[members])
