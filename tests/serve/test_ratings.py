"""Ratings are those of the model: closed form for two, scipy's maximum for more."""

import numpy as np
import pytest
import scipy.optimize

from conkd_jax.serve.ratings import PRIOR, Vote, bradley_terry, ratings


def test_two_systems_have_a_closed_form():
    votes = [Vote("a", "b", "first")] * 6 + [Vote("b", "a", "first")] * 2
    votes += [Vote("b", "a", "tie"), Vote("a", "b", "neither")]
    a, b = ratings(["a", "b"], votes)
    expected = 400 * np.log10((6 + 1 + PRIOR) / (2 + 1 + PRIOR))
    assert a.elo - b.elo == pytest.approx(expected, abs=1e-4)
    assert a.elo + b.elo == pytest.approx(2000)
    assert a.low < a.elo < a.high


def test_more_systems_have_the_most_likely_ratings():
    wins = np.random.default_rng(0).integers(1, 20, (5, 5)).astype(float)
    np.fill_diagonal(wins, 0)

    def loss(elo):
        return (wins * np.log1p(10 ** ((elo[None] - elo[:, None]) / 400))).sum()

    best = scipy.optimize.minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-8}).x
    found = bradley_terry(wins[None])[0]
    np.testing.assert_allclose(found - found.mean(), best - best.mean(), atol=1e-2)


def test_a_system_that_won_every_vote_has_a_finite_rating():
    a, b = ratings(["a", "b"], [Vote("a", "b", "first")] * 10)
    assert 1000 < a.low <= a.elo <= a.high < 3000 and b.elo < 1000


def test_votes_of_one_voter_are_one_piece_of_evidence():
    votes = [Vote("a", "b", "second" if n % 4 == 0 else "first", f"v{n}") for n in range(40)]
    by_one = [vote._replace(voter=f"v{n // 10}") for n, vote in enumerate(votes)]
    many, few = ratings(["a", "b"], votes)[0], ratings(["a", "b"], by_one)[0]
    assert many.elo == few.elo and (many.low, many.high) != (few.low, few.high)
    assert ratings(["a", "b"], votes) == ratings(["a", "b"], votes)
