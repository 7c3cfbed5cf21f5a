"""How sure a number is: bootstrap intervals over dialogues, and a paired test between two runs.

Responses of one dialogue are not independent, so dialogues are resampled, never responses.
Everything runs on the (sum, count) pairs of dialogues: a resample is a vector of weights over
dialogues, an exchange of two systems is a vector of zeros and ones, and a thousand of either are
one matrix product. DIST-n, coverage and Gini are no ratios of sums, and a resample (which holds
about 63 % of the dialogues) has fewer distinct things in it than the data: they get no interval.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

EXPONENTIAL = (  # exp of the ratio
    "ppl",
    "ppl_predprefix",
    "ppl_words",
    "ppl_words_renormalised",
    "ppl_item",
    "ppl_per_word",
)
ZERO_WHEN_EMPTY = ("rer", "prr", "f1", "rec_ratio")  # 0 hits out of nothing count as 0
LEVEL = 95  # per cent


@dataclasses.dataclass(frozen=True)
class RunStatistics:
    """The (sum, count) pairs of every dialogue: enough for every metric, interval and test.

    Attributes:
      turns: the turns that were answered in each dialogue, dialogues in sorted order.
      names: the metrics that are ratios of sums.
      sums, counts: a metric is Σ sums / Σ counts (its exponential, for perplexities).
      whole: metrics of all responses together that are no ratios of sums.
      totals: how many of everything there were.
      left_out: what the predictions do not allow to measure, a few words each.
    """

    turns: Mapping[str, frozenset[int]]
    names: tuple[str, ...]
    sums: Float[np.ndarray, "dialogues metrics"]
    counts: Float[np.ndarray, "dialogues metrics"]
    whole: Mapping[str, float]
    totals: Mapping[str, int]
    left_out: tuple[str, ...] = ()

    @classmethod
    def of_responses(
        cls,
        keys: Sequence[tuple[str, int]],
        names: tuple[str, ...],
        sums: Float[np.ndarray, "responses metrics"],
        counts: Float[np.ndarray, "responses metrics"],
        *,
        totals: Mapping[str, int],
    ) -> RunStatistics:
        """From the pairs of every response, (conversation_id, turn) in `keys`."""
        dialogues, place = np.unique([dialogue for dialogue, _ in keys], return_inverse=True)
        added = np.zeros((2, len(dialogues), len(names)))
        np.add.at(added[0], place, sums)
        np.add.at(added[1], place, counts)
        turns: dict[str, set[int]] = {str(dialogue): set() for dialogue in dialogues}
        for dialogue, turn in keys:
            turns[dialogue].add(turn)
        answered = {dialogue: frozenset(of) for dialogue, of in turns.items()}
        return cls(answered, names, added[0], added[1], {}, totals)

    def metrics(self) -> dict[str, float]:
        """Every metric that the responses define; those with nothing to count are left out."""
        values = finish(self.names, self.sums.sum(0), self.counts.sum(0))
        everything = dict(zip(self.names, values.tolist(), strict=True)) | dict(self.whole)
        return {name: value for name, value in everything.items() if math.isfinite(value)}

    def intervals(
        self, *, num_resamples: int = 1000, seed: int = 0
    ) -> dict[str, tuple[float, float]]:
        """95 % percentile bootstrap intervals over dialogues, for the metrics that are ratios.

        Deterministic in (responses, num_resamples, seed), whatever the order of the responses.

        Source: Efron and Tibshirani, 1993 (percentile intervals; dialogues are the clusters).
        """
        weights = resample_weights(len(self.sums), num_resamples, seed)
        draws = finish(self.names, weights @ self.sums, weights @ self.counts)
        defined = np.flatnonzero(np.isfinite(draws).all(0))  # draws: [resamples, metrics]
        low, high = _percentile_interval(draws[:, defined])
        return {
            self.names[column]: (float(low[place]), float(high[place]))
            for place, column in enumerate(defined)
        }


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A metric of two runs on the same responses.

    Attributes:
      first, second: the metric of each.
      difference: second - first.
      low, high: 95 % bootstrap interval of the difference.
      p_value: two-sided permutation test of no difference.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float


def finish(
    names: tuple[str, ...],
    sums: Float[np.ndarray, "*batch metrics"],
    counts: Float[np.ndarray, "*batch metrics"],
) -> Float[np.ndarray, "*batch metrics"]:
    """The one division: sums / counts, its exponential for perplexities; nan where nothing counts.

    ReR, PrR, F1 and Rec Ratio are 0 there: a system that names no item has precision 0.
    """
    empty = counts == 0
    values = sums / np.where(empty, 1.0, counts)
    is_exponential, is_zero = _kinds(names)
    values = np.where(is_exponential, np.exp(np.where(is_exponential, values, 0.0)), values)
    return np.where(empty & ~is_zero, np.nan, values)


def resample_weights(
    num_dialogues: int, num_resamples: int, seed: int
) -> Float[np.ndarray, "resamples dialogues"]:
    """How often each dialogue is drawn in each resample, with replacement."""
    rng = np.random.Generator(np.random.Philox(seed))
    even = np.full(num_dialogues, 1.0 / num_dialogues)
    return rng.multinomial(num_dialogues, even, size=num_resamples).astype(np.float64)


def compare(
    first: RunStatistics,
    second: RunStatistics,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Two runs on the same responses: how far they differ, and whether that may be chance.

    The interval is a paired bootstrap over dialogues: both runs are scored on the same resamples.
    The p-value is a permutation test: were the systems alike, it would not matter which of the two
    answered a dialogue, so that the answers of each dialogue are exchanged or not by a coin, and
    p = (1 + #{|exchanged difference| ≥ |difference|}) / (1 + number of exchanges). Each p-value is
    of its metric alone; who looks at many has to expect some small ones.

    Args:
      first, second: statistics of two runs on the same responses, in any order.
      num_resamples, seed: of the bootstrap, and of the exchanges.

    Returns:
      A comparison for each metric that both runs define in every resample.

    Raises:
      ValueError: if the runs did not answer the same responses.

    Source: Efron and Tibshirani, 1993; Noreen, 1989 (approximate randomisation).
    """
    _require_same_responses(first, second)
    names = tuple(name for name in first.names if name in second.names)
    a, b = _Pairs.of(first, names), _Pairs.of(second, names)
    weights = resample_weights(len(a.sums), num_resamples, seed)
    drawn = b.weighted(weights) - a.weighted(weights)  # [resamples, metrics]
    everything = np.ones((1, len(a.sums)))
    values = a.weighted(everything)[0], b.weighted(everything)[0]
    difference = values[1] - values[0]
    coins = np.random.Generator(np.random.Philox(seed)).integers(0, 2, weights.shape)
    exchanged = b.exchanged(a, coins) - a.exchanged(b, coins)
    # Equal differences may differ in their last bit: they are sums in another order.
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
class _Pairs:
    """Some metrics' sums and counts, by dialogue."""

    names: tuple[str, ...]
    sums: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, run: RunStatistics, names: tuple[str, ...]) -> _Pairs:
        columns = [run.names.index(name) for name in names]
        return cls(names, run.sums[:, columns], run.counts[:, columns])

    def weighted(self, weights: np.ndarray) -> np.ndarray:
        """The metrics where each dialogue counts as often as it says, [draws, metrics]."""
        return finish(self.names, weights @ self.sums, weights @ self.counts)

    def exchanged(self, other: _Pairs, coins: np.ndarray) -> np.ndarray:
        """The metrics where the dialogues with a 1 are the other run's, [draws, metrics]."""
        sums = self.sums.sum(0) + coins @ (other.sums - self.sums)
        counts = self.counts.sum(0) + coins @ (other.counts - self.counts)
        return finish(self.names, sums, counts)


def _require_same_responses(first: RunStatistics, second: RunStatistics) -> None:
    if first.turns == second.turns:
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


@functools.cache
def _kinds(names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Which metrics are exponentials, and which are 0 out of nothing."""
    stems = [name.split("@")[0] for name in names]
    return (
        np.array([name in EXPONENTIAL for name in names], dtype=bool),
        np.array([stem in ZERO_WHEN_EMPTY for stem in stems], dtype=bool),
    )
