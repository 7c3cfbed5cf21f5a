"""Embedding rows of items that start from a recommender's item vectors.

A language model with new item tokens learns late which items are alike. The recommender already has
a vector of every item, so a student can start from that geometry. The paper does not say how the
item rows of its student start; this is an option that is not in the paper.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from conkd_jax.typing import Array, Float, PRNGKeyArray

SCALE = 3.0  # of the added vectors, in standard deviations of the embedding


def add_item_vectors(
    embedding: Float[Array, "R D"],
    vectors: Float[Array, "I d"],
    first: int,
    rng: PRNGKeyArray,
) -> Float[Array, "R D"]:
    """Adds a recommender's item vectors to the rows of the items.

    E_i ← E_i + 3 σ_E · n̂_i Q, where n̂ are the vectors, centred and divided by their standard
    deviation, σ_E is the standard deviation of the embedding, and Q [d, D] is a random map with
    orthogonal rows or columns that keeps the mean square of an entry. Inner products of items, and
    so which items are alike, are those of the recommender if D ≥ d.

    Args:
      embedding: the embedding of words, items and input-only rows.
      vectors: the vector n_i of every item, in the order of the item rows.
      first: the row of the first item.
      rng: the key of the map.
    """
    num_items, dim = vectors.shape
    width = embedding.shape[1]
    centred = vectors - vectors.mean(0)
    centred = centred / jnp.maximum(centred.std(), 1e-12)
    size = max(dim, width)
    rotation = jax.random.orthogonal(rng, size)[:dim, :width]
    mapped = centred @ rotation * (size / dim) ** 0.5
    rows = embedding[first : first + num_items] + SCALE * embedding.std() * mapped
    return embedding.at[first : first + num_items].set(rows)
