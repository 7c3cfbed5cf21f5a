"""The order in which one run's metrics are printed, and their digits."""

from __future__ import annotations

from collections.abc import Mapping

_AT_K = tuple(f"{name}@{k}" for name in ("rer", "prr", "f1") for k in (1, 10, 50))
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "new items in responses": (
        "f1@1_novel",
        "f1@10_novel",
        "f1@50_novel",
        "repeated_items",
        "repeated_gold_items",
    ),
    "items in responses": (*_AT_K, "rec_ratio", "mismatch"),
    "trivial lists at the same steps": (
        "f1@10_novel_popularity",
        "f1@10_novel_chance",
        "f1@10_popularity",
        "f1@10_repeat",
        "f1@10_chance",
    ),
    "… counted differently": (
        "f1@10_all",
        "f1@10_pairs",
        "f1@10_2hop",
        "f1@10_2hop_popularity",
        "f1@10_2hop_chance",
        "f1@10_refilled",
        "rer@10_original",
        "items_per_response",
    ),
    "the recommender alone": (
        "recall@1",
        "recall@10",
        "recall@50",
        "recall@10_popularity",
        "recall@10_repeat",
        "mrr@50",
        "ndcg@50",
    ),
    "words": ("dist-1", "dist-2", "dist-3", "dist-4", "generated_length"),
    "gold responses": ("ppl", "ppl_predprefix", "ppl_words", "ppl_item", "bits_per_character"),
    "all items together": ("coverage", "gini", "popularity_bias"),
    "gate and turn prefix": (
        "lambda_r",
        "lambda_v",
        "classifier_accuracy",
        "classifier_base_rate",
    ),
}
_TWO_DIGITS = ("ppl", "generated_length", "reference_length")


def printed_number(name: str, value: float) -> str:
    """Returns a metric as it is printed: perplexities and lengths with two digits, others three.

    >>> printed_number("ppl_words", 41.1726), printed_number("f1@10", 0.0734)
    ('41.17', '0.073')
    """
    return f"{value:.2f}" if name.startswith(_TWO_DIGITS) else f"{value:.3f}"
