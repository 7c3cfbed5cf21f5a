"""Item refilling, what the paper's Appendix D argues against: speak first, recommend afterwards.

The items of a finished response are replaced by the recommender's for the turn. They are fixed over
the steps, so that they can't follow the text they stand in. Knows predictions and rankings; no
model and no file.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from conkd_jax.eval.predictions import ItemStep, Prediction, word_tokens

SUFFIXES: Mapping[str, str] = {"first": "_refilled", "in_order": "_refilled_in_order"}
RULES = tuple(SUFFIXES)
_ITEM = re.compile(r"@(\d+)")


def rankings(recommender_top: Sequence[int], num_slots: int, rule: str) -> list[tuple[int, ...]]:
    """The ranking that stands at each item slot of a response.

    `first`: every slot gets the recommender's best item (the paper's: top-k sampling with k = 1).
    `in_order`: slot i gets the i-th best; those before it come last in its ranking.

    >>> rankings([7, 8, 9], 2, "first"), rankings([7, 8, 9], 2, "in_order")
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

    Its words, and with them whether and where it recommends, stay. A turn for which the recommender
    gave no items stays as it is.

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
      ValueError: the rule is neither of `RULES`, or the prediction doesn't hold `item_steps` and
        `recommender_top`.
    """
    steps, top = prediction.item_steps, prediction.recommender_top
    if steps is None or top is None:
        raise ValueError(
            f"response {prediction.key}: expected the fields item_steps and recommender_top, which "
            "say where items stand and what the recommender would put there"
        )
    filled = rankings(top, len(steps), rule)
    if not top or not steps:
        return prediction
    olds, news = iter(prediction.generated_items), iter([ranking[0] for ranking in filled])
    old = next(olds, None)

    def replaced(match: re.Match) -> str:
        nonlocal old
        if int(match[1]) != old:  # a movie's id that the system spelt in words
            return match[0]
        old = next(olds, None)
        return f"@{next(news)}"

    text = _ITEM.sub(replaced, prediction.generated)
    return dataclasses.replace(
        prediction,
        generated=text,
        generated_tokens=tuple(word_tokens(text)),
        generated_items=tuple(ranking[0] for ranking in filled),
        item_steps=tuple(
            ItemStep(step.step, ranking[0], ranking)
            for step, ranking in zip(steps, filled, strict=True)
        ),
    )
