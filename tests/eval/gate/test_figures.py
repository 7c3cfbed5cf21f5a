"""The gate in pictures: every number that is drawn is the one that was given."""

import numpy as np
import pytest

from conkd_jax.eval.figures.palette import VERMILION
from conkd_jax.eval.gate.detector import detector_curve
from conkd_jax.eval.gate.figures import (
    LEAST_MASS,
    draw_detector_curves,
    draw_gate_histograms,
    draw_gate_traces,
    draw_token_class_boxes,
)
from conkd_jax.eval.gate.token_classes import ITEM, WORD, mass_by_class
from conkd_jax.eval.gate.traces import GateTrace
from tests.eval.drawn_figures import assert_is_picture, texts

# Appendix C's example: after this prompt, an item, a word and another word are all right.
TRACES = [
    GateTrace("an item", ["recommend", "Titanic"], [0.02, 0.653], [False, True]),
    GateTrace("a word", ["recommend", "you", "Titanic"], [0.02, 0.1, 0.9], [False, False, True]),
]


def test_traces_mark_items_and_threshold(tmp_path, drawn):
    path = tmp_path / "gate.png"
    draw_gate_traces(TRACES, path, eta=0.6, title="λ")
    assert_is_picture(path)
    assert len(drawn[0].axes) == 2
    found = texts(drawn[0])
    assert "0.65" in found
    assert "0.90" in found
    assert "0.10" not in found  # a word that is hardly likely an item carries no number
    assert found.count("η = .600") == 2
    first = drawn[0].axes[0]
    assert first.get_ylim()[1] > 1
    colors = [label.get_color() for label in first.get_xticklabels()]
    assert colors[0] != colors[1] == VERMILION


def test_a_trace_of_unequal_lengths_is_refused():
    with pytest.raises(ValueError, match="got 2, 1 and 2"):
        GateTrace("x", ["a", "b"], [0.1], [False, True])
    with pytest.raises(ValueError, match="at least one response"):
        draw_gate_traces([], "unused.png")


def test_texts_with_emoji_mathematics_and_control_characters_are_drawn(tmp_path, drawn):
    tokens = ["$x_1^2$", "\U0001f9d1\u200d", "\n", "_", "映画", "\ud83d", "a" * 200]
    trace = GateTrace("$ \\frac 🎬", tokens, [0.5] * 7, [True] * 7)
    draw_gate_traces([trace], tmp_path / "odd.png", title="100 % of $")
    assert_is_picture(tmp_path / "odd.png")
    labels = [label.get_text() for label in drawn[0].axes[0].get_xticklabels()]
    assert labels[0] == "$x_1^2$"
    assert labels[4] == "□□"
    assert len(labels[6]) == 22


def test_gate_histograms_write_means_and_shares(tmp_path, drawn):
    path = tmp_path / "histogram.png"
    items, words = np.array([0.2, 0.6, 0.7, 0.9]), np.full(50, 0.01)
    draw_gate_histograms(items, words, path, eta=0.6)
    assert_is_picture(path)
    found = texts(drawn[0])
    assert "4 item steps, mean λᵣ = 0.600, 75.0% at or above η" in found
    assert "50 word steps, mean λᵥ = 0.010, 0.0% at or above η" in found
    heights = [patch.get_height() for patch in drawn[0].axes[0].patches]
    assert sum(heights) == pytest.approx(100)
    draw_gate_histograms(np.array([]), words, tmp_path / "no_items.png")
    assert "0 item steps" in texts(drawn[1])


def test_the_same_traces_make_the_same_file(tmp_path):
    for name in ("a", "b"):
        draw_gate_traces(TRACES, tmp_path / name, eta=0.6)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_student_stands_beside_the_teacher(tmp_path, drawn):
    trace = GateTrace("x", ["a", "b"], [0.1, 0.7], [False, True], [0.2, 0.9], "student, [REC]")
    draw_gate_traces([trace], tmp_path / "a.png")
    teacher, student = (marks.get_offsets() for marks in drawn[0].axes[0].collections[1:])
    assert [y for _, y in teacher] == pytest.approx([0.1, 0.7])
    assert [y for _, y in student] == pytest.approx([0.2, 0.9])
    assert "◇ student, [REC]" in texts(drawn[0])
    with pytest.raises(ValueError, match="expected 2 values of the student, got 1"):
        GateTrace("x", ["a", "b"], [0.1, 0.7], [False, True], [0.2])


def test_words_that_fire_carry_their_number(tmp_path, drawn):
    draw_gate_traces([GateTrace("x", ["some"], [0.73], [False])], tmp_path / "a.png")
    assert "0.73" in texts(drawn[0])


MASS = np.array([0.9, 0.8, 0.7, 0.1, 0.1, 0.05])
IS_ITEM = np.array([True, True, False, True, False, False])


def test_curves_are_the_detector_s_own(tmp_path, drawn):
    """At any η the drawn steps read what the gate does there, on a threshold and between two."""
    curve = detector_curve(MASS, IS_ITEM)
    draw_detector_curves(curve, tmp_path / "a.png", eta=0.6)
    assert_is_picture(tmp_path / "a.png")
    lines = {line.get_label(): line for line in drawn[0].axes[0].lines}
    for eta in (0.0, 0.05, 0.07, 0.1, 0.5, 0.7, 0.75, 0.9, 0.95, 1.0):
        found = curve.at(eta)
        wanted = {"recall": found.recall, "F1": found.f1, "steps that fire": found.fired}
        if found.precision is not None:
            wanted["precision"] = found.precision
        for name, value in wanted.items():
            assert lines[name].get_drawstyle() == "steps-pre"
            x, y = lines[name].get_data()
            assert y[np.searchsorted(x, eta)] == pytest.approx(value), (name, eta)
    assert lines["η = .600, F1 .667"].get_xdata()[0] == 0.6
    assert lines["best η = .750, F1 .800"].get_xdata()[0] == pytest.approx(0.75)


def test_curves_of_a_run_without_a_threshold(tmp_path, drawn):
    draw_detector_curves(detector_curve(MASS, IS_ITEM), tmp_path / "a.png")
    labels = [line.get_label() for line in drawn[0].axes[0].lines]
    assert not [label for label in labels if label.startswith("η =")]


def test_boxes_hold_the_quartiles_of_each_class(tmp_path, drawn):
    by_class = mass_by_class(MASS, np.where(IS_ITEM, ITEM, WORD))
    draw_token_class_boxes(by_class, tmp_path / "a.png", eta=0.6)
    assert_is_picture(tmp_path / "a.png")
    ax = drawn[0].axes[0]
    for box, summary in zip(ax.patches, by_class.values(), strict=True):
        x = box.get_path().vertices[:, 0]
        assert (x.min(), x.max()) == pytest.approx((summary.percentiles[1], summary.percentiles[3]))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["item\n3", "word\n3"]
    assert "mean 0.6\n" in texts(drawn[0]) and "mean 0.28\n" in texts(drawn[0])
    with pytest.raises(ValueError, match="at least one class"):
        draw_token_class_boxes({}, tmp_path / "b.png")


def test_a_class_that_is_never_likely_has_a_box(tmp_path, drawn):
    draw_token_class_boxes(mass_by_class(np.zeros(3), np.full(3, WORD)), tmp_path / "a.png")
    (box,) = drawn[0].axes[0].patches
    assert box.get_path().vertices[:, 0].min() == LEAST_MASS
