"""The gate analysis as a document and as tables."""

import json

import numpy as np
import pytest

from conkd_jax.eval.gate.detector import detector_curve
from conkd_jax.eval.gate.report import (
    Thresholds,
    detector_table,
    gate_document,
    token_class_table,
)
from conkd_jax.eval.gate.token_classes import mass_by_class, token_classes

TEXTS = ["", " try"]  # two words, then two items; 0 ends a response
END, TRY, A, B = range(4)


def analysis(eta):
    mass = np.array([0.9, 0.5, 0.2, 0.1], np.float32)
    tokens = np.array([A, B, TRY, END])
    classes = token_classes(tokens, np.zeros(4, int), TEXTS, end_id=END)
    return mass_by_class(mass, classes), detector_curve(mass, tokens >= A), eta


def test_the_document_is_plain_and_whole():
    by_class, curve, eta = analysis(0.3)
    document = gate_document(by_class, by_class, curve, Thresholds(eta))
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
    by_class, curve, _ = analysis(None)
    document = gate_document(by_class, {}, curve, Thresholds())
    assert set(document["detector"]) == {"best", "paper"}
    assert "student_lambda_r" not in document and document["student_by_class"] == {}
    assert detector_table(curve, Thresholds()).row_count == 2


def test_the_tables_hold_the_paper_s_numbers_and_ours():
    by_class, curve, eta = analysis(0.95)
    classes = token_class_table(by_class, by_class, "x")
    cells = {column.header: list(column.cells) for column in classes.columns}
    assert cells["gold token"] == ["item (λ_r)", "word", "end", "all but items (λ_v)"]
    assert cells["mean λ"] == cells["student"] == ["0.700", "0.200", "0.100", "0.150"]
    assert cells["paper"] == ["0.653", "–", "–", "0.023"]
    detector = detector_table(curve, Thresholds(eta))
    precision = next(list(c.cells) for c in detector.columns if c.header == "precision")
    assert precision == ["–", "1.000", "1.000"]  # nothing is as sure as .95


def test_every_threshold_that_is_asked_for_has_a_row():
    """At η = .15 all but the end fire, at .3 the two items, at .7 one of them."""
    by_class, curve, _ = analysis(None)
    thresholds = Thresholds(fitted=0.3, others=(0.7, 0.15))
    document = gate_document(by_class, {}, curve, thresholds)
    assert document["detector"]["fitted"] | {"fired": 0} == {
        "eta": 0.3,
        "precision": 1,
        "recall": 1,
        "f1": 1,
        "fired": 0,
    }
    low, high = document["detector_at"]
    assert (low["eta"], low["precision"], low["recall"]) == (0.15, pytest.approx(2 / 3), 1)
    assert (high["eta"], high["precision"], high["recall"]) == (0.7, 1, 0.5)
    cells = {
        column.header: list(column.cells) for column in detector_table(curve, thresholds).columns
    }
    assert cells["threshold"] == ["fitted on dev", "best F1", "the paper's", "", ""]
    assert cells["η"][-2:] == ["0.150", "0.700"]
    assert cells["F1"][-2:] == ["0.800", "0.667"]
