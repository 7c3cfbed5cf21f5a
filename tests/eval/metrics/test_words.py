"""BLEU of single responses."""

import math

import pytest

from conkd_jax.eval.metrics.words import bleu


def test_bleu_is_the_clipped_precision_of_one_n():
    assert bleu("a a a".split(), "a b c".split(), 1) == (pytest.approx(1 / 3), 1.0)
    short = bleu("a b".split(), "a b c d".split(), 2)[0]
    assert short == pytest.approx(math.exp(1 - 4 / 2))
    assert bleu([], ["a"], 1) == bleu(["a"], ["a"], 2) == (0.0, 1.0)


def test_bleu_equals_nltks_sentence_bleu():
    generated = "have you seen the movie that he was in".split()
    reference = "have you seen the one that she was in last year".split()
    # nltk 3.10's sentence_bleu with weights (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0).
    nltks = (0.622795757824184, 0.400368701458404, 0.22878211511908797)
    for n, expected in enumerate(nltks, start=1):
        assert bleu(generated, reference, n)[0] == pytest.approx(expected)
