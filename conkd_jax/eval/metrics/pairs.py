"""(sum, count) pairs: the form that a metric has until it is divided, once, for the whole run.

The functions of this folder return the pair of one response. Pairs are added over responses and
then divided, so a metric is a ratio of sums over the split and never a mean of ratios.
"""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Float

Number = int | float
Pair = tuple[Number, Number]  # (sum, count)

EXPONENTIAL = (  # the metric is exp(sum / count)
    "ppl",
    "ppl_predprefix",
    "ppl_words",
    "ppl_words_renormalised",
    "ppl_item",
    "ppl_per_word",
)
ZERO_WHEN_EMPTY = ("rer", "prr", "f1", "rec_ratio")  # 0 / 0 counts as 0


def divide_pairs(
    names: tuple[str, ...],
    sums: Float[np.ndarray, "*batch metrics"],
    counts: Float[np.ndarray, "*batch metrics"],
) -> Float[np.ndarray, "*batch metrics"]:
    """Metrics from their sums and counts: sum / count, and exp of it for perplexities.

    Where a count is 0 the metric is nan, except ReR, PrR, F1 and Rec Ratio, which are 0: a system
    that names no item has precision 0.

    >>> divide_pairs(("rer@1", "ppl", "mismatch"), np.array([1.0, 0.0, 0.0]), np.array([4.0, 2, 0]))
    array([0.25, 1.  ,  nan])
    """
    empty = counts == 0
    values = sums / np.where(empty, 1.0, counts)
    is_exponential, is_zero = _kinds(names)
    values = np.where(is_exponential, np.exp(np.where(is_exponential, values, 0.0)), values)
    return np.where(empty & ~is_zero, np.nan, values)


@functools.cache
def _kinds(names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Which metrics are exponentials, and which are 0 where their count is 0."""
    stems = [name.split("@")[0] for name in names]
    return (
        np.array([name in EXPONENTIAL for name in names], dtype=bool),
        np.array([stem in ZERO_WHEN_EMPTY for stem in stems], dtype=bool),
    )
