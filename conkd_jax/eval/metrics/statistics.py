"""What is kept of a scored run: the sums and counts of every dialogue.

They are enough for every metric, for bootstrap intervals over dialogues and for paired tests
(`bootstrap`), whatever made them: predictions (`run_metrics`) or people's judgements.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from conkd_jax.eval.metrics.pairs import divide_pairs


@dataclasses.dataclass(frozen=True)
class RunStatistics:
    """The (sum, count) pairs of every dialogue of a run.

    Attributes:
      turns: the turns that were answered in each dialogue, dialogues in sorted order.
      names: the metrics that are ratios of sums.
      sums, counts: a metric is Σ sums / Σ counts (its exponential, for perplexities).
      whole_run_metrics: metrics of all responses together that are not ratios of sums.
      totals: number of responses, dialogues, gold items and so on.
      left_out: a short note on each group of metrics that the predictions do not allow.
      notes: what a reader must know of the metrics that they do allow, such as what was missing and
        counts as missed.
      gold: a digest of the gold items by response; "" where there are none to compare.
    """

    turns: Mapping[str, frozenset[int]]
    names: tuple[str, ...]
    sums: Float[np.ndarray, "dialogues metrics"]
    counts: Float[np.ndarray, "dialogues metrics"]
    whole_run_metrics: Mapping[str, float]
    totals: Mapping[str, int]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    gold: str = ""

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
        """Adds up the pairs of every response; `keys` are their (conversation_id, turn)."""
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
        values = divide_pairs(self.names, self.sums.sum(0), self.counts.sum(0))
        everything = dict(zip(self.names, values.tolist(), strict=True))
        everything |= dict(self.whole_run_metrics)
        return {name: value for name, value in everything.items() if math.isfinite(value)}
