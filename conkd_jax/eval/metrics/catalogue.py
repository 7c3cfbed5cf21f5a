"""Which part of the catalogue a system recommends: coverage, concentration and popularity bias.

These are computed from all generated items together; they are not averages over responses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Num


def coverage(item_counts: Mapping[Any, int], num_items: int) -> float:
    """Share of the catalogue that was recommended at least once.

    >>> coverage({"A": 3, "B": 1}, num_items=8)
    0.25

    Raises:
      ValueError: more items were recommended than there are.

    Source: catalogue coverage of Ge et al., RecSys 2010.
    """
    distinct = sum(count > 0 for count in item_counts.values())
    if distinct > num_items:
        raise ValueError(
            f"num_items: expected at least the {distinct} items that were recommended, "
            f"got {num_items}"
        )
    return distinct / num_items


def gini(counts: Num[np.ndarray, " items"]) -> float:
    """Gini coefficient of how often each item of the catalogue was recommended, zeros included.

    G = Σ_i (2i - n - 1) x_i / (n Σ_i x_i) over counts x in ascending order: 0 when all items
    are recommended equally often, (n - 1)/n when only one is; nan when none is.

    >>> gini(np.array([1, 1, 1, 1])), gini(np.array([0, 0, 0, 8]))
    (0.0, 0.75)

    Source: the coefficient over items of Fleder and Hosanagar, 2009.
    """
    total = counts.sum()
    if not total:
        return math.nan
    n = counts.size
    return float((2 * np.arange(1, n + 1) - n - 1) @ np.sort(counts) / (n * total))


def popularity_bias(
    recommended: Mapping[Any, int],
    gold: Mapping[Any, int],
    popularity: Mapping[Any, int],
) -> float:
    """Popularity lift: mean popularity of recommended items over that of gold items, minus 1.

    Above 0 the system recommends more popular items than people do; nan where either side is
    empty.

    Args:
      recommended: how often each item was generated.
      gold: how often each item occurs in the references.
      popularity: mentions of each item in the training split; an item that is missing has none.

    >>> popularity_bias({"A": 1, "B": 1}, {"B": 2}, {"A": 30, "B": 10})
    1.0

    Source: the popularity lift of Abdollahpouri et al., 2020, with the gold items of the dialogues
      as the profile.
    """
    of_system, of_people = (_mean_popularity(items, popularity) for items in (recommended, gold))
    return of_system / of_people - 1 if of_people else math.nan


def _mean_popularity(counts: Mapping[Any, int], popularity: Mapping[Any, int]) -> float:
    total = sum(counts.values())
    weighted = sum(count * popularity.get(item, 0) for item, count in counts.items())
    return weighted / total if total else math.nan
