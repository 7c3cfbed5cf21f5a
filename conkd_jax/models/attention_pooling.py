"""Attentive pooling of a set of graph nodes into one vector, with a mask that masks.

It knows nothing of what the nodes are. The energy of a node doesn't depend on the set it is pooled
in, so it is computed once per node and gathered with it.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

MASKED = -1e30  # finite, so that a set without members gives no nan


class AttentionEnergies(nn.Module):
    r"""Energy of every node, ε_i = bᵀ tanh(A h_i), whose softmax over a set is its attention.

    Initialised as in KGSF: Xavier normal with gain 1.414. Source: KGSF's self-attention layers.

    Attributes:
      attention_dim: rows of A.
    """

    attention_dim: int

    @nn.compact
    def __call__(self, nodes: Float[Array, "N D"]) -> Float[Array, " N"]:
        """Energies of the nodes; `pool` turns those of a set into weights."""
        xavier = nn.initializers.variance_scaling(2.0, "fan_avg", "normal")  # gain² = 2
        hidden = nn.Dense(self.attention_dim, use_bias=False, kernel_init=xavier, name="a")(nodes)
        energies = nn.Dense(1, use_bias=False, kernel_init=xavier, name="b")(jnp.tanh(hidden))
        return energies[:, 0]


def pool(
    nodes: Float[Array, "N D"],
    energies: Float[Array, " N"],
    members: Int[Array | np.ndarray, "B L"],
    mask: Bool[Array | np.ndarray, "B L"],
) -> Float[Array, "B D"]:
    r"""Pools sets of nodes: Σ_i α_i h_i with α = softmax over the set's energies.

    Masked places get energy -1e30 and weight exactly 0. (KGSF's code multiplies by +1e-30 there,
    which masks nothing.)

    Args:
      nodes: node vectors.
      energies: of every node, from `AttentionEnergies`.
      members: index into `nodes` of each set's members; anything in range where masked.
      mask: True where a member counts.

    Returns:
      One vector per set; zeros for a set without members.
    """
    weights = jax.nn.softmax(jnp.where(mask, energies[members], MASKED), axis=-1)
    weights = jnp.where(mask, weights, 0.0)  # of an empty set they are uniform
    return jnp.einsum("bl,bld->bd", weights, nodes[members])
