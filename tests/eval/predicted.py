"""Predictions made by hand and at random, and their statistics."""

from collections.abc import Iterable, Iterator

import numpy as np

from conkd_jax.data.mentions import tokens as tokens_of
from conkd_jax.eval.metrics.options import MetricOptions
from conkd_jax.eval.metrics.run_metrics import run_statistics
from conkd_jax.eval.metrics.statistics import RunStatistics
from conkd_jax.eval.predictions import ItemStep, Prediction

A, B, C, D, E, M = 10, 11, 12, 13, 14, 15


def prediction(turn=1, gold=(), tops=(), dialogue="d", **fields) -> Prediction:
    """A response with the given gold items and top items of each item step; the rest is plain."""
    items = [top[0] for top in tops]
    generated = fields.pop("generated", " ".join(f"@{item}" for item in items) or "hello there")
    reference = fields.pop("reference", " ".join(f"@{item}" for item in gold) or "hi")
    defaults = {
        "conversation_id": dialogue,
        "turn": turn,
        "turn_type": "rec" if gold else "gen",
        "predicted_turn_type": None,
        "context": (),
        "mentioned_items": (),
        "reference": reference,
        "reference_items": tuple(gold),
        "reference_items_out_of_vocabulary": (),
        "generated": generated,
        "generated_tokens": tuple(tokens_of(generated)),
        "generated_items": tuple(items),
        "item_steps": tuple(ItemStep(i, top[0], tuple(top)) for i, top in enumerate(tops)),
        "recommender_top": (),
        "token_nll": (),
        "token_is_item": (),
    }
    return Prediction(**(defaults | fields))


def random_run(num_dialogues, seed=0, hit_rate=0.3, per_dialogue=5) -> Iterator[Prediction]:
    """Responses of the size of real ones, one at a time: 50 items of 6,000 at every item step."""
    rng = np.random.default_rng(seed)
    catalogue_ids = np.arange(1000, 7000)
    for dialogue in range(num_dialogues):
        for turn in range(1, 2 * per_dialogue, 2):
            top = rng.choice(catalogue_ids, 50, replace=False).tolist()
            is_rec = rng.random() < 0.5
            gold = (top[int(rng.integers(50))],) if rng.random() < hit_rate else (1,)
            tokens = rng.choice(["you", "see", "a", "movie", "I", "like"], 8).tolist()
            tops = [top] if rng.random() < 0.5 else []
            yield prediction(
                turn,
                gold if is_rec else (),
                tops,
                dialogue=str(dialogue),
                generated=" ".join([*tokens, *(f"@{top[0]}" for _ in tops)]),
                recommender_top=tuple(top),
                token_nll=tuple(rng.exponential(3, 9).tolist()),
                token_is_item=(False,) * 8 + (is_rec,),
            )


def statistics_of(run: Iterable[Prediction], **options) -> RunStatistics:
    """Statistics of a run; `options` are fields of `MetricOptions`."""
    return run_statistics(run, MetricOptions(**options))


def metrics_of(run: Iterable[Prediction], **options) -> dict[str, float]:
    """Metrics of a run by name; `options` are fields of `MetricOptions`."""
    return statistics_of(run, **options).metrics()
