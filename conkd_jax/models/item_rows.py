"""Embedding rows of items: means of title words, and a start from a recommender's item vectors.

A language model with new item tokens learns late which items are alike. The recommender already has
a vector of every item, so a model can start from that geometry. The paper does not say how the item
rows of its student start; this is an option that is not in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.typing import Array, Float, PRNGKeyArray

MAPS = ("random", "pca", "least_squares")


def add_item_vectors(
    embedding: Float[Array, "R D"],
    vectors: Float[Array, "I d"],
    first: int,
    rng: PRNGKeyArray,
    titles: Sequence[Sequence[int]] = (),
    *,
    map_name: str = "random",
    scale: float = 3.0,
) -> Float[Array, "R D"]:
    """Adds a recommender's item vectors to the rows of the items.

    E_i ← E_i + s σ_E · n̂_i Q, where n̂ [I, d] are the vectors, centred over the items and divided by
    the standard deviation of their entries, σ_E is the standard deviation of the embedding's
    entries, and s is the scale. Q [d, D] is scaled so that the entries of n̂ Q have a mean square of
    1, and is otherwise

      random: a random map with orthogonal rows (d ≤ D) or columns. Inner products of items, and so
        which items are alike, are those of the recommender if d ≤ D. If d > D, the mean square is 1
        on average only, and inner products are kept approximately.
      pca: the principal axes of n̂ in the order of their variance, onto the first axes of the
        embedding, with zeros in the others. Inner products are the recommender's if d ≤ D, and the
        closest to them that D axes allow otherwise. It depends on no key, so all seeds have the
        same items. (Principal axes that are randomly rotated would be "random" again if d ≤ D.)
      least_squares: argmin_Q ‖n̂ Q - (T - T̄)‖², with T the rows of the titles (`title_rows`) and T̄
        their mean: of all linear maps the one that best predicts a title from an item's vector, so
        that an item starts near the words of titles of items like it. It keeps no inner products.
        The words have to mean something: in an embedding that is drawn at random, titles with a
        word in common are alike, and nothing else.

    Args:
      embedding: the embedding of words, items and input-only rows.
      vectors: the vector n_i of every item, in the order of the item rows.
      first: the row of the first item, which is also the number of words.
      rng: the key of the random map.
      titles: for each item, the word ids of its title; for "least_squares" only.
      map_name: which Q, one of `MAPS`.
      scale: s.

    Raises:
      ValueError: there is no such map.
    """
    num_items, width = len(vectors), embedding.shape[1]
    centred = vectors - vectors.mean(0)
    centred = centred / jnp.maximum(centred.std(), 1e-12)
    if map_name == "random":
        mapped = _random(centred, width, rng)
    elif map_name == "pca":
        mapped = _unit(_pca(centred, width))
    elif map_name == "least_squares":
        mapped = _unit(_least_squares(centred, title_rows(embedding[:first], titles)))
    else:
        raise ValueError(f"map_name: expected one of {', '.join(MAPS)}, got {map_name!r}")
    rows = embedding[first : first + num_items] + scale * embedding.std() * mapped
    return embedding.at[first : first + num_items].set(rows)


def extend_rows(
    embedding: Float[Array, "P D"],
    num_words: int,
    title_token_ids: Sequence[Sequence[int]],
    num_rows: int,
    rng: PRNGKeyArray,
    stddev: float,
) -> Float[Array, "R D"]:
    """Extends the rows of words to Y = V ∪ I and the input-only rows.

    An item starts at the mean of its title's sub-words plus noise N(0, stddev²). Starting at 0
    would give items most of the softmax, since a trained language model gives its own words large
    negative logits. An item without a title starts at the mean of all words. Tags and padding rows,
    which are input only, start at the noise alone.

    Args:
      embedding: the published rows; those beyond `num_words` are dropped.
      num_words: |V|.
      title_token_ids: for each item, the word ids of its title.
      num_rows: rows of the result: words, items, then the input-only rows.
      rng: key of the noise.
      stddev: standard deviation of the noise; the model's own of initial rows.

    Raises:
      ValueError: the published embedding or `num_rows` is too small, or a title contains an id that
        is not a word.

    Source: the paper's Y = V ∪ I; Hewitt 2021 for the mean.
    """
    num_items = len(title_token_ids)
    flat = np.array([token for title in title_token_ids for token in title], np.int32)
    if embedding.shape[0] < num_words:
        raise ValueError(
            f"the checkpoint embeds {embedding.shape[0]} tokens, but the tokenizer has {num_words} "
            "words; take both from the same model"
        )
    if num_rows < num_words + num_items:
        raise ValueError(f"{num_rows} rows can't hold {num_words} words and {num_items} items")
    if flat.size and not 0 <= flat.min() <= flat.max() < num_words:
        raise ValueError(
            f"expected title ids from 0 to below {num_words}, the number of words, "
            f"got {flat.min()} to {flat.max()}"
        )
    words = embedding[:num_words]
    means = title_rows(words, title_token_ids)
    noise = stddev * jax.random.normal(rng, (num_rows - num_words, words.shape[1]), words.dtype)
    return jnp.concatenate([words, noise.at[:num_items].add(means)])


def title_rows(words: Float[Array, "V D"], titles: Sequence[Sequence[int]]) -> Float[Array, "I D"]:
    """Returns the mean of the rows of every title's words, or of all words for an empty title.

    Args:
      words: the rows of the words.
      titles: for each item, the word ids of its title.
    """
    lengths = np.array([len(title) for title in titles], np.int32)
    flat = np.array([token for title in titles for token in title], np.int32)
    owners = np.repeat(np.arange(len(titles), dtype=np.int32), lengths)
    sums = jax.ops.segment_sum(words[flat], owners, len(titles))
    return jnp.where(
        (lengths > 0)[:, None], sums / np.maximum(lengths, 1)[:, None], words.mean(0)[None]
    )


def _random(centred: Float[Array, "I d"], width: int, rng: PRNGKeyArray) -> Float[Array, "I D"]:
    dim = centred.shape[1]
    size = max(dim, width)
    rotation = jax.random.orthogonal(rng, size)[:dim, :width]
    return centred @ rotation * (size / dim) ** 0.5


def _pca(centred: Float[Array, "I d"], width: int) -> Float[Array, "I D"]:
    _, _, axes = jnp.linalg.svd(centred, full_matrices=False)
    axes = axes[:width]  # of the largest variance first
    largest = jnp.take_along_axis(axes, jnp.abs(axes).argmax(1, keepdims=True), axis=1)
    mapped = centred @ (axes * jnp.sign(largest)).T  # the sign of an axis is arbitrary: fix it
    return jnp.pad(mapped, ((0, 0), (0, width - mapped.shape[1])))


def _least_squares(
    centred: Float[Array, "I d"], targets: Float[Array, "I D"]
) -> Float[Array, "I D"]:
    solution, *_ = jnp.linalg.lstsq(centred, targets - targets.mean(0))
    return centred @ solution


def _unit(mapped: Float[Array, "I D"]) -> Float[Array, "I D"]:
    """Divides by the root of the mean square."""
    return mapped / jnp.maximum(jnp.sqrt(jnp.square(mapped).mean()), 1e-12)
