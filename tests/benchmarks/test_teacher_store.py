"""The benchmark of the teacher store."""

import numpy as np
import pytest

from benchmarks import stored_forms, teacher_store
from tests.benchmarks.conftest import differences


def test_stores_are_written_read_and_compared(run_tiny):
    status, document, _ = run_tiny(teacher_store)
    assert status == 0
    assert differences(document)[teacher_store.TORCH_FORWARD] < 1e-5
    (case,) = document["cases"]
    forms = case["forms"]
    assert forms[stored_forms.EXACT]["total_variation"] == 0
    assert 0 < forms[stored_forms.FEATURES]["total_variation"] < 0.01
    assert forms[stored_forms.TOP_64]["bytes_per_token"] == 264
    numbers = {each["name"]: each for each in case["numbers"]}
    rebuilt = numbers["largest difference of the rebuilt λ from the stored one"]
    assert rebuilt["value"] <= 1e-6 and rebuilt["is_met"]


def test_a_store_that_holds_another_teacher_misses_the_target(run_tiny, monkeypatch):
    mass = teacher_store._mass_and_normalizer

    def wrong(logits, num_words):
        found, normalizer = mass(logits, num_words)
        return found + 1e-4, normalizer

    monkeypatch.setattr(teacher_store, "_mass_and_normalizer", wrong)
    monkeypatch.setattr(teacher_store.side_by_side, "measure_time", lambda *_: FOUND)
    status, _, printed = run_tiny(teacher_store)
    assert status == 1
    assert "MISSED  teacher_store: tiny: largest difference of the rebuilt λ" in printed


FOUND = {
    name: {"difference": None, "seconds": {"median": 1.0, "min": 1.0, "rounds": [1.0]}}
    for name in (
        teacher_store.FORWARD,
        teacher_store.STATISTICS,
        teacher_store.WRITING,
        teacher_store.TORCH_FORWARD,
    )
}


@pytest.mark.parametrize("is_renormalised", [False, True])
def test_most_probable_targets_keep_their_mass_unless_renormalised(is_renormalised):
    teacher = stored_forms.RandomTeacher.of(teacher_store.SIZES["tiny"], 5)
    probs = stored_forms.softmax(teacher.logits())
    found = stored_forms.most_probable(probs, 4, np.float16, is_renormalised)
    assert ((found > 0).sum(1) == 4).all()
    kept = found.sum(1)
    assert (abs(kept - 1) < 1e-3).all() if is_renormalised else (kept < 1).all()
