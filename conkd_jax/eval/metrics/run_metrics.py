"""From predictions to numbers: every metric of a scored run, by its flat name.

Predictions are read once, one at a time, and only sums are kept. Neither a model nor a graph is
needed; what predictions do not hold (2-hop neighbours, popularity, the size of the catalogue) comes
with the `MetricOptions`. docs/metrics.md explains the names for readers.

Names, for k in 1, 10, 50 and n in 1…4:

* `rer@k`, `prr@k`, `f1@k`: one-to-one matching, gold items of the vocabulary (the paper's Table 2).
  `…_pairs` counts every pair, `…_all` has gold items outside the vocabulary in the denominator,
  `…_novel` leaves out what was mentioned before, `…_2hop` counts 2-hop neighbours (Table 4),
  `…_refilled` and `…_refilled_in_order` put the recommender's items in the slots (Appendix D);
  `rer@k_original` (Table 8); `rer@k_turns_1-2` by merged-turn index
* `…_popularity`, `…_repeat`, `…_chance`: trivial systems at the same item steps, and `recall@k_…`
  of them (`trivial`)
* `repeated_items`, `repeated_gold_items`: the share of them that were mentioned before
* `rec_ratio`, `items_per_response` (NTRD's item ratio), `item_slots_per_response` (UniCRS'),
  `mismatch`
* `recall@k`, `mrr@k`, `ndcg@k` of the recommender over all gold items, `recall@k_linked` over those
  that have an entity, `recall@k_turns_1-2`
* `dist-n` (per n-gram), `dist-n_original` (per response), `bleu-n`, `generated_length`,
  `reference_length`
* `ppl`, `ppl_predprefix`, `ppl_words`, `ppl_words_renormalised`, `ppl_item`, `ppl_per_word`,
  `bits_per_character`; `student_lambda_r` and `student_lambda_v`, the system's own item mass on
  item steps and on word steps
* `coverage`, `gini`, `popularity_bias`, `distinct_items`, `classifier_accuracy`,
  `classifier_base_rate`

DIST-n, the catalogue's metrics and the base rate are of the run as a whole; all others are ratios
of sums over responses (`response_metrics`).
"""

from __future__ import annotations

import collections
from collections.abc import Iterable

import numpy as np

from conkd_jax.eval.metrics import catalogue
from conkd_jax.eval.metrics.answered import Answered
from conkd_jax.eval.metrics.options import MetricOptions
from conkd_jax.eval.metrics.response_metrics import response_pairs
from conkd_jax.eval.metrics.statistics import RunStatistics
from conkd_jax.eval.metrics.words import NGRAMS, DistinctNgrams
from conkd_jax.eval.prediction_checks import mentioned_ids
from conkd_jax.eval.predictions import Prediction
from conkd_jax.io.files import sha256_of_json


def run_statistics(
    predictions: Iterable[Prediction], options: MetricOptions | None = None
) -> RunStatistics:
    """Adds up the (sum, count) pairs of every dialogue: for metrics, intervals and paired tests.

    Args:
      predictions: the responses of a split, in any order; read once.
      options: cut-offs and facts about the corpus; None for the defaults.

    Returns:
      Statistics of the metrics that the predictions define. A metric that needs an absent field is
      left out, and so are perplexities if a response has no likelihoods, and a cut-off k beyond
      the shortest list of items that a response gives, unless that list is the whole catalogue
      (`answered`).

    Raises:
      ValueError: there is no prediction, a response comes twice, or a field is present in some
        responses and absent in others.
    """
    options = MetricOptions() if options is None else options
    whole_run = _WholeRun(options)
    names: tuple[str, ...] = ()
    dialogues: dict[str, np.ndarray] = {}  # [metrics, 2] each
    turns: dict[str, set[int]] = {}
    gold = 0
    for prediction in predictions:
        pairs = response_pairs(prediction, options)
        names = names or tuple(pairs)
        if tuple(pairs) != names:
            different = ", ".join(sorted(set(pairs) ^ set(names)))
            raise ValueError(
                "predictions: expected the same fields in every response, got "
                f"{prediction.key}, where other metrics are defined than for the first response: "
                f"{different}"
            )
        answered = turns.setdefault(prediction.conversation_id, set())
        if prediction.turn in answered:
            raise ValueError(
                f"predictions: expected each response once, got {prediction.key} again"
            )
        answered.add(prediction.turn)
        added = np.array(list(pairs.values()), dtype=np.float64)
        if prediction.conversation_id in dialogues:
            dialogues[prediction.conversation_id] += added
        else:
            dialogues[prediction.conversation_id] = added
        whole_run.add(prediction)
        gold ^= _gold_digest(prediction)
    if not names:
        raise ValueError("predictions: expected at least one response, got none")
    order = sorted(dialogues)
    if outside := whole_run.answered.num_outside:
        whole_run.totals["generated_items_outside_catalogue"] = outside
    added = np.stack([dialogues[name] for name in order])  # [D, metrics, 2]
    kept = [i for i, name in enumerate(names) if not whole_run.answered.leaves_out(name)]
    return RunStatistics(
        turns={name: frozenset(turns[name]) for name in order},
        names=tuple(names[i] for i in kept),
        sums=added[:, kept, 0],
        counts=added[:, kept, 1],
        whole_run_metrics=whole_run.metrics(),
        totals=dict(whole_run.totals) | {"dialogues": len(order)},
        left_out=whole_run.answered.left_out(),
        notes=whole_run.answered.notes(),
        gold=f"{gold:016x}",
    )


def _gold_digest(p: Prediction) -> int:
    """64 bits of a response and the items of its reference, whatever their order."""
    return int(sha256_of_json([*p.key, sorted(mentioned_ids(p.reference))])[:16], 16)


class _WholeRun:
    """What is counted over all responses together: distinct n-grams, items and totals."""

    def __init__(self, options: MetricOptions):
        self.options = options
        self.answered = Answered(options)
        self.distinct = [DistinctNgrams(n) for n in NGRAMS]
        self.generated: collections.Counter[int] = collections.Counter()
        self.gold: collections.Counter[int] = collections.Counter()
        self.totals: collections.Counter[str] = collections.Counter()

    def add(self, p: Prediction) -> None:
        self.answered.add(p)
        for counter in self.distinct:
            counter.add(p.generated_tokens)
        self.generated.update(self._in_catalogue(p.generated_items))
        self.gold.update(self._in_catalogue(p.reference_items))
        self.totals.update(
            {
                "responses": 1,
                "gold_rec_turns": int(p.turn_type == "rec"),
                "predicted_turn_types": int(p.predicted_turn_type is not None),
                "gold_items": len(p.reference_items),
                "gold_item_responses": int(bool(p.reference_items)),
                "gold_items_out_of_vocabulary": len(p.reference_items_out_of_vocabulary or ()),
                "generated_items": len(p.generated_items),
                "generated_item_responses": int(bool(p.generated_items)),
                "generated_tokens": len(p.generated_tokens),
                "target_tokens": len(p.token_nll or ()),
                "target_item_tokens": sum(p.token_is_item or ()),
            }
        )

    def _in_catalogue(self, items: Iterable[int]) -> list[int]:
        catalogue = self.options.catalogue
        return [item for item in items if catalogue is None or item in catalogue]

    def metrics(self) -> dict[str, float]:
        values: dict[str, float] = {"distinct_items": float(len(self.generated))}
        for counter in self.distinct:
            values[f"dist-{counter.n}"] = counter.refined
            values[f"dist-{counter.n}_original"] = counter.original
        if self.totals["predicted_turn_types"]:
            share = self.totals["gold_rec_turns"] / self.totals["responses"]
            values["classifier_base_rate"] = max(share, 1 - share)
        num_items, popularity = self.options.num_items, self.options.popularity
        if num_items is not None:
            values["coverage"] = catalogue.coverage(self.generated, num_items)
            counts = np.zeros(num_items)
            counts[: len(self.generated)] = list(self.generated.values())
            values["gini"] = catalogue.gini(counts)
        if popularity is not None:
            values["popularity_bias"] = catalogue.popularity_bias(
                self.generated, self.gold, popularity
            )
        return values
