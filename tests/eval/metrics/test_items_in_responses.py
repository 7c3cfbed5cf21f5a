"""Items against items: bounds, growth and symmetries of the matching that every ReR rests on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.eval.metrics import items_in_responses
from conkd_jax.eval.metrics.items_in_responses import ItemResponse, f1, prr, rer
from conkd_jax.eval.metrics.pairs import divide_pairs

A, B = 10, 11

tops_of_steps = st.lists(st.permutations(range(8)).map(lambda p: p[:5]), max_size=4)
golds = st.lists(st.integers(0, 9), max_size=5)
responses = st.lists(st.tuples(golds, tops_of_steps), min_size=1, max_size=6)


def test_one_to_one_is_multiset_overlap_at_one_and_pairs_counts_repeats():
    response = ItemResponse.of([A, A, B], [[A], [A], [A]])
    assert response.hits(1) == 2
    assert response.hits(1, "pairs") == 6


def test_a_step_takes_its_best_ranked_free_gold_item():
    # The first step takes B (rank 1); A stays free for the second.
    assert ItemResponse.of([A, B], [[B, A], [A]]).hits(2) == 2
    # Both steps only know A.
    assert ItemResponse.of([A, B], [[A], [A]]).hits(1) == 1


@settings(deadline=None)
@given(golds, tops_of_steps)
def test_one_to_one_is_bounded_and_never_above_pairs(gold, tops):
    response = ItemResponse.of(gold, tops)
    for k in (1, 2, 5):
        assert 0 <= response.hits(k) <= min(len(gold), len(tops))
        assert response.hits(k) <= response.hits(k, "pairs")


@settings(deadline=None)
@given(golds, tops_of_steps)
def test_hits_grow_with_k(gold, tops):
    response = ItemResponse.of(gold, tops)
    for match in items_in_responses.MATCHES:
        hits = [response.hits(k, match) for k in range(1, 6)]
        assert hits == sorted(hits)


@settings(deadline=None)
@given(golds, tops_of_steps)
def test_one_to_one_at_one_is_multiset_overlap(gold, tops):
    firsts = [top[0] for top in tops]
    overlap = sum(min(gold.count(item), firsts.count(item)) for item in set(gold))
    assert ItemResponse.of(gold, tops).hits(1) == overlap


@settings(deadline=None)
@given(golds, tops_of_steps, st.randoms())
def test_the_order_of_gold_items_does_not_matter(gold, tops, random):
    shuffled = random.sample(gold, len(gold))
    assert ItemResponse.of(gold, tops).hits(3) == ItemResponse.of(shuffled, tops).hits(3)


@settings(deadline=None)
@given(responses)
def test_f1_is_the_harmonic_mean_of_recall_and_precision(cases):
    run = [ItemResponse.of(gold, tops) for gold, tops in cases]
    pairs = np.array([[rer(r, 3), prr(r, 3), f1(r, 3)] for r in run], float).sum(0)  # [metrics, 2]
    recall, precision, found = divide_pairs(("rer@3", "prr@3", "f1@3"), *pairs.T).tolist()
    harmonic = 2 * recall * precision / (recall + precision) if recall + precision else 0.0
    assert found == pytest.approx(harmonic)


@pytest.mark.parametrize(("k", "match"), [(0, "one_to_one"), (1, "any")])
def test_bad_arguments_are_named(k, match):
    with pytest.raises(ValueError, match="expected"):
        ItemResponse.of([A], [[A]]).hits(k, match)
