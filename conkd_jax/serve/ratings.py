"""Ratings of systems from pairwise votes: Bradley and Terry's model on the scale of Elo.

Every system i has a strength p_i > 0, and P(i beats j) = p_i / (p_i + p_j). A rating is
R_i = 1000 + 400 · (log10 p_i - mean_j log10 p_j), so that
P(i beats j) = 1 / (1 + 10^((R_j - R_i) / 400)), as in chess. The strengths maximise the likelihood
of all votes at once, so that, unlike with running updates, the order of votes doesn't matter. A
tie, of good or of bad answers, counts as half a win for each. One more tie for each pair of systems
keeps a rating finite where one of them has won every vote; with many votes it hardly counts.

Sources: Bradley and Terry, Rank Analysis of Incomplete Block Designs, 1952; Hunter, MM Algorithms
for Generalized Bradley-Terry Models, 2004 (the iteration below, eq. 3); Chiang et al., Chatbot
Arena, 2024 (ratings of language models by maximum likelihood, with bootstrap intervals).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

MEAN, SCALE = 1000.0, 400.0
RESAMPLES, LEVEL = 1000, 0.95
PRIOR = 0.5  # wins of each system over each other: the additional tie
TIES = ("tie", "neither")
CHOICES = ("first", "second", *TIES)


class Vote(NamedTuple):
    """A vote: the two systems in the order shown, which is better, and who voted."""

    first: str
    second: str
    choice: str
    voter: str | None = None


class Interval(NamedTuple):
    """A rating and its 95 % interval."""

    elo: float
    low: float
    high: float


def ratings(names: Sequence[str], votes: Sequence[Vote], *, seed: int = 0) -> list[Interval]:
    """Rates systems.

    The interval is that of a percentile bootstrap. Votes of one voter are not independent, so they
    are drawn together; those without a voter are drawn one by one.

    Args:
      names: the systems, each once.
      votes: on two of them each.
      seed: of the bootstrap.
    """
    place = {name: index for index, name in enumerate(names)}
    units: dict[object, np.ndarray] = {}
    for number, vote in enumerate(votes):
        wins = units.setdefault(vote.voter or number, np.zeros((len(names), len(names))))
        first, second = place[vote.first], place[vote.second]
        share = {"first": 1.0, "second": 0.0}.get(vote.choice, 0.5)
        wins[first, second] += share
        wins[second, first] += 1 - share
    of_units = np.array([*units.values()]).reshape(-1, len(names), len(names))
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
    counts = rng.multinomial(len(of_units), [1 / len(of_units)] * len(of_units), RESAMPLES)
    wins = np.concatenate([of_units.sum(0)[None], np.tensordot(counts, of_units, 1)])
    elo, *resampled = bradley_terry(wins + PRIOR * (1 - np.eye(len(names))))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    return [Interval(*map(float, one)) for one in zip(elo, low, high, strict=True)]


def bradley_terry(
    wins: Float[np.ndarray, "N K K"], *, tolerance: float = 1e-9, max_steps: int = 100_000
) -> Float[np.ndarray, "N K"]:
    """The ratings that make N tables of wins most likely.

    p_i ← w_i / Σ_j (n_ij / (p_i + p_j)), where w_i are the wins of i and n_ij the votes on i and j,
    until no log p_i changes by more than the tolerance.

    Args:
      wins: how often each of K systems beat each other one; every system has won against one that
        has won against …, of all others, or else no finite ratings are the most likely.
      tolerance: as above.
      max_steps: the most iterations.
    """
    met, won = wins + wins.swapaxes(1, 2), wins.sum(2)
    logs = np.zeros(won.shape)
    for _ in range(max_steps):
        strength = np.exp(logs)
        after = np.log(won / (met / (strength[:, :, None] + strength[:, None])).sum(2))
        after -= after.mean(1, keepdims=True)
        change = np.abs(after - logs).max(initial=0)
        logs = after
        if change < tolerance:
            break
    return MEAN + SCALE * logs / np.log(10)
