"""Recall@k, MRR and NDCG of the recommender, from the ranks of its targets.

Ranks count from 1; a target that is not in the list has rank inf. Items with equal scores rank by
index (`best_indices`, `rank_by_score`), in every list and every rank. Each mention of an item is a
target of its own, repeats included, as in KBRD, KGSF and CRSLab.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from conkd_jax.eval.metrics.pairs import Number

SCORES_AT_A_TIME = 1 << 26  # 256 MiB of float32
BLOCKS_FOR_EACH = 4  # blocks for each item of a list; with more, fewer items reach the bound


def best_indices(scores: Num[np.ndarray, "N M"], k: int) -> Int[np.ndarray, "N K"]:
    """Indices of the min(k, M) largest scores of each row, best first; equal scores by index.

    They are the first columns of a stable sort, `np.argsort(-scores, axis=1, kind="stable")`, found
    in O(M) by sorting little more than k scores of a row. As in that sort, nan ranks after every
    number. `jax.lax.top_k` breaks ties likewise, but ranks nan first and 0.0 before -0.0.

    Args:
      scores: floats or signed integers. To bound memory, make a few rows at a time
        (`rows_at_a_time`).
      k: the length of a list.

    >>> best_indices(np.array([[0.0, 2.0, np.nan, 2.0, 1.0]]), k=3).tolist()
    [[1, 3, 4]]
    """
    k = min(k, scores.shape[1])
    found = np.empty((len(scores), k), np.int64)
    for row, values in enumerate(scores if k else ()):
        places = _candidates(values, k)
        costs = -values[places]
        last = np.partition(costs, k - 1)[k - 1]  # nan only where fewer than k are numbers
        better = np.flatnonzero(~np.isnan(costs) if np.isnan(last) else costs < last)
        equal = np.flatnonzero(np.isnan(costs) if np.isnan(last) else costs == last)
        better = better[np.argsort(costs[better], kind="stable")]
        found[row] = places[np.concatenate([better, equal[: k - len(better)]])]
    return found


def _candidates(values: Num[np.ndarray, " M"], k: int) -> Int[np.ndarray, " C"]:
    """Ascending indices that contain those of the k largest values, usually few more than k.

    At least k values reach the k-th largest of the maxima of disjoint blocks.
    """
    length = len(values) // (BLOCKS_FOR_EACH * k)
    if length > 1:
        blocks = values[: len(values) // length * length].reshape(-1, length)
        bound = -np.partition(-blocks.max(axis=1), k - 1)[k - 1]
        if not np.isnan(bound):  # else fewer than k blocks are free of nan
            return np.flatnonzero(values >= bound)
    return np.arange(len(values))


def rows_at_a_time(row_length: int, *, most: int) -> int:
    """The number of rows of scores to hold at once: `most`, or fewer for a large catalogue.

    >>> rows_at_a_time(6_924, most=512), rows_at_a_time(1_000_000, most=512)
    (512, 67)
    """
    return max(1, min(most, SCORES_AT_A_TIME // max(1, row_length)))


def rank_by_score(scores: Any, target_scores: Any, targets: Any) -> Any:
    """Rank of a target among all scores of its row, from 1; equal scores rank by index.

    So it is the place of the target in a stable sort, best first, as in every list of best items
    (`best_indices`). It works on NumPy and JAX arrays alike.

    Args:
      scores: [N, M].
      target_scores: [N], the score of each row's target.
      targets: [N], its index.

    >>> scores = np.array([[0.0, 2.0, 1.0, 2.0, 1.0]])
    >>> [int(rank_by_score(scores, scores[:, i], np.array([i]))[0]) for i in range(5)]
    [5, 1, 3, 2, 4]
    """
    is_first = np.arange(scores.shape[-1]) < targets[:, None]
    is_better = (scores > target_scores[:, None]) | ((scores == target_scores[:, None]) & is_first)
    return 1 + is_better.sum(axis=-1)


def target_ranks(
    targets: Sequence[Hashable], ranked: Sequence[Hashable]
) -> Float[np.ndarray, " targets"]:
    """Rank of each target in a list of distinct items, best first; inf where it is absent.

    >>> target_ranks("AC", "BA").tolist()
    [2.0, inf]
    """
    place = {item: float(rank) for rank, item in enumerate(ranked, start=1)}
    return np.array([place.get(target, math.inf) for target in targets], dtype=np.float64)


def hits_at_k(ranks: Num[np.ndarray, " targets"], k: Number) -> Bool[np.ndarray, " targets"]:
    """1[rank ≤ k] of each target. The mean is Recall@k, which CRSLab calls HIT@k.

    >>> ranks = np.array([1, 12, 80])
    >>> [round(float(hits_at_k(ranks, k).mean()), 3) for k in (1, 10, 50)]
    [0.333, 0.333, 0.667]

    Raises:
      ValueError: a rank is below 1.

    Source: KBRD's, KGSF's and CRSLab's public code agree.
    """
    if ranks.size and not ranks.min() >= 1:
        raise ValueError(f"ranks: expected 1 for the best item and upwards, got {ranks.min()}")
    return ranks <= k


def recall_at_k(ranks: Num[np.ndarray, " targets"], k: int) -> float:
    """Recall@k = the mean of 1[rank ≤ k] over targets; nan without any.

    >>> recall_at_k(np.array([1, 12, 80]), 50)
    0.6666666666666666

    Source: as `hits_at_k`; the paper's Table 1 prints it at 1, 10 and 50.
    """
    return _mean(hits_at_k(ranks, k).astype(np.float64))


def reciprocal_ranks(
    ranks: Num[np.ndarray, " targets"], k: Number = math.inf
) -> Float[np.ndarray, " targets"]:
    """1 / rank of each target, 0 beyond the cut-off k. The mean is MRR@k.

    >>> reciprocal_ranks(np.array([1, 4, 80]), k=50).tolist()
    [1.0, 0.25, 0.0]

    Source: CRSLab's `MRRMetric`, with the same cut-offs.
    """
    return np.where(hits_at_k(ranks, k), 1.0 / ranks, 0.0)


def discounted_gains(
    ranks: Num[np.ndarray, " targets"], k: Number = math.inf
) -> Float[np.ndarray, " targets"]:
    """1 / log2(1 + rank) of each target, 0 beyond k: the term of NDCG@k, whose ideal is 1.

    >>> discounted_gains(np.array([1, 3, 80]), k=50).tolist()
    [1.0, 0.5, 0.0]

    Source: CRSLab's `NDCGMetric`, with the same cut-offs.
    """
    return np.where(hits_at_k(ranks, k), 1.0 / np.log2(1.0 + ranks), 0.0)


def mrr(ranks: Num[np.ndarray, " targets"], k: Number = math.inf) -> float:
    """MRR@k = the mean of 1[rank ≤ k] / rank over targets; nan without any.

    >>> round(mrr(np.array([1, 12, 80]), 50), 3)
    0.361

    Source: Voorhees, 1999 (TREC-8); cut off as in CRSLab.
    """
    return _mean(reciprocal_ranks(ranks, k))


def ndcg(ranks: Num[np.ndarray, " targets"], k: Number = math.inf) -> float:
    """NDCG@k = the mean of 1[rank ≤ k] / log2(1 + rank) over targets; nan without any.

    >>> round(ndcg(np.array([1, 12, 80]), 50), 3)
    0.423

    Source: Järvelin and Kekäläinen, 2002; one relevant item a target, cut off as in CRSLab.
    """
    return _mean(discounted_gains(ranks, k))


def _mean(values: Float[np.ndarray, " values"]) -> float:
    return float(values.mean()) if values.size else math.nan
