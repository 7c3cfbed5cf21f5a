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
import math
from collections.abc import Iterable, Mapping

import numpy as np

from conkd_jax.eval.metrics import catalogue
from conkd_jax.eval.metrics.options import MetricOptions
from conkd_jax.eval.metrics.response_metrics import response_pairs
from conkd_jax.eval.metrics.statistics import RunStatistics
from conkd_jax.eval.metrics.words import NGRAMS, DistinctNgrams
from conkd_jax.eval.predictions import Prediction

METRICS_OF_FIELDS: Mapping[str, str] = {  # what is not measured where a field is absent
    "item_steps": "ReR, PrR and F1 beyond @1",
    "mentioned_items": "novel-only and 2-hop ReR, PrR and F1",
    "reference_items_out_of_vocabulary": "ReR and F1 over all gold items",
    "recommender_top": "recall, MRR, NDCG and mismatch",
    "token_nll": "perplexities",
    "token_is_item": "perplexity of words and of items",
    "token_nll_predprefix": "perplexity under the predicted prefix",
    "token_item_mass": "perplexity over words alone, the system's own λ",
}


def run_statistics(
    predictions: Iterable[Prediction], options: MetricOptions | None = None
) -> RunStatistics:
    """Adds up the (sum, count) pairs of every dialogue: for metrics, intervals and paired tests.

    Args:
      predictions: the responses of a split, in any order; read once.
      options: cut-offs and facts about the corpus; None for the defaults.

    Returns:
      Statistics of the metrics that the predictions define. A metric that needs an absent field is
      left out, and so is one at a cut-off k beyond the shortest list of items that a response
      gives, unless that list is the whole catalogue.

    Raises:
      ValueError: there is no prediction, a response comes twice, or a field is present in some
        responses and absent in others.
    """
    options = MetricOptions() if options is None else options
    whole_run = _WholeRun(options)
    names: tuple[str, ...] = ()
    dialogues: dict[str, np.ndarray] = {}  # [metrics, 2] each
    turns: dict[str, set[int]] = {}
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
    if not names:
        raise ValueError("predictions: expected at least one response, got none")
    order = sorted(dialogues)
    added = np.stack([dialogues[name] for name in order])  # [D, metrics, 2]
    kept = [i for i, name in enumerate(names) if not whole_run.is_beyond(name)]
    return RunStatistics(
        turns={name: frozenset(turns[name]) for name in order},
        names=tuple(names[i] for i in kept),
        sums=added[:, kept, 0],
        counts=added[:, kept, 1],
        whole_run_metrics=whole_run.metrics(),
        totals=dict(whole_run.totals) | {"dialogues": len(order)},
        left_out=whole_run.left_out(),
    )


class _WholeRun:
    """What is counted over all responses together: distinct n-grams, items and totals.

    Also the length of the shortest lists of items, beyond which no cut-off is measured.
    """

    def __init__(self, options: MetricOptions):
        self.options = options
        self.absent: tuple[str, ...] = ()
        self.reach = {"item_steps": math.inf, "recommender_top": math.inf}
        self.distinct = [DistinctNgrams(n) for n in NGRAMS]
        self.generated: collections.Counter[int] = collections.Counter()
        self.gold: collections.Counter[int] = collections.Counter()
        self.totals: collections.Counter[str] = collections.Counter()

    def add(self, p: Prediction) -> None:
        if not self.totals:
            self.absent = tuple(name for name in METRICS_OF_FIELDS if getattr(p, name) is None)
        steps, top = p.item_steps or (), p.recommender_top
        lengths = [len(step.top) for step in steps]
        self.reach["item_steps"] = min(self.reach["item_steps"], *lengths, math.inf)
        if top:
            self.reach["recommender_top"] = min(self.reach["recommender_top"], len(top))
        for counter in self.distinct:
            counter.add(p.generated_tokens)
        self.generated.update(p.generated_items)
        self.gold.update(p.reference_items)
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

    def is_beyond(self, name: str) -> bool:
        """Whether a metric's cut-off exceeds the length of the lists it is counted in."""
        stem, _, rest = name.partition("@")
        if not rest:
            return False
        of_steps = stem in ("rer", "prr", "f1") and "_refilled" not in rest
        reach = self.reach["item_steps" if of_steps else "recommender_top"]
        num_items = self.options.num_items
        return int(rest.split("_")[0]) > reach and (num_items is None or reach < num_items)

    def left_out(self) -> tuple[str, ...]:
        """What is not measured, and why: a short note each."""
        notes = [f"{METRICS_OF_FIELDS[name]} (no field {name})" for name in self.absent]
        for field, stem in (("item_steps", "rer"), ("recommender_top", "recall")):
            beyond = [k for k in self.options.ks if self.is_beyond(f"{stem}@{k}")]
            if beyond:
                cut_offs = " and ".join(f"@{k}" for k in beyond)
                notes.append(f"{cut_offs} of {field}, which lists {self.reach[field]} items")
        return tuple(notes)

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
