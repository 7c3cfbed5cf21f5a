"""BLEU and perplexity of single responses."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.eval.metrics import words as text


def test_bleu_is_the_clipped_precision_of_one_n():
    assert text.bleu("a a a".split(), "a b c".split(), 1) == (pytest.approx(1 / 3), 1.0)
    short = text.bleu("a b".split(), "a b c d".split(), 2)[0]
    assert short == pytest.approx(math.exp(1 - 4 / 2))
    assert text.bleu([], ["a"], 1) == text.bleu(["a"], ["a"], 2) == (0.0, 1.0)


def test_bleu_equals_nltks_sentence_bleu():
    generated = "have you seen the movie that he was in".split()
    reference = "have you seen the one that she was in last year".split()
    # nltk 3.10's sentence_bleu with weights (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0).
    nltks = (0.622795757824184, 0.400368701458404, 0.22878211511908797)
    for n, expected in enumerate(nltks, start=1):
        assert text.bleu(generated, reference, n)[0] == pytest.approx(expected)


@settings(deadline=None)
@given(st.floats(0, 9), st.floats(0, 0.99))
def test_renormalising_over_words_never_lowers_their_probability(nll, item_mass):
    after = text.words_renormalised(np.array([nll]), np.array([item_mass]))
    assert after[0] <= nll + 1e-12
    assert after[0] == pytest.approx(-math.log(math.exp(-nll) / (1 - item_mass)), abs=1e-9)
