"""From predictions to numbers: every metric of a scored run, by its flat name.

The metrics themselves, with formula, source and worked example, are pure functions in `matching`
(items in responses), `ranking` (the recommender), `text` (words) and `catalogue` (all items
together); this file says which of them a run reports and under which name. It reads predictions
only: no model, no graph; what a prediction does not hold (2-hop neighbours, popularity, the
  catalogue's size) is handed in.

Names, for k in 1, 10, 50 and n in 1…4:

* `rer@k`, `prr@k`, `f1@k`, one-to-one matching, gold items of the vocabulary (the paper's Table 2);
  `…_pairs` counts every pair, `…_all` has gold items out of the vocabulary in the denominator,
  `…_novel` leaves out what was mentioned before, `…_2hop` counts 2-hop neighbours (Table 4);
  `rer@k_original` (Table 8); `rer@k_turns_1-2` by merged-turn index
* `rec_ratio`, `items_per_response` (NTRD's item ratio), `item_slots_per_response` (UniCRS'),
  `mismatch`
* `recall@k`, `mrr@k`, `ndcg@k` of the recommender over all gold items, `recall@k_linked` over those
  that have an entity, `recall@k_turns_1-2`
* `dist-n` (per n-gram), `dist-n_original` (per response), `bleu-n`, `generated_length`,
  `reference_length`
* `ppl`, `ppl_words`, `ppl_item`, `ppl_per_word`, `bits_per_character`
* `coverage`, `gini`, `popularity_bias`, `distinct_items`, `classifier_accuracy`,
  `classifier_base_rate`
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from conkd_jax.eval import catalogue, matching, ranking, text
from conkd_jax.eval.matching import ItemResponse, Pair
from conkd_jax.eval.predictions import TOP_ITEMS, Prediction, word_tokens
from conkd_jax.eval.resampling import ResponseStatistics

KS = (1, 10, 50)
DEPTHS = ((1, 2), (3, 4), (5, 8), (9, math.inf))  # merged-turn indices, from 0
NGRAMS = (1, 2, 3, 4)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the metrics need and predictions do not hold. What is None leaves its metrics out.

    Attributes:
      ks: cut-offs, at most 50: the length of the stored rankings.
      num_items: size of the item vocabulary; for `coverage` and `gini`.
      popularity: mentions of each item in the training split; for `popularity_bias`.
      neighbours: items within two hops of an item in the graph, any relation; for `…_2hop`.
      linked_items: items with an entity; for `recall@k_linked`, which KGSF reports.
      max_response_tokens: a reference with this many scored tokens or more was cut, so that its
        words
        and characters are not all scored: it is left out of `ppl_per_word` and
          `bits_per_character`.
    """

    ks: Sequence[int] = KS
    num_items: int | None = None
    popularity: Mapping[int, int] | None = None
    neighbours: Mapping[int, Collection[int]] | None = None
    linked_items: Collection[int] | None = None
    max_response_tokens: int = 30

    def __post_init__(self):
        if not self.ks or min(self.ks) < 1 or max(self.ks) > TOP_ITEMS:
            raise ValueError(
                f"ks: expected cut-offs from 1 to {TOP_ITEMS}, the length of the rankings that "
                f"predictions hold, got {tuple(self.ks)}"
            )


def compute(predictions: Iterable[Prediction], **options) -> dict[str, float]:
    """Every metric of one run, by the names in this file's head.

    Args:
      predictions: the responses of a split, in any order; read once.
      **options: fields of `Options`.

    Returns:
      Metrics that the predictions define. A metric with nothing to count (a recommender's recall
      without a recommender) is left out; ReR, PrR and F1 without generated items are 0.

    Raises:
      ValueError: if there is no prediction, or a response comes twice.
    """
    return gather(predictions, **options).metrics()


def gather(predictions: Iterable[Prediction], **options) -> ResponseStatistics:
    """The (sum, count) pairs of every response: for metrics, intervals and paired tests.

    Args, Raises: as `compute`.
    """
    options = Options(**options)
    keys, rows = [], []
    whole = _Whole(options)
    for prediction in predictions:
        keys.append(prediction.key)
        rows.append(_pairs(prediction, options))
        whole.add(prediction)
    if not rows:
        raise ValueError("predictions: expected at least one response, got none")
    if len(set(keys)) != len(keys):
        twice = collections.Counter(keys).most_common(1)[0][0]
        raise ValueError(f"predictions: expected each response once, got {twice} again")
    names = tuple(rows[0])
    pairs = np.array([list(row.values()) for row in rows], dtype=np.float64)  # [N, metrics, 2]
    names, sums, counts = _with_depths(names, pairs, np.array([turn for _, turn in keys]), options)
    totals = dict(whole.totals)
    totals["dialogues"] = len({conversation_id for conversation_id, _ in keys})
    return ResponseStatistics(tuple(keys), names, sums, counts, whole.metrics(), totals)


def _pairs(p: Prediction, options: Options) -> dict[str, Pair]:
    """Every (sum, count) pair of one response, by the name of the metric it goes into."""
    return (
        _item_pairs(p, options)
        | _recommender_pairs(p, options)
        | _word_pairs(p, options.max_response_tokens)
    )


def _item_pairs(p: Prediction, options: Options) -> dict[str, Pair]:
    gold, steps = p.reference_items, p.item_steps
    tops = [step.top for step in steps]
    items = [step.item for step in steps]
    response = ItemResponse.of(gold, tops)
    views = {
        "": response,
        "_all": dataclasses.replace(
            response, num_gold=len(gold) + len(p.reference_items_out_of_vocabulary)
        ),
        "_novel": matching.novel(gold, items, tops, set(p.mentioned_items)),
    }
    if options.neighbours is not None:
        views["_2hop"] = matching.two_hop(gold, tops, set(p.mentioned_items), options.neighbours)
    functions = {"rer": matching.rer, "prr": matching.prr, "f1": matching.f1}
    pairs: dict[str, Pair] = {}
    for k in options.ks:
        for name, function in functions.items():
            for suffix, view in views.items():
                if (name, suffix) != ("prr", "_all"):  # its denominator holds no gold item
                    pairs[f"{name}@{k}{suffix}"] = function(view, k)
            pairs[f"{name}@{k}_pairs"] = function(response, k, "pairs")
        pairs[f"rer@{k}_original"] = matching.rer_original(response, k)
    pairs["rec_ratio"] = matching.rec_ratio(response)
    pairs["items_per_response"] = (len(p.generated_items), 1)
    pairs["item_slots_per_response"] = (len(steps), 1)
    pairs["mismatch"] = matching.mismatch(items, p.recommender_top)
    return pairs


def _recommender_pairs(p: Prediction, options: Options) -> dict[str, Pair]:
    targets = (
        (*p.reference_items, *p.reference_items_out_of_vocabulary) if p.recommender_top else ()
    )
    ranks = ranking.target_ranks(targets, p.recommender_top)
    pairs: dict[str, Pair] = {}
    for k in options.ks:
        pairs[f"recall@{k}"] = (int(ranking.hits_at_k(ranks, k).sum()), ranks.size)
        if k > 1:
            pairs[f"mrr@{k}"] = (float(ranking.reciprocal_ranks(ranks, k).sum()), ranks.size)
            pairs[f"ndcg@{k}"] = (float(ranking.discounted_gains(ranks, k).sum()), ranks.size)
    if options.linked_items is not None:
        is_linked = np.array([target in options.linked_items for target in targets], dtype=bool)
        for k in options.ks:
            hits = ranking.hits_at_k(ranks[is_linked], k)
            pairs[f"recall@{k}_linked"] = (int(hits.sum()), hits.size)
    return pairs


def _word_pairs(p: Prediction, max_response_tokens: int) -> dict[str, Pair]:
    reference = word_tokens(p.reference)
    token_nll = np.array(p.token_nll, dtype=np.float64)
    pairs: dict[str, Pair] = {
        "generated_length": (len(p.generated_tokens), 1),
        "reference_length": (len(reference), 1),
    }
    for n in NGRAMS:
        pairs[f"bleu-{n}"] = text.bleu(p.generated_tokens, reference, n)
    pairs |= text.nll_pairs(token_nll, np.array(p.token_is_item, dtype=bool))
    pairs |= text.per_word_pairs(token_nll, len(reference), len(p.reference))
    if not 0 < token_nll.size < max_response_tokens:
        pairs |= {"ppl_per_word": (0.0, 0.0), "bits_per_character": (0.0, 0.0)}
    is_predicted = p.predicted_turn_type is not None
    pairs["classifier_accuracy"] = (
        float(is_predicted and p.predicted_turn_type == p.turn_type),
        float(is_predicted),
    )
    return pairs


def _with_depths(
    names: tuple[str, ...], pairs: np.ndarray, turns: np.ndarray, options: Options
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Adds `rer@k` and `recall@k` of each range of turns: the same pairs, 0 outside the range."""
    columns, parts = list(names), [pairs]
    for first, last in DEPTHS:
        inside = ((turns >= first) & (turns <= last)).astype(np.float64)[:, None, None]
        for k in options.ks:
            for name in (f"rer@{k}", f"recall@{k}"):
                columns.append(f"{name}_turns_{ranking.depth_name(first, last)}")
                parts.append(inside * pairs[:, [names.index(name)]])
    everything = np.concatenate(parts, axis=1)
    return tuple(columns), everything[..., 0], everything[..., 1]


class _Whole:
    """What is counted over all responses together: distinct n-grams, items, totals."""

    def __init__(self, options: Options):
        self.options = options
        self.distinct = [text.DistinctNgrams(n) for n in NGRAMS]
        self.generated: collections.Counter[int] = collections.Counter()
        self.gold: collections.Counter[int] = collections.Counter()
        self.totals: collections.Counter[str] = collections.Counter()

    def add(self, p: Prediction) -> None:
        for counter in self.distinct:
            counter.add(p.generated_tokens)
        self.generated.update(step.item for step in p.item_steps)
        self.gold.update(p.reference_items)
        self.totals.update(
            {
                "responses": 1,
                "gold_rec_turns": int(p.turn_type == "rec"),
                "predicted_turn_types": int(p.predicted_turn_type is not None),
                "gold_items": len(p.reference_items),
                "gold_item_responses": int(bool(p.reference_items)),
                "gold_items_out_of_vocabulary": len(p.reference_items_out_of_vocabulary),
                "generated_items": len(p.item_steps),
                "generated_item_responses": int(bool(p.item_steps)),
                "generated_tokens": len(p.generated_tokens),
                "target_tokens": len(p.token_nll),
                "target_item_tokens": sum(p.token_is_item),
            }
        )

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
