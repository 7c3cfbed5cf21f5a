"""λ by kind of token and the gate as a detector, each against a loop that a reader can check."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.eval.gate import report as gate_report
from conkd_jax.eval.gate.validity import (
    CLASSES,
    Detection,
    detector_curve,
    fit_eta,
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


# --- the gate as a detector --------------------------------------------------------------------

detected = st.lists(
    st.tuples(st.floats(0, 1, width=16), st.booleans()), min_size=1, max_size=25
).filter(lambda steps: any(item for _, item in steps))


def arrays(steps) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.array([value for value, _ in steps], np.float32),
        np.array([item for _, item in steps]),
    )


@settings(max_examples=200, deadline=None)
@given(detected)
def test_the_curve_is_what_the_gate_does_at_every_threshold(steps):
    mass, is_item = arrays(steps)
    curve = detector_curve(mass, is_item)
    values = sorted(set(mass.tolist()))
    assert curve.thresholds.tolist() == values
    between = [(a + b) / 2 for a, b in zip(values, values[1:], strict=False)]
    for eta in (0.0, *values, *between, 1.0):
        fires = [value >= eta for value in mass.tolist()]
        hits = sum(f and item for f, item in zip(fires, is_item.tolist(), strict=True))
        found = curve.at(eta)
        assert found.fired == pytest.approx(sum(fires) / len(fires))
        assert found.recall == pytest.approx(hits / is_item.sum())
        assert found.f1 == pytest.approx(2 * hits / (sum(fires) + is_item.sum()))
        if any(fires):
            assert found.precision == pytest.approx(hits / sum(fires))
        else:
            assert found == Detection(eta, None, 0.0, 0.0, 0.0)


@settings(max_examples=200, deadline=None)
@given(detected)
def test_average_precision_against_a_loop(steps):
    """Walks down the thresholds; ties are taken together, so that their order can't matter."""
    total, before = 0.0, 0.0
    items = sum(item for _, item in steps)
    for eta in sorted({value for value, _ in steps}, reverse=True):
        fired = [item for value, item in steps if value >= eta]
        recall = sum(fired) / items
        total += (recall - before) * sum(fired) / len(fired)
        before = recall
    assert detector_curve(*arrays(steps)).average_precision == pytest.approx(total)


@settings(max_examples=100, deadline=None)
@given(detected, st.randoms(use_true_random=False))
def test_the_order_of_steps_changes_nothing(steps, random):
    one = detector_curve(*arrays(steps))
    random.shuffle(steps)
    other = detector_curve(*arrays(steps))
    for name in ("thresholds", "hits", "fired"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.best_eta() == other.best_eta()


@settings(max_examples=100, deadline=None)
@given(detected)
def test_average_precision_asks_for_the_order_of_steps_alone(steps):
    mass, is_item = arrays(steps)
    smaller = mass.astype(np.float64) ** 2 / 3  # a less sure teacher that orders steps alike
    found = detector_curve(smaller, is_item).average_precision
    assert found == pytest.approx(detector_curve(mass, is_item).average_precision)


def test_the_example_of_the_page():
    """docs/metrics.md: an item at .9, a word at .8, an item at .1."""
    curve = detector_curve(np.array([0.9, 0.8, 0.1]), np.array([True, False, True]))
    assert curve.at(0.8) == Detection(0.8, 1 / 2, 1 / 2, 1 / 2, 2 / 3)
    assert curve.average_precision == pytest.approx(5 / 6)
    assert curve.best_eta() == pytest.approx(0.05)
    assert curve.at(0.05).f1 == pytest.approx(4 / 5)


def test_average_precision_of_knowing_all_and_nothing():
    is_item = np.array([True, False, False, True])
    assert detector_curve(np.where(is_item, 0.3, 0.2), is_item).average_precision == 1
    blind = detector_curve(np.full(4, 0.3), is_item)
    assert blind.average_precision == blind.base_rate == 0.5


def test_a_mass_past_one_by_an_ulp_still_fires_at_one():
    mass = np.array([1.0000001, 0.5], np.float32)
    assert detector_curve(mass, np.array([True, False])).at(1.0).recall == 1


def test_no_item_step_is_refused():
    with pytest.raises(ValueError, match="at least one item step"):
        detector_curve(np.array([0.5]), np.array([False]))


# --- the fitted threshold ----------------------------------------------------------------------


def f1_at(eta, mass, is_item) -> float:
    fires = mass >= eta
    return 2 * (fires & is_item).sum() / max(fires.sum() + is_item.sum(), 1)


def test_eta_lies_in_the_middle_between_words_and_items():
    mass = np.array([0.1, 0.2, 0.6, 0.9], np.float32)
    is_item = np.array([False, False, True, True])
    assert fit_eta(mass, is_item) == pytest.approx(0.4)
    assert fit_eta(mass, np.ones(4, bool)) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="at least one item step"):
        fit_eta(mass, np.zeros(4, bool))


@settings(max_examples=200, deadline=None)
@given(detected)
def test_no_other_eta_finds_item_steps_better(steps):
    mass, is_item = arrays(steps)
    eta = fit_eta(mass, is_item)
    assert 0 <= eta <= 1
    tried = [0.0, 1.0, *mass.tolist(), *np.linspace(0, 1, 101)]
    best = max(f1_at(value, mass, is_item) for value in tried)
    assert f1_at(eta, mass, is_item) == pytest.approx(best)


# --- what is told ------------------------------------------------------------------------------


def told(eta):
    mass = np.array([0.9, 0.5, 0.2, 0.1], np.float32)
    tokens = np.array([A, B, TRY, END])
    classes = token_classes(tokens, np.zeros(4, int), TEXTS, end_id=END)
    return mass_by_class(mass, classes), detector_curve(mass, tokens >= A), eta


def test_the_document_is_plain_and_whole():
    by_class, curve, eta = told(0.3)
    document = gate_report.document(by_class, by_class, curve, eta)
    assert json.loads(json.dumps(document, allow_nan=False)) == json.loads(json.dumps(document))
    assert document["lambda_r"] == document["student_lambda_r"] == pytest.approx(0.7)
    assert document["lambda_v"] == pytest.approx(0.15)
    assert document["detector"]["run"]["f1"] == 1
    assert document["detector"]["paper"] == {
        "eta": 0.6,
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "fired": 0.25,
    }
    assert (document["num_steps"], document["num_item_steps"]) == (4, 2)


def test_a_soft_gate_s_run_has_no_threshold_of_its_own():
    by_class, curve, _ = told(None)
    document = gate_report.document(by_class, {}, curve, None)
    assert set(document["detector"]) == {"best", "paper"}
    assert "student_lambda_r" not in document and document["student_by_class"] == {}
    assert gate_report.detector_table(curve, None).row_count == 2


def test_the_tables_hold_the_paper_s_numbers_and_ours():
    by_class, curve, eta = told(0.95)
    classes = gate_report.class_table(by_class, by_class, "x")
    cells = {column.header: list(column.cells) for column in classes.columns}
    assert cells["gold token"] == ["item (λ_r)", "word", "end", "all but items (λ_v)"]
    assert cells["mean λ"] == cells["student"] == ["0.700", "0.200", "0.100", "0.150"]
    assert cells["paper"] == ["0.653", "–", "–", "0.023"]
    detector = gate_report.detector_table(curve, eta)
    precision = next(list(c.cells) for c in detector.columns if c.header == "precision")
    assert precision == ["–", "1.000", "1.000"]  # nothing is as sure as .95
