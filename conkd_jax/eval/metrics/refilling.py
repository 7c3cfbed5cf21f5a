"""Item refilling: generate a response first, then let the recommender fill in the items.

The paper's Appendix D argues against it. The items of a finished response are replaced by the
recommender's items for the turn, which are the same at every step and so cannot depend on the text
around them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from conkd_jax.data.mentions import replace_mentions, tokens
from conkd_jax.eval.predictions import ItemStep, Prediction

SUFFIXES: Mapping[str, str] = {"first": "_refilled", "in_order": "_refilled_in_order"}
RULES = tuple(SUFFIXES)


def slot_rankings(
    recommender_top: Sequence[int], num_slots: int, rule: str
) -> list[tuple[int, ...]]:
    """The recommender's ranking at each item slot of a response.

    `first`: every slot gets the recommender's best item (the paper's: top-k sampling with k = 1).
    `in_order`: slot i gets the i-th best item; the better ones move to the end of its ranking.

    >>> slot_rankings([7, 8, 9], 2, "first"), slot_rankings([7, 8, 9], 2, "in_order")
    ([(7, 8, 9), (7, 8, 9)], [(7, 8, 9), (8, 9, 7)])

    Raises:
      ValueError: the rule is neither.

    Source: the paper's Appendix D and its footnote 4; `in_order` is ours.
    """
    if rule not in RULES:
        raise ValueError(f"rule: expected one of {', '.join(RULES)}, got {rule!r}")
    top = tuple(recommender_top)
    shifts = range(num_slots) if rule == "in_order" else [0] * num_slots
    return [top[shift % len(top) :] + top[: shift % len(top)] if top else () for shift in shifts]


def refill(prediction: Prediction, rule: str = "first") -> Prediction:
    """The same response with the recommender's items in its slots.

    Its words are unchanged, and with them whether and where it recommends.

    >>> spoken = Prediction(
    ...     conversation_id="1", turn=1, turn_type="rec", reference="@9", reference_items=(9,),
    ...     generated="see @7 or @8", generated_tokens=("see", "@7", "or", "@8"),
    ...     generated_items=(7, 8), item_steps=(ItemStep(1, 7, (7,)), ItemStep(3, 8, (8,))),
    ...     recommender_top=(5, 6),
    ... )
    >>> refill(spoken).generated, refill(spoken, "in_order").generated
    ('see @5 or @5', 'see @5 or @6')

    Source: the paper's Appendix D.

    Raises:
      ValueError: the rule is neither of `RULES`, the prediction has no `item_steps` or no
        `recommender_top`, or the recommender has no item for the slots of the response.
    """
    steps, top = prediction.item_steps, prediction.recommender_top
    if steps is None or top is None:
        raise ValueError(
            f"response {prediction.key}: expected the fields item_steps and recommender_top, which "
            "say where the items are and what the recommender would put there"
        )
    filled = slot_rankings(top, len(steps), rule)
    if not steps:
        return prediction
    if not top:
        raise ValueError(
            f"response {prediction.key}: expected at least one item in recommender_top for its "
            f"{len(steps)} item slots, got none"
        )
    news = iter([ranking[0] for ranking in filled])
    text = replace_mentions(prediction.generated, lambda _: f"@{next(news)}")
    return msgspec.structs.replace(
        prediction,
        generated=text,
        generated_tokens=tuple(tokens(text)),
        generated_items=tuple(ranking[0] for ranking in filled),
        item_steps=tuple(
            ItemStep(step.step, ranking[0], ranking)
            for step, ranking in zip(steps, filled, strict=True)
        ),
    )
