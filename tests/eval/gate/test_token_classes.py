"""λ by kind of token, against loops that a reader can check."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.eval.gate.token_classes import (
    CLASSES,
    gate_statistics,
    lambda_means,
    mass_by_class,
    token_classes,
)
from conkd_jax.eval.scoring import TokenScores

# words 0 to 5, then two items; 0 ends a response
TEXTS = ["", " try", "!", " ", " é", "@ 7"]
END, TRY, COMMA, SPACE, E, SEVEN, A, B = range(8)

# --- the mean and the histogram ----------------------------------------------------------------


def test_gate_statistics():
    mass = np.array([0.0, 0.1, 0.5, 0.9, 1.0], np.float32)
    is_item = np.array([False, False, True, True, False])
    found = gate_statistics(mass, is_item, bins=2)
    assert found["lambda_r"] == pytest.approx(0.7)
    assert found["lambda_v"] == pytest.approx(1.1 / 3)
    assert (found["num_item_steps"], found["num_word_steps"]) == (2, 3)
    assert found["bin_edges"] == [0, 0.5, 1]
    assert (found["item_steps"], found["word_steps"]) == ([0, 2], [2, 1])


def test_gate_statistics_without_item_steps_and_past_one():
    found = gate_statistics(np.array([1.0000001], np.float32), np.array([False]))
    assert np.isnan(found["lambda_r"])
    assert found["lambda_v"] == 1
    assert sum(found["word_steps"]) == 1


# --- kinds of tokens ---------------------------------------------------------------------------


def classes_of(tokens, response_index=None) -> list[str]:
    index = np.zeros(len(tokens), int) if response_index is None else np.array(response_index, int)
    found = token_classes(np.array(tokens, int), index, TEXTS, end_id=END)
    return [CLASSES[c] for c in found]


def test_kinds_of_tokens():
    assert classes_of([TRY, E, A, COMMA, B, SPACE, SEVEN, END]) == [
        "word",
        "before item",
        "item",
        "punctuation",  # before an item too, but a comma is no word
        "item",
        "punctuation",
        "word",
        "end",
    ]


def test_the_next_response_s_item_is_not_next():
    assert classes_of([TRY, A], [0, 1]) == ["word", "item"]
    assert classes_of([TRY, A], [1, 1]) == ["before item", "item"]
    assert classes_of([]) == []


steps = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 1)), max_size=30)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_kinds_against_a_loop(found):
    tokens = [token for token, _ in found]
    index = np.cumsum([new for _, new in found], dtype=int).tolist()
    wanted = []
    for t, token in enumerate(tokens):
        follows = t + 1 < len(tokens) and index[t + 1] == index[t] and tokens[t + 1] in (A, B)
        if token in (A, B):
            wanted.append("item")
        elif token == END:
            wanted.append("end")
        elif not any(c.isalnum() for c in TEXTS[token]):
            wanted.append("punctuation")
        else:
            wanted.append("before item" if follows else "word")
    assert classes_of(tokens, index) == wanted


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.integers(0, 7)), min_size=1, max_size=40))
def test_the_paper_s_means_come_back_from_the_classes(found):
    mass = np.array([value for value, _ in found], np.float32)
    tokens = np.array([token for _, token in found])
    index = np.zeros(len(tokens), int)
    by_class = mass_by_class(mass, token_classes(tokens, index, TEXTS, end_id=END))
    assert sum(summary.count for summary in by_class.values()) == len(tokens)
    assert all(summary.count for summary in by_class.values())
    is_item = tokens >= A
    scores = TokenScores(index, np.zeros_like(mass), mass, is_item, np.zeros(len(mass), int))
    means = lambda_means(by_class)
    assert set(means) == {
        name for name, has in (("lambda_r", is_item.any()), ("lambda_v", ~is_item.all())) if has
    }
    for name, value in means.items():
        assert value == pytest.approx(scores.summary()[name], abs=1e-6)


def test_percentiles_of_a_class():
    mass = np.linspace(0, 1, 101)
    found = mass_by_class(mass, np.full(101, CLASSES.index("end")))
    assert found["end"].percentiles == pytest.approx((0.05, 0.25, 0.5, 0.75, 0.95))
    assert (found["end"].count, found["end"].mean) == (101, pytest.approx(0.5))
