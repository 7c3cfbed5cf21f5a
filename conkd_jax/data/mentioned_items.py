"""The items that a dialogue mentions before each of its responses.

Decoding may forbid them, a teacher may be masked to the others, and a prediction lists them. All
three use what is found here. This module is independent of models and batches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from conkd_jax.data.dialogues import Dialogue, responses
from conkd_jax.data.recommender_inputs import last_distinct
from conkd_jax.data.vocabulary import Vocabulary


def mentioned_before(dialogue: Dialogue, turn: int) -> list[int]:
    """Returns the distinct items that a dialogue mentions before a turn, the most recent last."""
    mentions = [item for past in dialogue.turns[:turn] for item in past.items]
    return last_distinct(mentions, limit=len(mentions))


def mentioned_with_token(vocabulary: Vocabulary, dialogue: Dialogue, turn: int) -> list[int]:
    """Returns those of `mentioned_before` that have a token, as numbers from 0 to I - 1."""
    numbers = (vocabulary.item_numbers[item] for item in mentioned_before(dialogue, turn))
    return [int(number) for number in numbers if number >= 0]


def mentioned_items(
    dialogues: Sequence[Dialogue], vocabulary: Vocabulary
) -> Int32[np.ndarray, "N K"]:
    """Returns the items with a token that are mentioned before each response of a split.

    The whole history counts, the seeker's turns included; the response itself does not.

    Args:
      dialogues: the dialogues of the split, in order.
      vocabulary: which items have a token.

    Returns:
      Numbers from 0 to I - 1, in the order of the responses; I is padding. K is the most items
      before any response, at least 1.
    """
    found = [
        mentioned_with_token(vocabulary, dialogue, turn)
        for dialogue in dialogues
        for turn in responses(dialogue)
    ]
    width = max([1, *map(len, found)])
    padded = np.full((len(found), width), vocabulary.num_items, np.int32)
    for row, items in zip(padded, found, strict=True):
        row[: len(items)] = items
    return padded
