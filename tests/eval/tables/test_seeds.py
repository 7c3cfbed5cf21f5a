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
    with pytest.raises(ValueError, match=r"each once, got \[0, 0\]"):
        across_seeds([document(), document()])
