"""The perplexity of words under the softmax over words alone."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.eval.metrics.perplexity import words_renormalised


@settings(deadline=None)
@given(st.floats(0, 9), st.floats(0, 0.99))
def test_renormalising_over_words_never_lowers_their_probability(nll, item_mass):
    after = words_renormalised(np.array([nll]), np.array([item_mass]))
    assert after[0] <= nll + 1e-12
    assert after[0] == pytest.approx(-math.log(math.exp(-nll) / (1 - item_mass)), abs=1e-9)
