"""What a run has answered: which metrics its responses allow, and what is missing from the others.

No system chooses its own denominator. An item that is missing is missed: a turn without
recommendations misses its gold items. A likelihood that is missing can't be called high or low, so
the perplexities are measured only if every response has them. A ranking that is too short leaves
out the metrics beyond its length. A field that is empty in every response is absent.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping

from conkd_jax.eval.metrics.options import MetricOptions
from conkd_jax.eval.metrics.pairs import EXPONENTIAL
from conkd_jax.eval.metrics.response_metrics import is_scored_whole
from conkd_jax.eval.metrics.trivial import is_trivial
from conkd_jax.eval.prediction_checks import mentioned_ids
from conkd_jax.eval.predictions import Prediction

METRICS_OF_FIELDS: Mapping[str, str] = {  # what is not measured where a field is absent
    "item_steps": "ReR, PrR and F1 beyond @1",
    "mentioned_items": "novel-only and 2-hop ReR, PrR and F1, repetition",
    "reference_items_out_of_vocabulary": "ReR and F1 over all gold items",
    "recommender_top": "recall, MRR, NDCG and mismatch",
    "token_nll": "perplexities",
    "token_is_item": "perplexity of words and of items",
    "token_nll_predprefix": "perplexity under the predicted prefix",
    "token_item_mass": "perplexity over words alone, the system's own λ",
}
_OF_TOKENS = (*EXPONENTIAL, "bits_per_character", "student_lambda_r", "student_lambda_v")
_OF_RECOMMENDER = ("recall", "mrr", "ndcg", "mismatch")


class Answered:
    """Counts the responses that have each field, and the lengths of their rankings."""

    def __init__(self, options: MetricOptions):
        self._options = options
        self._absent: tuple[str, ...] = ()
        self._reach = {"item_steps": math.inf, "recommender_top": math.inf}
        self._counts: collections.Counter[str] = collections.Counter()
        self._unscored: tuple[str, int] | None = None  # the first response without `token_nll`

    def add(self, p: Prediction) -> None:
        """Adds a response."""
        if not self._counts:
            self._absent = tuple(name for name in METRICS_OF_FIELDS if getattr(p, name) is None)
        top, nll = p.recommender_top, p.token_nll
        lengths = [len(step.top) for step in p.item_steps or ()]
        self._reach["item_steps"] = min(self._reach["item_steps"], *lengths, math.inf)
        if top:
            self._reach["recommender_top"] = min(self._reach["recommender_top"], len(top))
        if not nll and self._unscored is None:
            self._unscored = p.key
        catalogue, gold = self._options.catalogue, mentioned_ids(p.reference)
        outside = [i for i in p.generated_items if catalogue is not None and i not in catalogue]
        is_whole = is_scored_whole(p, self._options.max_response_tokens)
        words = zip(p.token_is_item or (), p.token_item_mass or (), strict=False)
        self._counts.update(
            {
                "responses": 1,
                "recommended": int(bool(top)),
                "unrecommended_gold": 0 if top else len(gold),
                "scored": int(bool(nll)),
                "scored_whole": int(is_whole),
                "unsayable_words": sum(not is_item and mass >= 1 for is_item, mass in words),
                "empty": int(not p.generated.strip()),
                "outside": len(outside),
                "gold": len(gold),
                "counted_gold": len(p.reference_items),
            }
        )

    @property
    def num_outside(self) -> int:
        """The number of generated items outside the catalogue."""
        return self._counts["outside"]

    def leaves_out(self, name: str) -> bool:
        """Whether a metric is not measured, although every response has its field."""
        stem, _, rest = name.partition("@")
        if is_trivial(name):
            return False
        if name in _OF_TOKENS:
            return self._counts["scored"] < self._counts["responses"]
        of_recommender = stem in _OF_RECOMMENDER or "_refilled" in rest
        if of_recommender and not self._counts["recommended"]:
            return True
        return bool(rest) and self._is_beyond(
            int(rest.split("_")[0]), "recommender_top" if of_recommender else "item_steps"
        )

    def _is_beyond(self, k: int, field: str) -> bool:
        """Whether a cut-off exceeds the shortest list of a field, short of the whole catalogue."""
        reach, num_items = self._reach[field], self._options.num_items
        return k > reach and (num_items is None or reach < num_items)

    def left_out(self) -> tuple[str, ...]:
        """What is not measured, and why: a short note each."""
        count = self._counts
        notes = [f"{METRICS_OF_FIELDS[name]} (no field {name})" for name in self._absent]
        for field, answers in (("recommender_top", "recommended"), ("token_nll", "scored")):
            if field in self._absent or count[answers] == count["responses"]:
                continue
            if not count[answers]:
                notes.append(f"{METRICS_OF_FIELDS[field]} ({field} is empty in every response)")
            elif field == "token_nll":
                missing = count["responses"] - count[answers]
                notes.append(
                    f"{METRICS_OF_FIELDS[field]} ({field} is empty in {missing} of "
                    f"{count['responses']} responses, the first {self._unscored})"
                )
        for field in self._reach:
            beyond = [k for k in self._options.ks if self._is_beyond(k, field)]
            if beyond:
                cut_offs = " and ".join(f"@{k}" for k in beyond)
                notes.append(f"{cut_offs} of {field}, which lists {self._reach[field]} items")
        return tuple(notes)

    def notes(self) -> tuple[str, ...]:
        """What is missing from the metrics that are measured: a short note each."""
        count, notes = self._counts, []
        silent = count["responses"] - count["recommended"]
        if count["recommended"] and silent:
            notes.append(
                f"recommender_top is empty in {silent} of {count['responses']} responses: their "
                f"{count['unrecommended_gold']} gold items are missed"
            )
        if count["empty"]:
            notes.append(f"{count['empty']} of {count['responses']} responses are empty")
        if count["outside"]:
            notes.append(
                f"{count['outside']} generated items are not in the catalogue: they count as "
                "items in responses, and are left out of coverage, Gini and popularity"
            )
        if unknown := count["gold"] - count["counted_gold"]:
            notes.append(
                f"{unknown} of {count['gold']} gold items are outside the system's vocabulary: "
                "only the metrics named _all and those of the recommender count them"
            )
        if count["scored"] == count["responses"] and "token_nll" not in self._absent:
            cut = count["responses"] - count["scored_whole"]
            if cut:
                notes.append(
                    f"{cut} of {count['responses']} references are scored in part: ppl has only "
                    "their first tokens, ppl_per_word and bits_per_character leave them out"
                )
            if count["unsayable_words"]:
                notes.append(
                    f"{count['unsayable_words']} gold words have a token_item_mass of 1: "
                    "ppl_words_renormalised leaves them out"
                )
        return tuple(notes)
