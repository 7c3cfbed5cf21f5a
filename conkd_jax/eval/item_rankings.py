"""The most probable items at the item steps of many responses, a few logits at a time."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.distill.head import Head

TOP_ITEMS_AT_A_TIME = 256  # item steps whose logits exist at once
FORBIDDEN_LOGIT = -1e9  # of a forbidden token; with -inf, its mass could become 0 · inf = nan


def item_mask(
    tokens: Sequence[Collection[int]], num_rows: int, num_items: int, num_words: int
) -> np.ndarray:
    """The item tokens of each row as a mask [num_rows, I]; the remaining rows are empty."""
    mask = np.zeros((num_rows, num_items), bool)
    for row, of_row in enumerate(tokens):
        mask[row, np.fromiter(of_row, np.int64, len(of_row)) - num_words] = True
    return mask


def top_items(
    head: Head,
    features: Sequence[np.ndarray],
    forbidden: Sequence[Collection[int]] | None,
    num_words: int,
    top_k: int,
) -> Iterator[np.ndarray]:
    """The most probable item tokens [K] for each row of features, a chunk at a time.

    `forbidden` holds, for each row, the item tokens to leave out; a ranking is shorter where fewer
    than K others are left.
    """
    width = head.kernel.shape[0]  # features of retrieved words, beyond it, don't score items
    rows = np.concatenate(features)[:, :width] if features else np.zeros((0, width))
    num_items = head.num_targets - num_words
    k = min(top_k, num_items)
    size = TOP_ITEMS_AT_A_TIME
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        padded = np.pad(chunk, ((0, size - len(chunk)), (0, 0)))
        out = None if forbidden is None else forbidden[start : start + size]
        mask = None if out is None else item_mask(out, size, num_items, num_words)
        top = np.asarray(_top_item_ids(head, padded, mask, num_words=num_words, k=k))
        for place, tokens in enumerate(top[: len(chunk)]):
            # forbidden items rank last, so that cutting the list to the others removes them
            yield tokens if out is None else tokens[: num_items - len(set(out[place]))]


@functools.partial(jax.jit, static_argnames=("num_words", "k"))
def _top_item_ids(head, features, is_forbidden, *, num_words, k):
    logits = head.items(num_words).logits(features)
    if is_forbidden is not None:
        logits = jnp.where(is_forbidden, FORBIDDEN_LOGIT, logits)
    return num_words + jax.lax.top_k(logits, k)[1]
