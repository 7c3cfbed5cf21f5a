"""Predictions made by hand, for the tests of everything that reads them."""

from conkd_jax.eval.predictions import ItemStep, Prediction, word_tokens

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
        "generated_tokens": tuple(word_tokens(generated)),
        "generated_items": tuple(items),
        "item_steps": tuple(ItemStep(i, top[0], tuple(top)) for i, top in enumerate(tops)),
        "recommender_top": (),
        "token_nll": (),
        "token_is_item": (),
    }
    return Prediction(**(defaults | fields))
