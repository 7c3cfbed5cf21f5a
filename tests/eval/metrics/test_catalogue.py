"""Coverage and concentration of recommendations."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.eval.metrics import catalogue


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=12))
def test_gini_is_the_mean_absolute_difference(counts):
    counts = np.array(counts)
    value = catalogue.gini(counts)
    if not counts.sum():
        assert math.isnan(value)
        return
    differences = np.abs(counts[:, None] - counts[None]).mean()
    assert value == pytest.approx(differences / (2 * counts.mean()))
