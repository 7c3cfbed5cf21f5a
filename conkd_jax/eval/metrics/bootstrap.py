"""How certain a number is: bootstrap intervals over dialogues, and a paired test of two runs.

Responses of one dialogue are not independent, so dialogues are resampled, never responses. All of
it works on the (sum, count) pairs of dialogues: a resample is a vector of weights over dialogues,
an exchange of two systems a vector of zeros and ones, and a thousand of either one matrix product.
DIST-n, coverage and Gini get no interval: they are not ratios of sums, and a resample, which holds
about 63 % of the dialogues, has fewer distinct n-grams and items than the data.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from conkd_jax.eval.metrics.pairs import divide_pairs
from conkd_jax.eval.metrics.statistics import RunStatistics

LEVEL = 95  # per cent


def bootstrap_intervals(
    run: RunStatistics, *, num_resamples: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap intervals over dialogues, for the metrics that are ratios.

    Deterministic in (responses, num_resamples, seed), whatever the order of the responses. A metric
    that is undefined in some resample has no interval.

    Source: Efron and Tibshirani, 1993 (percentile intervals; dialogues are the clusters).
    """
    weights = resample_weights(len(run.sums), num_resamples, seed)
    # Drawing a dialogue n times counts its sums n times: all resamples are one matrix product.
    draws = divide_pairs(run.names, weights @ run.sums, weights @ run.counts)
    defined = np.flatnonzero(np.isfinite(draws).all(0))  # draws: [resamples, metrics]
    low, high = _percentile_interval(draws[:, defined])
    return {
        run.names[column]: (float(low[place]), float(high[place]))
        for place, column in enumerate(defined)
    }


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A metric of two runs, or of two rows over several trainings, and the test of its difference.

    Attributes:
      first, second: the metric of each.
      difference: second - first.
      low, high: 95 % interval of the difference.
      p_value: two-sided test of no difference.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain JSON, unrounded."""
        return {
            "first": self.first,
            "second": self.second,
            "difference": self.difference,
            "interval": [self.low, self.high],
            "p": self.p_value,
        }


def resample_weights(
    num_dialogues: int, num_resamples: int, seed: int
) -> Float[np.ndarray, "resamples dialogues"]:
    """How often each dialogue is drawn in each resample, with replacement."""
    rng = np.random.Generator(np.random.Philox(seed))
    even = np.full(num_dialogues, 1.0 / num_dialogues)
    return rng.multinomial(num_dialogues, even, size=num_resamples).astype(np.float64)


def compare_runs(
    first: RunStatistics,
    second: RunStatistics,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Comparison]:
    """How far two runs on the same responses differ, and whether that may be chance.

    The interval is a paired bootstrap over dialogues: both runs are scored on the same resamples.
    The p-value is a permutation test. If the systems were equal, it would not matter which of the
    two answered a dialogue; so a coin decides for each dialogue whether the answers are exchanged,
    and p = (1 + #{|exchanged difference| ≥ |difference|}) / (1 + number of exchanges). P-values are
    not corrected for the number of metrics: among many, some are small by chance.

    Args:
      first: statistics of a run.
      second: statistics of another run on the same responses, in any order.
      num_resamples: number of resamples, and of exchanges.
      seed: of both.

    Returns:
      A comparison for each metric that both runs define in every resample.

    Raises:
      ValueError: the runs did not answer the same responses, or they name other gold items.

    Source: Efron and Tibshirani, 1993; Noreen, 1989 (approximate randomisation).
    """
    _require_same_responses(first, second)
    names = tuple(name for name in first.names if name in second.names)
    a, b = _DialoguePairs.of(first, names), _DialoguePairs.of(second, names)
    weights = resample_weights(len(a.sums), num_resamples, seed)
    drawn = b.weighted(weights) - a.weighted(weights)  # [resamples, metrics]
    everything = np.ones((1, len(a.sums)))
    values = a.weighted(everything)[0], b.weighted(everything)[0]
    difference = values[1] - values[0]
    coins = np.random.Generator(np.random.Philox(seed)).integers(0, 2, weights.shape)
    exchanged = b.exchanged(a, coins) - a.exchanged(b, coins)
    # Equal differences may differ in the last bit: they are summed in another order.
    as_large = np.abs(exchanged) >= np.abs(difference) * (1 - 1e-9)
    p_values = (1 + as_large.sum(0)) / (1 + num_resamples)
    defined = np.flatnonzero(np.isfinite(drawn).all(0))
    low, high = _percentile_interval(drawn[:, defined])
    return {
        names[column]: Comparison(
            first=float(values[0][column]),
            second=float(values[1][column]),
            difference=float(difference[column]),
            low=float(low[place]),
            high=float(high[place]),
            p_value=float(p_values[column]),
        )
        for place, column in enumerate(defined)
    }


@dataclasses.dataclass(frozen=True)
class _DialoguePairs:
    """The sums and counts of some metrics, by dialogue."""

    names: tuple[str, ...]
    sums: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, run: RunStatistics, names: tuple[str, ...]) -> _DialoguePairs:
        columns = [run.names.index(name) for name in names]
        return cls(names, run.sums[:, columns], run.counts[:, columns])

    def weighted(self, weights: np.ndarray) -> np.ndarray:
        """The metrics [draws, metrics] of each row of `weights` [draws, dialogues]."""
        return divide_pairs(self.names, weights @ self.sums, weights @ self.counts)

    def exchanged(self, other: _DialoguePairs, coins: np.ndarray) -> np.ndarray:
        """The metrics [draws, metrics] with the other run's pairs where a coin is 1."""
        sums = self.sums.sum(0) + coins @ (other.sums - self.sums)
        counts = self.counts.sum(0) + coins @ (other.counts - self.counts)
        return divide_pairs(self.names, sums, counts)


def _require_same_responses(first: RunStatistics, second: RunStatistics) -> None:
    if first.turns == second.turns:
        if first.gold != second.gold:
            raise ValueError(
                "paired test: expected the same items in the references of both runs, got "
                "different ones. They are those of other versions of the data"
            )
        return
    keys = [
        {(dialogue, turn) for dialogue, turns in run.turns.items() for turn in turns}
        for run in (first, second)
    ]
    only = sorted(keys[0] ^ keys[1])
    raise ValueError(
        f"paired test: expected two runs on the same responses, got {len(only)} that only one "
        f"of them holds, for example (conversation_id, turn) = {only[0]}"
    )


def _percentile_interval(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    return low, high
