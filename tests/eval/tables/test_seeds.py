"""Means and deviations over seeds."""

import pytest

from conkd_jax.eval.tables.seeds import across_seeds
from tests.eval.scored import document


def test_mean_and_deviation_across_seeds():
    runs = [document(seed=seed, metrics={"ppl": 10.0 + seed}) for seed in range(3)]
    runs[0]["metrics"]["only_here"] = 1.0
    found = across_seeds(runs)
    assert found["ppl"] == (11.0, 1.0)
    assert "only_here" not in found


def test_runs_that_differ_in_more_than_the_seed_are_not_averaged():
    with pytest.raises(ValueError, match="split: expected the same"):
        across_seeds([document(), document(seed=1, split="test")])
    with pytest.raises(ValueError, match="backbone: expected the same"):
        across_seeds([document(), document(seed=1, backbone="kgsf")])
    with pytest.raises(ValueError, match=r"each once, got seed0, seed0"):
        across_seeds([document(), document()])


def test_runs_of_other_settings_are_not_averaged():
    """Whether the command line changed a field or the config file was edited in between."""
    changed = document(seed=1, overrides={"distill.gamma": 0.2})
    with pytest.raises(ValueError, match="overrides: expected the same"):
        across_seeds([document(), changed])
    edited = [document(seed=k, settings_sha256=str(k)) for k in (0, 1)]
    with pytest.raises(ValueError, match="settings: expected runs that differ in their seeds"):
        across_seeds(edited)
    older = [document(seed=0, settings_sha256="a"), document(seed=1)]  # of an earlier version
    assert across_seeds(older)


def test_seeds_of_teachers_and_students_are_told_apart():
    runs = [document(seed=0), document(seed=0, teacher_seed=1)]
    assert across_seeds(runs)
