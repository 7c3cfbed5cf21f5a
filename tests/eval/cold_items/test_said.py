"""Cold items in responses, on a response small enough to count."""

import pytest

from conkd_jax.eval.cold_items.said import said
from tests.eval.predicted import A, B, C, D, prediction


def test_what_is_named_and_what_of_it_is_right():
    responses = [
        prediction(1, gold=(A, B), tops=[(A, C, D), (A, B, C)]),  # A is right once
        prediction(2, gold=(C,), tops=[(C, A, D)]),
        prediction(3, gold=(), tops=[(D, C, B)]),
        prediction(4, gold=(D,), reference_items=(), reference_items_out_of_vocabulary=(D,)),
    ]
    found = said(responses, cold={A, D})
    counts = {name: value for name, value in found.items() if not name.startswith("top@")}
    assert counts == {
        "named": 4,
        "named_cold": 3,
        "distinct": 3,
        "distinct_cold": 2,
        "right": 2,
        "right_cold": 1,
        "gold": 4,
        "gold_cold": 2,
    }
    assert found["top@1"] == 3 / 4
    assert found["top@10"] == pytest.approx(6 / 12)


def test_without_steps_there_are_no_shares_of_lists():
    assert not any(name.startswith("top@") for name in said([prediction(1, gold=(A,))], {A}))
