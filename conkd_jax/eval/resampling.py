"""How sure a number is: bootstrap intervals over dialogues, and a paired test between two runs.

Responses of one dialogue are not independent, so dialogues are resampled, never responses.
Everything runs on per-response (sum, count) pairs: a resample is a vector of weights over
dialogues, and a thousand of them are one matrix product. DIST-n, coverage and Gini are no ratios of
sums, and a resample (which holds about 63 % of the dialogues) has fewer distinct things in it than
the data: they get no interval.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

EXPONENTIAL = ("ppl", "ppl_words", "ppl_item", "ppl_per_word")  # exp of the ratio
ZERO_WHEN_EMPTY = ("rer", "prr", "f1", "rec_ratio")  # 0 hits out of nothing count as 0
LEVEL = 95  # per cent


@dataclasses.dataclass(frozen=True)
class ResponseStatistics:
    """The (sum, count) pairs of every response: enough for every metric, interval and test.

    Attributes:
      keys: (conversation_id, turn) of each response.
      names: the metrics that are ratios of sums.
      sums, counts: a metric is Σ sums / Σ counts (its exponential, for perplexities).
      whole: metrics of all responses together that are no ratios of sums.
      totals: how many of everything there were.
    """

    keys: tuple[tuple[str, int], ...]
    names: tuple[str, ...]
    sums: Float[np.ndarray, "responses metrics"]
    counts: Float[np.ndarray, "responses metrics"]
    whole: Mapping[str, float]
    totals: Mapping[str, int]

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
        """
        sums, counts = self.by_dialogue()
        weights = resample_weights(len(sums), num_resamples, seed)
        draws = finish(self.names, weights @ sums, weights @ counts)  # [resamples, metrics]
        defined = np.flatnonzero(np.isfinite(draws).all(0))
        low, high = _percentile_interval(draws[:, defined])
        return {
            self.names[column]: (float(low[place]), float(high[place]))
            for place, column in enumerate(defined)
        }

    def by_dialogue(
        self,
    ) -> tuple[Float[np.ndarray, "dialogues metrics"], Float[np.ndarray, "dialogues metrics"]]:
        """Sums and counts over the responses of each dialogue, dialogues in sorted order."""
        ids = np.array([conversation_id for conversation_id, _ in self.keys])
        _, dialogue = np.unique(ids, return_inverse=True)
        num_dialogues = int(dialogue.max()) + 1
        added = (np.zeros((num_dialogues, len(self.names))) for _ in range(2))
        sums, counts = added
        np.add.at(sums, dialogue, self.sums)
        np.add.at(counts, dialogue, self.counts)
        return sums, counts


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A metric of two runs on the same responses.

    Attributes:
      first, second: the metric of each.
      difference: second - first.
      low, high: 95 % bootstrap interval of the difference.
      p_value: two-sided, of no difference.
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
    first: ResponseStatistics,
    second: ResponseStatistics,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Paired bootstrap over dialogues: both runs are scored on the same resamples.

    The p-value is two-sided: twice the smaller share of resampled differences at or beyond 0, each
    share with one added to its count and to the number of resamples, so that it is never 0.

    Args:
      first, second: statistics of two runs on the same responses, in any order.
      num_resamples, seed: of the bootstrap.

    Returns:
      A comparison for each metric that both runs define in every resample.

    Raises:
      ValueError: if the runs did not answer the same responses.
    """
    if set(first.keys) != set(second.keys):
        only = sorted(set(first.keys) ^ set(second.keys))
        raise ValueError(
            f"paired test: expected two runs on the same responses, got {len(only)} that only one "
            f"of them holds, for example (conversation_id, turn) = {only[0]}"
        )
    names = [name for name in first.names if name in second.names]
    draws, values = [], []
    for run in (first, second):
        columns = [run.names.index(name) for name in names]
        sums, counts = (part[:, columns] for part in run.by_dialogue())
        weights = resample_weights(len(sums), num_resamples, seed)
        draws.append(finish(tuple(names), weights @ sums, weights @ counts))
        values.append(finish(tuple(names), sums.sum(0), counts.sum(0)))
    differences = draws[1] - draws[0]  # [resamples, metrics]
    defined = np.flatnonzero(np.isfinite(differences).all(0))
    low, high = _percentile_interval(differences[:, defined])
    results = {}
    for place, column in enumerate(defined):
        drawn = differences[:, column]
        one_side = min((drawn <= 0).sum(), (drawn >= 0).sum())
        a, b = float(values[0][column]), float(values[1][column])
        results[names[column]] = Comparison(
            first=a,
            second=b,
            difference=b - a,
            low=float(low[place]),
            high=float(high[place]),
            p_value=min(1.0, 2 * (float(one_side) + 1) / (num_resamples + 1)),
        )
    return results


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
