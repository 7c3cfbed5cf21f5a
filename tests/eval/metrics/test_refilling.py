"""Refilling: the recommender's items stand where items stood, and nothing else has changed."""

import pytest
from msgspec.structs import replace

from conkd_jax.eval.metrics import refilling
from conkd_jax.eval.predictions import from_record, to_record
from tests.eval.predicted import A, B, C, D, E, metrics_of, prediction

SPOKEN = prediction(
    gold=(C,), tops=[(A, B), (B, C)], generated=f"see @{A} , not @ {D} , or @{B}!",
    recommender_top=(E, C, D),
)  # fmt: skip


def test_every_slot_gets_the_first_item():
    refilled = refilling.refill(SPOKEN)
    assert refilled.generated == f"see @{E} , not @ {D} , or @{E}!"  # @ D was spelt, not emitted
    assert refilled.generated_items == (E, E)
    assert [step.step for step in refilled.item_steps] == [0, 1]
    assert all(step.top == (E, C, D) for step in refilled.item_steps)


def test_slots_get_the_items_in_order():
    refilled = refilling.refill(SPOKEN, "in_order")
    assert refilled.generated == f"see @{E} , not @ {D} , or @{C}!"
    assert [step.top for step in refilled.item_steps] == [(E, C, D), (C, D, E)]


def test_it_is_a_prediction_like_any_other_and_the_reference_is_its_own():
    refilled = refilling.refill(SPOKEN, "in_order")
    assert from_record(to_record(refilled)) == refilled
    for field in ("reference", "reference_items", "recommender_top", "token_nll", "turn"):
        assert getattr(refilled, field) == getattr(SPOKEN, field)


@pytest.mark.parametrize("rule", refilling.RULES)
def test_metrics_with_a_suffix_are_those_of_refilled_responses(rule):
    """Two ways to one number: views of the spoken responses, and the refilled ones scored."""
    run = [
        SPOKEN,
        prediction(3, gold=(E,), tops=[(A,)], recommender_top=(C, E)),  # a short list of its own
        prediction(5, recommender_top=(A, B)),
    ]
    ks = (1, 2)
    spoken = metrics_of(run, ks=ks)
    refilled = metrics_of([refilling.refill(one, rule) for one in run], ks=ks)
    for name in ("rer", "prr", "f1"):
        for k in ks:
            assert spoken[f"{name}@{k}{refilling.SUFFIXES[rule]}"] == refilled[f"{name}@{k}"]
    assert refilled["mismatch"] < spoken["mismatch"] == 1
    assert "rer@2" not in spoken and spoken["rec_ratio"] == refilled["rec_ratio"] == 2 / 3


def test_more_slots_than_items_go_round():
    assert refilling.slot_rankings([A, B], 3, "in_order") == [(A, B), (B, A), (A, B)]


def test_a_turn_without_slots_stays():
    one = prediction(recommender_top=(A, B))
    assert refilling.refill(one) == one


def test_a_turn_without_recommendations_does_not_keep_its_own_items():
    with pytest.raises(ValueError, match="at least one item in recommender_top for its 2 item"):
        refilling.refill(replace(SPOKEN, recommender_top=()))


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="'d', 1.*item_steps and recommender_top"):
        refilling.refill(replace(SPOKEN, recommender_top=None))
    with pytest.raises(ValueError, match="first, in_order"):
        refilling.refill(SPOKEN, "best")
