"""Recall, MRR and NDCG of ranks, against numbers worked out by hand."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conkd_jax.eval.metrics import ranking

ROOT = Path(__file__).parents[3]
SOME_SCORES = (0.0, -0.0, 1.0, -1.0, 2.5, math.inf, -math.inf, math.nan)


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
    order = ranking.best_indices(scores, 4)
    for target in range(4):
        targets = np.full(len(rows), target)
        ranks = ranking.rank_by_score(scores, scores[:, target], targets)
        listed = [ranking.target_ranks([target], best.tolist())[0] for best in order]
        assert ranks.tolist() == listed


@given(st.data())
def test_best_indices_are_the_first_of_a_stable_sort(data):
    """With equal scores, both zeros, infinities and nan, in every type that scores have."""
    num_items, k = data.draw(st.integers(0, 40)), data.draw(st.integers(0, 14))
    dtype = data.draw(st.sampled_from([np.float16, np.float32, np.float64, np.int32]))
    values = (-3, 0, 0, 1, 7) if dtype is np.int32 else SOME_SCORES
    row = st.lists(st.sampled_from(values), min_size=num_items, max_size=num_items)
    rows = data.draw(st.lists(row, max_size=4))
    scores = np.array(rows, dtype).reshape(len(rows), num_items)
    best = ranking.best_indices(scores, k)
    np.testing.assert_array_equal(best, np.argsort(-scores, axis=1, kind="stable")[:, :k])
    assert best.dtype == np.int64


def test_best_indices_of_a_large_catalogue():
    scores = np.random.default_rng(0).normal(size=(3, 50_000)).astype(np.float32).round(2)
    best = ranking.best_indices(scores, 50)
    assert len(np.unique(np.take_along_axis(scores, best, 1))) < 3 * 50  # some are equal
    np.testing.assert_array_equal(best, np.argsort(-scores, axis=1, kind="stable")[:, :50])


def test_fewer_rows_of_a_large_catalogue_are_held_at_once():
    sizes = [ranking.rows_at_a_time(n, most=512) for n in (0, 10_000, 10**6, 10**12)]
    assert sizes == [512, 512, 67, 1]


def test_nothing_sorts_a_whole_catalogue():
    """Lists of best items come from `best_indices` or `jax.lax.top_k`."""
    full_sort = re.compile(r"argsort\(\s*-|argsort\(.*\)\[::-1\]")
    sources = (ROOT / "conkd_jax").rglob("*.py")
    found = {s.name for s in sources if full_sort.search(s.read_text(encoding="utf-8"))}
    assert found == {"ranking.py", "steps.py"}  # in docstrings
