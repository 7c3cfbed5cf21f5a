"""What a system does to the catalogue as a whole: coverage, concentration and popularity bias.

These look at all generated items together, so they are no averages over responses. Knows items as
ids.
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
      ValueError: if more items were recommended than there are.

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

    G = Σ_i (2i - n - 1) x_i / (n Σ_i x_i) over counts x sorted upwards: 0 when all items share
    alike, (n - 1)/n when one takes all; nan when nothing was recommended.

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

    Popularity is the number of mentions in the training split, 0 where there is none. Above 0 the
    system recommends more popular items than people do; nan where either side is empty.

    >>> popularity_bias({"A": 1, "B": 1}, {"B": 2}, {"A": 30, "B": 10})
    1.0

    Source: the popularity lift of Abdollahpouri et al., 2020, with the dialogues' gold items as
      profile.
    """
    ours, people = _mean_popularity(recommended, popularity), _mean_popularity(gold, popularity)
    return ours / people - 1 if people else math.nan


def _mean_popularity(counts: Mapping[Any, int], popularity: Mapping[Any, int]) -> float:
    total = sum(counts.values())
    weighted = sum(count * popularity.get(item, 0) for item, count in counts.items())
    return weighted / total if total else math.nan
