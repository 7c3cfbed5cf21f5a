"""Recall, MRR and NDCG of ranks, against numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conkd_jax.eval.metrics import ranking


def test_recall_mrr_and_ndcg_of_ranks():
    ranks = np.array([1, 12, 80])
    recalls = [ranking.recall_at_k(ranks, k) for k in (1, 10, 50)]
    assert recalls == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert ranking.mrr(ranks) == pytest.approx((1 + 1 / 12 + 1 / 80) / 3)
    assert ranking.mrr(ranks, 50) == pytest.approx((1 + 1 / 12) / 3)
    assert ranking.ndcg(ranks, 50) == pytest.approx((1 + 1 / math.log2(13)) / 3)
    assert math.isnan(ranking.recall_at_k(np.array([], dtype=float), 1))
    with pytest.raises(ValueError, match="expected 1 for the best item"):
        ranking.recall_at_k(np.array([0, 3]), 1)


@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=5))
def test_a_rank_by_score_is_the_place_in_the_list_of_best_items(rows):
    scores = np.array(rows, dtype=np.float64)
    order = np.argsort(-scores, axis=1, kind="stable")  # as every list of best items is sorted
    for target in range(4):
        targets = np.full(len(rows), target)
        ranks = ranking.rank_by_score(scores, scores[:, target], targets)
        listed = [ranking.target_ranks([target], best.tolist())[0] for best in order]
        assert ranks.tolist() == listed
