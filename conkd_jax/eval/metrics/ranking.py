"""Recall@k, MRR and NDCG of a recommendation module, from the ranks of its targets.

A rank counts from 1; a target that is nowhere in a list has rank inf. Repeated mentions are targets
each, as in KBRD, KGSF and CRSLab. Nothing here knows how a ranking was made.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from conkd_jax.eval.metrics.items import Number


def target_ranks(
    targets: Sequence[Hashable], ranked: Sequence[Hashable]
) -> Float[np.ndarray, " targets"]:
    """Rank of each target in a list of different items, best first; inf where it is not in it.

    >>> target_ranks("AC", "BA").tolist()
    [2.0, inf]
    """
    place = {item: float(rank) for rank, item in enumerate(ranked, start=1)}
    return np.array([place.get(target, math.inf) for target in targets], dtype=np.float64)


def hits_at_k(ranks: Num[np.ndarray, " targets"], k: Number) -> Bool[np.ndarray, " targets"]:
    """1[rank ≤ k] of each target. Its mean is Recall@k, which CRSLab calls HIT@k.

    >>> ranks = np.array([1, 12, 80])
    >>> [round(float(hits_at_k(ranks, k).mean()), 3) for k in (1, 10, 50)]
    [0.333, 0.333, 0.667]

    Raises:
      ValueError: if a rank is below 1.

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
    """1 / rank of each target, 0 beyond the cut-off k. Its mean is MRR (MRR@k).

    >>> reciprocal_ranks(np.array([1, 4, 80]), k=50).tolist()
    [1.0, 0.25, 0.0]

    Source: CRSLab's `MRRMetric`, with the same cut-offs.
    """
    return np.where(hits_at_k(ranks, k), 1.0 / ranks, 0.0)


def discounted_gains(
    ranks: Num[np.ndarray, " targets"], k: Number = math.inf
) -> Float[np.ndarray, " targets"]:
    """1 / log2(1 + rank) of each target, 0 beyond k: NDCG's term, whose ideal is 1 for one target.

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


def recall_by_depth(
    ranks: Num[np.ndarray, " targets"],
    turns: Int[np.ndarray, " targets"],
    k: int,
    depths: Sequence[tuple[int, Number]],
) -> dict[str, tuple[float, int]]:
    """Recall@k apart for early and late turns.

    Args:
      ranks: rank of each target.
      turns: merged-turn index of the response that holds it.
      k: the cut-off.
      depths: inclusive ranges of turns, (first, last); last may be inf.

    Returns:
      For each range, named as `depth_name` names it, recall and number of targets.

    >>> recall_by_depth(np.array([1, 2, 9]), np.array([1, 2, 7]), 1, [(1, 2), (3, math.inf)])
    {'1-2': (0.5, 2), '3+': (0.0, 1)}

    Source: ours; no published code splits recall by the depth of a dialogue.
    """
    parts = {}
    for first, last in depths:
        inside = ranks[(turns >= first) & (turns <= last)]
        parts[depth_name(first, last)] = (recall_at_k(inside, k), inside.size)
    return parts


def depth_name(first: int, last: Number) -> str:
    """ "1-2" for an inclusive range of turns, "9+" for an open one."""
    return f"{first}+" if math.isinf(last) else f"{first}-{int(last)}"


def _mean(values: Float[np.ndarray, " values"]) -> float:
    return float(values.mean()) if values.size else math.nan
