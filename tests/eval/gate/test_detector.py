"""The gate as a detector of item steps, against loops that a reader can check."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.eval.gate.detector import Detection, detector_curve, fit_eta

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
