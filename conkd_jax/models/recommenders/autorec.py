"""AutoRec, ReDial's recommender: an autoencoder of a user's ratings.

It is a user vector and a head, like every recommender here. This file must not depend on where
ratings come from.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.models.layers import product
from conkd_jax.typing import Array, Bool, Float, Int, Params, PRNGKeyArray


def init_autorec(rng: PRNGKeyArray, num_items: int, hidden_dim: int) -> Params:
    """Draws the parameters: encoder [M, H] and decoder [H, M], each with a bias."""
    one, other = jax.random.split(rng)
    init = nn.initializers.lecun_normal()
    return {
        "encoder": {
            "kernel": init(one, (num_items, hidden_dim)),
            "bias": jnp.zeros(hidden_dim),
        },
        "decoder": {
            "kernel": init(other, (hidden_dim, num_items)),
            "bias": jnp.zeros(num_items),
        },
    }


def user_vectors(
    params: Params,
    items: Int[Array | np.ndarray, "B K"],
    ratings: Float[Array | np.ndarray, "B K"],
    dtype: Any = jnp.float32,
) -> Float[Array, "B H"]:
    """The hidden layer h = σ(W₁ x + b₁); x has the ratings of distinct items, 0 elsewhere.

    Args:
      params: from `init_autorec`.
      items: the rated items; negative for padding.
      ratings: from 0 to 1.
      dtype: the type of the product; the result is float32.

    Source: Sedhain et al. 2015; Li et al. 2018 (ReDial).
    """
    items, encoder = jnp.asarray(items), params["encoder"]
    rated = jnp.where(items >= 0, jnp.asarray(ratings), 0.0)
    rows = jnp.asarray(encoder["kernel"])[jnp.maximum(items, 0)]  # [B, K, H]
    found = jnp.einsum("bk,bkh->bh", rated.astype(dtype), rows.astype(dtype))
    return nn.sigmoid(found.astype(jnp.float32) + encoder["bias"])


def scores(
    params: Params, users: Float[Array, "B H"], dtype: Any = jnp.float32
) -> Float[Array, "B M"]:
    """The scores ŷ = W₂ h + b₂; their sigmoids are the predicted ratings.

    Args:
      params: from `init_autorec`.
      users: from `user_vectors`.
      dtype: the type of the product; the result is float32.
    """
    return product(users, params["decoder"]["kernel"], dtype) + params["decoder"]["bias"]


def squared_error(
    predicted: Float[Array, "B M"],
    items: Int[Array | np.ndarray, "B K"],
    ratings: Float[Array | np.ndarray, "B K"],
    is_target: Bool[Array, "B K"] | None = None,
) -> Float[Array, " B"]:
    """Σ_j (σ(ŷ_j) - r_j)² over the rated items j of each user.

    Args:
      predicted: ŷ.
      items: the rated items; negative for padding.
      ratings: from 0 to 1.
      is_target: the items that count; None for all.
    """
    items = jnp.asarray(items)
    counts = items >= 0 if is_target is None else is_target & (items >= 0)
    given = nn.sigmoid(jnp.take_along_axis(predicted, jnp.maximum(items, 0), axis=1))
    return jnp.where(counts, (given - jnp.asarray(ratings)) ** 2, 0.0).sum(axis=1)
