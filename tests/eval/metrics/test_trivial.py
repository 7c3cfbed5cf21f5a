"""Trivial systems by hand and against simulation."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.eval.metrics.items_in_responses import ItemResponse
from conkd_jax.eval.metrics.trivial import (
    chance_of_meeting,
    expected_capped_hits,
    expected_hits,
    repeat_list,
)
from conkd_jax.eval.metrics.two_hop import two_hop_response
from tests.eval.predicted import A, B, C, D, E, M, metrics_of, prediction, statistics_of

CATALOGUE = {A: 5, B: 9, C: 9, D: 0, E: 1, M: 2}  # B, C, A, M, E, D by popularity
FACTS = {"num_items": len(CATALOGUE), "popularity": CATALOGUE}


def scored(run, **options) -> dict[str, float]:
    return metrics_of(run, **({"ks": (1, 2, 5)} | FACTS | options))


# --- lists -----------------------------------------------------------------------------------


def test_gold_items_are_ranked_by_popularity_and_by_repetition():
    run = [
        prediction(1, (B, C), mentioned_items=()),
        prediction(3, (A, M), mentioned_items=(M, A), reference_items_out_of_vocabulary=(99,)),
    ]
    values = scored(run)
    assert values["recall@1_popularity"] == 1 / 5  # B before C, which is as popular
    assert values["recall@2_popularity"] == 2 / 5
    assert values["recall@1_repeat"] == 2 / 5  # B, and A, which was mentioned last
    assert values["recall@2_repeat"] == 4 / 5  # nothing ranks 99
    assert values["recall@2_chance"] == pytest.approx(4 * (2 / 6) / 5)


def test_rules_stand_at_the_item_steps_of_the_system():
    run = [
        prediction(1, (B,), [(D, E)], dialogue="1"),  # popularity has it first
        prediction(1, (C, B), [(D, E)], dialogue="2"),  # two gold items, one step
        prediction(1, (B,), dialogue="3"),  # the system names nothing here
        prediction(1, (), [(D, E), (E, D)], dialogue="4"),
    ]
    values = scored(run)
    assert values["rer@1_popularity"] == 2 / 4
    assert values["prr@1_popularity"] == 2 / 4
    assert values["f1@1_popularity"] == 4 / 8
    assert values["f1@1"] == 0
    assert values["rer@1_repeat"] == values["rer@1_popularity"]  # nothing was mentioned
    # One step: 1/6 for one gold item, 2/6 for two.
    assert values["rer@1_chance"] == pytest.approx((1 / 6 + 2 / 6) / 4)


def test_a_system_that_is_popularity_scores_like_it():
    by_popularity = (B, C, A, M, E, D)
    run = [
        prediction(turn, gold, [by_popularity] * steps, mentioned_items=())
        for turn, (gold, steps) in enumerate([((A, A), 1), ((B, C, D), 2), ((), 1), ((E,), 3)])
    ]
    values = scored(run)
    for name, k in itertools.product(("rer", "prr", "f1"), (1, 2, 5)):
        assert values[f"{name}@{k}_popularity"] == values[f"{name}@{k}"]
        assert values[f"{name}@{k}_novel_popularity"] == values[f"{name}@{k}_novel"]


def test_repetition_counts_the_mentioned_items_of_both_sides():
    run = [prediction(1, (A, A, B), [(A,), (C,)], mentioned_items=(M, A))]
    values = metrics_of(run)
    assert values["repeated_items"] == 1 / 2
    assert values["repeated_gold_items"] == 2 / 3


def test_novel_rules_leave_out_what_was_mentioned():
    # The step that names A is left out, and so is the gold item A; B and C are left of the list.
    one = prediction(1, (A, C), [(A, D), (D, A)], mentioned_items=(B, A))
    values = scored([one])
    assert values["rer@1_novel_popularity"] == 1  # C is the most popular of the others
    assert values["prr@1_novel_popularity"] == 1
    assert values["rer@1_novel_chance"] == pytest.approx(1 / 4)  # one of C, D, E, M
    assert values["rer@1_repeat"] == 1 / 2  # A, at both steps


def test_two_hop_rules_meet_the_two_hop_set():
    neighbours = {M: frozenset({B, D})}
    one = prediction(1, (A,), [(E, A), (E, C)], mentioned_items=(M,))
    values = scored([one], neighbours=neighbours)
    assert values["rer@1_2hop"] == 0
    assert values["rer@1_2hop_popularity"] == 1  # B
    assert values["prr@1_2hop_popularity"] == 1 / 2  # capped at one gold item
    assert values["rer@1_2hop_chance"] == pytest.approx(1 - (1 / 2) ** 2)  # A, B, D of six


def test_trivial_systems_need_the_catalogue_and_the_history():
    one = prediction(1, (A,), [(A, B)], mentioned_items=None)
    found = {name for name in statistics_of([one], **FACTS).names if name.endswith("_repeat")}
    assert not found
    assert "f1@1_popularity" in scored([one])
    assert "f1@1_popularity" not in scored([one], num_items=None)
    assert "f1@1_chance" not in scored([one], popularity=None)


def test_short_lists_of_a_system_do_not_cut_the_rules():
    values = scored([prediction(1, (A,), [(D,)], recommender_top=(D,))])
    assert "f1@5" not in values and "recall@5" not in values
    assert values["f1@5_popularity"] == values["recall@5_popularity"] == 1


def test_the_most_recent_mention_comes_first():
    assert repeat_list([M, A], [B, C, A], length=3) == (A, M, B)
    assert repeat_list([], [B, C], length=50) == (B, C)


# --- chance ----------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(0, 12), st.integers(1, 12))
def test_the_chance_of_meeting_is_that_of_all_lists(num_items, num_wanted, k):
    lists = list(itertools.combinations(range(num_items), min(k, num_items)))
    met = sum(any(item < num_wanted for item in drawn) for drawn in lists) / len(lists)
    assert chance_of_meeting(num_wanted, k, num_items) == pytest.approx(met)


def simulated(score, num_steps, k, num_items, draws=20_000, seed=0) -> float:
    """The mean of `score` over random lists of k items at every step."""
    rng = np.random.default_rng(seed)
    order = rng.random((draws, num_steps, num_items)).argsort(-1)[..., :k].tolist()
    return float(np.mean([score(tops) for tops in order]))


@pytest.mark.parametrize(
    ("gold", "num_steps", "k", "num_items"),
    [
        ([0], 1, 3, 12),
        ([0, 1, 2], 2, 3, 12),
        ([0, 0, 1], 3, 4, 12),  # a gold item that the response names twice
        ([0, 0, 0, 1, 1, 2], 4, 5, 10),
        ([0, 1], 5, 1, 4),
        ([0, 1], 3, 12, 12),  # the whole catalogue
    ],
)
def test_expected_hits_are_those_of_many_random_lists(gold, num_steps, k, num_items):
    def hits(tops):
        return ItemResponse.of(gold, tops).hits(k)

    expected = expected_hits(gold, num_steps, k, num_items)
    assert simulated(hits, num_steps, k, num_items) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(("num_gold", "num_steps", "k"), [(1, 3, 2), (2, 2, 4), (3, 5, 1)])
def test_expected_two_hop_hits_are_those_of_many_random_lists(num_gold, num_steps, k):
    gold, near, num_items = list(range(num_gold)), {5, 6, 7}, 15

    def hits(tops):
        return two_hop_response(gold, tops, {9}, {9: near}).hits(k)

    meets = chance_of_meeting(num_gold + len(near), k, num_items)
    expected = expected_capped_hits(num_gold, num_steps, meets)
    assert simulated(hits, num_steps, k, num_items) == pytest.approx(expected, abs=0.03)


def test_responses_without_gold_items_or_steps_have_no_hits():
    assert expected_hits([], 3, 5, 10) == expected_hits([A], 0, 5, 10) == 0
    assert expected_capped_hits(0, 3, 0.5) == expected_capped_hits(2, 0, 0.5) == 0
