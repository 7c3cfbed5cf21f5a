"""Dialogues, turns and responses, and the form in which they are stored.

The definitions that every stage shares: what a turn is, and which turns are responses. This module
is independent of files, splits, graphs and tokenizers.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from conkd_jax.data.shards.layout import Features

SEEKER, RECOMMENDER = "seeker", "recommender"
_ROLES = (SEEKER, RECOMMENDER)


@dataclasses.dataclass(frozen=True)
class Turn:
    """Consecutive messages of one speaker.

    Attributes:
      role: "seeker" or "recommender".
      text: the messages joined by a space, items as "@123".
      items: candidate indices of the items mentioned, in order, with repeats.
      unknown_items: the "@" ids that are not in the item list.
      entities: graph nodes of items and linked words, in order of appearance, with repeats.
      concepts: concept ids in order of appearance, with repeats.
    """

    role: str
    text: str
    items: tuple[int, ...] = ()
    unknown_items: tuple[int, ...] = ()
    entities: tuple[int, ...] = ()
    concepts: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Dialogue:
    """A conversation of alternating merged turns."""

    conversation_id: str
    turns: tuple[Turn, ...]


def responses(dialogue: Dialogue) -> tuple[int, ...]:
    """Returns the turns of a dialogue that are responses: the recommender's, except a first turn.

    Responses are what is trained on, decoded and scored. This is their canonical order: the
    response ids of a split count these turns over its dialogues in file order.

    Args:
      dialogue: a dialogue with merged turns.

    Returns:
      Turn indices, ascending.
    """
    return tuple(
        index for index, turn in enumerate(dialogue.turns) if index > 0 and turn.role == RECOMMENDER
    )


def dialogue_features() -> Features:
    """Returns the schema of a stored dialogue.

    The id lists of all turns are concatenated; `num_…` holds how many ids belong to each turn.
    """
    int32 = tfds.features.Tensor(shape=(None,), dtype=np.int32)
    int64 = tfds.features.Tensor(shape=(None,), dtype=np.int64)
    return tfds.features.FeaturesDict(
        {
            "conversation_id": tfds.features.Text(),
            "roles": tfds.features.Tensor(shape=(None,), dtype=np.uint8),
            "texts": tfds.features.Sequence(tfds.features.Text()),
            "items": int32,
            "num_items": int32,
            "unknown_items": int64,
            "num_unknown_items": int32,
            "entities": int32,
            "num_entities": int32,
            "concepts": int32,
            "num_concepts": int32,
        }
    )


def dialogue_to_record(dialogue: Dialogue) -> dict[str, Any]:
    """Returns the record of a dialogue, with the schema `dialogue_features`."""
    turns = dialogue.turns
    record: dict[str, Any] = {
        "conversation_id": dialogue.conversation_id,
        "roles": np.array([_ROLES.index(turn.role) for turn in turns], np.uint8),
        "texts": [turn.text for turn in turns],
    }
    for key, dtype in (
        ("items", np.int32),
        ("unknown_items", np.int64),
        ("entities", np.int32),
        ("concepts", np.int32),
    ):
        parts: list[tuple[int, ...]] = [getattr(turn, key) for turn in turns]
        record[key] = np.array([value for part in parts for value in part], dtype)
        record[f"num_{key}"] = np.array([len(part) for part in parts], np.int32)
    return record


def dialogue_from_record(record: Mapping[str, Any]) -> Dialogue:
    """Returns the dialogue of a record: the inverse of `dialogue_to_record`."""
    columns = {
        key: _cut(record[key], record[f"num_{key}"])
        for key in ("items", "unknown_items", "entities", "concepts")
    }
    turns = tuple(
        Turn(role=_ROLES[role], text=text, **{key: column[i] for key, column in columns.items()})
        for i, (role, text) in enumerate(zip(record["roles"], record["texts"], strict=True))
    )
    return Dialogue(record["conversation_id"], turns)


def _cut(values: np.ndarray, lengths: np.ndarray) -> list[tuple[int, ...]]:
    plain, parts, start = values.tolist(), [], 0
    for length in lengths.tolist():
        parts.append(tuple(plain[start : start + length]))
        start += length
    return parts
