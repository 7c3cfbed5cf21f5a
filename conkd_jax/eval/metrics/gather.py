"""From predictions to numbers: every metric of a scored run, by its flat name.

The metrics themselves, with formula, source and worked example, are pure functions in `matching`
(items in responses), `ranking` (the recommender), `text` (words) and `catalogue` (all items
together); this file says which of them a run reports and under which name. It reads predictions
only, one at a time, and keeps sums: no model, no graph; what a prediction does not hold (2-hop
neighbours, popularity, the catalogue's size) is handed in. docs/metrics.md tells the names to who
reads a table.

Names, for k in 1, 10, 50 and n in 1…4:

* `rer@k`, `prr@k`, `f1@k`, one-to-one matching, gold items of the vocabulary (the paper's Table 2);
  `…_pairs` counts every pair, `…_all` has gold items out of the vocabulary in the denominator,
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
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from conkd_jax.eval.metrics import catalogue, ranking, refilling
from conkd_jax.eval.metrics import items as matching
from conkd_jax.eval.metrics import words as text
from conkd_jax.eval.metrics.items import ItemResponse, Pair
from conkd_jax.eval.metrics.resampling import RunStatistics
from conkd_jax.eval.predictions import TOP_ITEMS, Prediction, word_tokens

KS = (1, 10, 50)
DEPTHS = ((1, 2), (3, 4), (5, 8), (9, math.inf))  # merged-turn indices, from 0
NGRAMS = (1, 2, 3, 4)
NEEDS: Mapping[str, str] = {  # what is not measured for want of a field
    "item_steps": "ReR, PrR and F1 beyond @1",
    "mentioned_items": "novel-only and 2-hop ReR, PrR and F1",
    "reference_items_out_of_vocabulary": "ReR and F1 over all gold items",
    "recommender_top": "recall, MRR, NDCG and mismatch",
    "token_nll": "perplexities",
    "token_is_item": "perplexity of words and of items",
    "token_nll_predprefix": "perplexity under the predicted prefix",
    "token_item_mass": "perplexity over words alone, the system's own λ",
}


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
        words and characters are not all scored: it is left out of `ppl_per_word` and
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
      without a recommender) is left out; ReR, PrR and F1 without generated items are 0. So is one
      whose cut-off k is beyond the shortest list of items that some response gives, unless that
      list is the whole catalogue.

    Raises:
      ValueError: if there is no prediction, a response comes twice, or fields are there in some and
        not in others.
    """
    return gather(predictions, **options).metrics()


def gather(predictions: Iterable[Prediction], **options) -> RunStatistics:
    """The (sum, count) pairs of every dialogue: for metrics, intervals and paired tests.

    Args, Raises: as `compute`.
    """
    options = Options(**options)
    whole = _Whole(options)
    names: tuple[str, ...] = ()
    dialogues: dict[str, np.ndarray] = {}  # [metrics, 2] each
    turns: dict[str, set[int]] = {}
    for prediction in predictions:
        pairs = _pairs(prediction, options)
        names = names or tuple(pairs)
        if tuple(pairs) != names:
            different = ", ".join(sorted(set(pairs) ^ set(names)))
            raise ValueError(
                f"predictions: expected the same fields in every response, got {prediction.key} "
                f"whose fields allow other metrics than the first one's: {different}"
            )
        added = np.array(list(pairs.values()), dtype=np.float64)
        if prediction.conversation_id in dialogues:
            dialogues[prediction.conversation_id] += added
        else:
            dialogues[prediction.conversation_id] = added
        answered = turns.setdefault(prediction.conversation_id, set())
        if prediction.turn in answered:
            raise ValueError(
                f"predictions: expected each response once, got {prediction.key} again"
            )
        answered.add(prediction.turn)
        whole.add(prediction)
    if not names:
        raise ValueError("predictions: expected at least one response, got none")
    order = sorted(dialogues)
    added = np.stack([dialogues[name] for name in order])  # [D, metrics, 2]
    kept = [i for i, name in enumerate(names) if not whole.is_beyond(name)]
    return RunStatistics(
        turns={name: frozenset(turns[name]) for name in order},
        names=tuple(names[i] for i in kept),
        sums=added[:, kept, 0],
        counts=added[:, kept, 1],
        whole=whole.metrics(),
        totals=dict(whole.totals) | {"dialogues": len(order)},
        left_out=whole.left_out(),
    )


def _pairs(p: Prediction, options: Options) -> dict[str, Pair]:
    """Every (sum, count) pair of one response, by the name of the metric it goes into."""
    pairs = (
        _item_pairs(p, options)
        | _recommender_pairs(p, options)
        | _word_pairs(p, options.max_response_tokens)
    )
    for first, last in DEPTHS:  # the same pairs, nothing to count outside the range
        for k in options.ks:
            for name in (f"rer@{k}", f"recall@{k}"):
                if name in pairs:
                    pair = pairs[name] if first <= p.turn <= last else (0, 0)
                    pairs[f"{name}_turns_{ranking.depth_name(first, last)}"] = pair
    return pairs


def _item_pairs(p: Prediction, options: Options) -> dict[str, Pair]:
    gold, items = p.reference_items, p.generated_items
    if p.item_steps is None:  # what was said is the best item of its step, and no other is known
        ks, tops = [k for k in options.ks if k == 1], [(item,) for item in items]
    else:
        ks, tops = options.ks, [step.top for step in p.item_steps]
    response = ItemResponse.of(gold, tops)
    views = {"": response}
    if p.reference_items_out_of_vocabulary is not None:
        num_gold = len(gold) + len(p.reference_items_out_of_vocabulary)
        views["_all"] = dataclasses.replace(response, num_gold=num_gold)
    if p.mentioned_items is not None:
        mentioned = set(p.mentioned_items)
        views["_novel"] = matching.novel(gold, items, tops, mentioned)
        if options.neighbours is not None:
            views["_2hop"] = matching.two_hop(gold, tops, mentioned, options.neighbours)
    if p.recommender_top is not None:
        for rule, suffix in refilling.SUFFIXES.items():
            filled = refilling.rankings(p.recommender_top, len(items), rule)
            views[suffix] = ItemResponse.of(gold, filled)
    functions = {"rer": matching.rer, "prr": matching.prr, "f1": matching.f1}
    pairs: dict[str, Pair] = {}
    for k in ks:
        for name, function in functions.items():
            for suffix, view in views.items():
                if (name, suffix) != ("prr", "_all"):  # its denominator holds no gold item
                    pairs[f"{name}@{k}{suffix}"] = function(view, k)
            pairs[f"{name}@{k}_pairs"] = function(response, k, "pairs")
        pairs[f"rer@{k}_original"] = matching.rer_original(response, k)
    pairs["rec_ratio"] = matching.rec_ratio(response)
    pairs["items_per_response"] = matching.items_per_response(response)
    is_empty = not p.generated.strip()
    pairs["item_slots_per_response"] = matching.item_slots_per_response(response, is_empty)
    if p.recommender_top is not None:
        pairs["mismatch"] = matching.mismatch(items, p.recommender_top)
    return pairs


def _recommender_pairs(p: Prediction, options: Options) -> dict[str, Pair]:
    if p.recommender_top is None:
        return {}
    unsayable = p.reference_items_out_of_vocabulary or ()
    targets = (*p.reference_items, *unsayable) if p.recommender_top else ()
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
    pairs: dict[str, Pair] = {
        "generated_length": (len(p.generated_tokens), 1),
        "reference_length": (len(reference), 1),
    }
    for n in NGRAMS:
        pairs[f"bleu-{n}"] = text.bleu(p.generated_tokens, reference, n)
    if p.token_nll is not None:
        nll = np.array(p.token_nll, dtype=np.float64)
        pairs["ppl"] = (float(nll.sum()), nll.size)
        if p.token_is_item is not None:
            is_item = np.array(p.token_is_item, dtype=bool)
            pairs |= text.nll_pairs(nll, is_item)
            if p.token_item_mass is not None:
                pairs |= _mass_pairs(nll, is_item, np.array(p.token_item_mass, dtype=np.float64))
        if p.token_nll_predprefix is not None:
            predicted = np.array(p.token_nll_predprefix, dtype=np.float64)
            pairs["ppl_predprefix"] = (float(predicted.sum()), predicted.size)
        per_word = text.per_word_pairs(nll, len(reference), len(p.reference))
        is_whole = 0 < nll.size < max_response_tokens
        pairs |= per_word if is_whole else dict.fromkeys(per_word, (0, 0))
    is_predicted = p.predicted_turn_type is not None
    is_right = is_predicted and p.predicted_turn_type == p.turn_type
    pairs["classifier_accuracy"] = (int(is_right), int(is_predicted))
    return pairs


def _mass_pairs(nll: np.ndarray, is_item: np.ndarray, mass: np.ndarray) -> dict[str, Pair]:
    """What follows from the item mass at gold tokens: λ of the system, and its words by themselves.

    Where words have no probability left their renormalised NLL is not defined; none is counted.
    """
    on_items, on_words = mass[is_item], mass[~is_item]
    has_words = on_words < 1
    alone = text.words_renormalised(nll[~is_item][has_words], on_words[has_words])
    return {
        "ppl_words_renormalised": (float(alone.sum()), alone.size),
        "student_lambda_r": (float(on_items.sum()), on_items.size),
        "student_lambda_v": (float(on_words.sum()), on_words.size),
    }


class _Whole:
    """What is counted over all responses together: distinct n-grams, items, totals, and how far
    the shortest lists of items reach."""

    def __init__(self, options: Options):
        self.options = options
        self.absent: tuple[str, ...] = ()
        self.reach = {"item_steps": math.inf, "recommender_top": math.inf}
        self.distinct = [text.DistinctNgrams(n) for n in NGRAMS]
        self.generated: collections.Counter[int] = collections.Counter()
        self.gold: collections.Counter[int] = collections.Counter()
        self.totals: collections.Counter[str] = collections.Counter()

    def add(self, p: Prediction) -> None:
        if not self.totals:
            self.absent = tuple(field for field in NEEDS if getattr(p, field) is None)
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
        """Whether a metric's cut-off is beyond the lists that it is counted in."""
        stem, _, rest = name.partition("@")
        if not rest:
            return False
        of_steps = stem in ("rer", "prr", "f1") and "_refilled" not in rest
        reach = self.reach["item_steps" if of_steps else "recommender_top"]
        num_items = self.options.num_items
        return int(rest.split("_")[0]) > reach and (num_items is None or reach < num_items)

    def left_out(self) -> tuple[str, ...]:
        """What is not measured, and why, a few words each."""
        told = [f"{NEEDS[field]} (no field {field})" for field in self.absent]
        for field, stem in (("item_steps", "rer"), ("recommender_top", "recall")):
            beyond = [k for k in self.options.ks if self.is_beyond(f"{stem}@{k}")]
            if beyond:
                cut_offs = " and ".join(f"@{k}" for k in beyond)
                told.append(f"{cut_offs} of {field}, which lists {self.reach[field]} items")
        return tuple(told)

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
