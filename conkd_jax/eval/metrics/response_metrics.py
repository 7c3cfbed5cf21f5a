"""Every metric of one response, as (sum, count) pairs by the name of the metric.

The formulas are in `items_in_responses`, `two_hop`, `refilling`, `ranking`, `words` and
`perplexity`; this file decides which of them a prediction has the fields for, and names them.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from conkd_jax.data.mentions import tokens
from conkd_jax.eval.metrics import items_in_responses, ranking, refilling
from conkd_jax.eval.metrics.items_in_responses import ItemResponse
from conkd_jax.eval.metrics.options import MetricOptions
from conkd_jax.eval.metrics.pairs import Number, Pair
from conkd_jax.eval.metrics.perplexity import nll_pairs, per_word_pairs, words_renormalised
from conkd_jax.eval.metrics.trivial import trivial_pairs
from conkd_jax.eval.metrics.two_hop import two_hop_response
from conkd_jax.eval.metrics.words import NGRAMS, bleu
from conkd_jax.eval.predictions import Prediction

DEPTHS = ((1, 2), (3, 4), (5, 8), (9, math.inf))  # merged-turn indices, from 0


def response_pairs(p: Prediction, options: MetricOptions) -> dict[str, Pair]:
    """Every (sum, count) pair of one response, by the name of the metric it is added to.

    Names depend on the fields of the prediction and on the options alone, never on their values: a
    metric with nothing to count has the pair (0, 0). So the pairs of a run can be stacked.
    """
    pairs = (
        _item_pairs(p, options)
        | _recommender_pairs(p, options)
        | _word_pairs(p)
        | _nll_pairs(p, options.max_response_tokens)
        | _turn_type_pairs(p)
        | trivial_pairs(p, options)
    )
    for first, last in DEPTHS:  # the same pairs, with nothing to count outside the range
        for k in options.ks:
            for name in (f"rer@{k}", f"recall@{k}"):
                if name in pairs:
                    pair = pairs[name] if first <= p.turn <= last else (0, 0)
                    pairs[f"{name}_turns_{depth_name(first, last)}"] = pair
    return pairs


def depth_name(first: int, last: Number) -> str:
    """Returns "1-2" for an inclusive range of turns, "9+" for an open one."""
    return f"{first}+" if math.isinf(last) else f"{first}-{int(last)}"


def _item_pairs(p: Prediction, options: MetricOptions) -> dict[str, Pair]:
    """ReR, PrR, F1 and their variants: each variant is the same formula on another view."""
    gold, items = p.reference_items, p.generated_items
    if p.item_steps is None:  # only the best item of each step is known: the one that was said
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
        views["_novel"] = items_in_responses.novel_response(gold, items, tops, mentioned)
        if options.neighbours is not None:
            views["_2hop"] = two_hop_response(gold, tops, mentioned, options.neighbours)
    if p.recommender_top is not None:
        for rule, suffix in refilling.SUFFIXES.items():
            filled = refilling.slot_rankings(p.recommender_top, len(items), rule)
            views[suffix] = ItemResponse.of(gold, filled)
    functions = {
        "rer": items_in_responses.rer,
        "prr": items_in_responses.prr,
        "f1": items_in_responses.f1,
    }
    pairs: dict[str, Pair] = {}
    for k in ks:
        for name, function in functions.items():
            for suffix, view in views.items():
                if (name, suffix) != ("prr", "_all"):  # no gold item is in PrR's denominator
                    pairs[f"{name}@{k}{suffix}"] = function(view, k)
            pairs[f"{name}@{k}_pairs"] = function(response, k, "pairs")
        pairs[f"rer@{k}_original"] = items_in_responses.rer_original(response, k)
    pairs["rec_ratio"] = items_in_responses.rec_ratio(response)
    pairs["items_per_response"] = items_in_responses.items_per_response(response)
    pairs["item_slots_per_response"] = items_in_responses.item_slots_per_response(
        response, is_empty=not p.generated.strip()
    )
    if p.mentioned_items is not None:
        mentioned = set(p.mentioned_items)
        pairs["repeated_items"] = items_in_responses.repeated_items(items, mentioned)
        pairs["repeated_gold_items"] = items_in_responses.repeated_items(gold, mentioned)
    if p.recommender_top is not None:
        pairs["mismatch"] = items_in_responses.mismatch(items, p.recommender_top)
    return pairs


def _recommender_pairs(p: Prediction, options: MetricOptions) -> dict[str, Pair]:
    """Recall, MRR and NDCG over every gold item; all are missed where the recommender is silent."""
    if p.recommender_top is None:
        return {}
    unsayable = p.reference_items_out_of_vocabulary or ()
    targets = (*p.reference_items, *unsayable)
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


def _word_pairs(p: Prediction) -> dict[str, Pair]:
    reference = tokens(p.reference)
    pairs: dict[str, Pair] = {
        "generated_length": (len(p.generated_tokens), 1),
        "reference_length": (len(reference), 1),
    }
    for n in NGRAMS:
        pairs[f"bleu-{n}"] = bleu(p.generated_tokens, reference, n)
    return pairs


def _nll_pairs(p: Prediction, max_response_tokens: int) -> dict[str, Pair]:
    if p.token_nll is None:
        return {}
    nll = np.array(p.token_nll, dtype=np.float64)
    pairs: dict[str, Pair] = {"ppl": (float(nll.sum()), nll.size)}
    if p.token_is_item is not None:
        is_item = np.array(p.token_is_item, dtype=bool)
        pairs |= nll_pairs(nll, is_item)
        if p.token_item_mass is not None:
            pairs |= _mass_pairs(nll, is_item, np.array(p.token_item_mass, dtype=np.float64))
    if p.token_nll_predprefix is not None:
        predicted = np.array(p.token_nll_predprefix, dtype=np.float64)
        pairs["ppl_predprefix"] = (float(predicted.sum()), predicted.size)
    per_word = per_word_pairs(nll, len(tokens(p.reference)), len(p.reference))
    is_whole = is_scored_whole(p, max_response_tokens)
    return pairs | (per_word if is_whole else dict.fromkeys(per_word, (0, 0)))


def is_scored_whole(p: Prediction, max_response_tokens: int) -> bool:
    """Whether the whole reference was scored, and not only its first tokens.

    It has at least one token for each piece between spaces and one for its end, and fewer than a
    reference is cut to.
    """
    scored = len(p.token_nll or ())
    return len(p.reference.split()) < scored < max_response_tokens


def _mass_pairs(nll: np.ndarray, is_item: np.ndarray, mass: np.ndarray) -> dict[str, Pair]:
    """The system's own λ, and the perplexity of words under the softmax over words alone.

    The renormalised NLL is undefined where items take all of the mass; such words are not counted.
    """
    on_items, on_words = mass[is_item], mass[~is_item]
    has_words = on_words < 1
    renormalised = words_renormalised(nll[~is_item][has_words], on_words[has_words])
    return {
        "ppl_words_renormalised": (float(renormalised.sum()), renormalised.size),
        "student_lambda_r": (float(on_items.sum()), on_items.size),
        "student_lambda_v": (float(on_words.sum()), on_words.size),
    }


def _turn_type_pairs(p: Prediction) -> dict[str, Pair]:
    is_predicted = p.predicted_turn_type is not None
    is_right = is_predicted and p.predicted_turn_type == p.turn_type
    return {"classifier_accuracy": (int(is_right), int(is_predicted))}
