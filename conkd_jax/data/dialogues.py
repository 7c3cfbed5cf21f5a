"""A dialogue, its turns and responses, and how they are stored.

The words that every stage shares: what a turn is, and which turns are responses. This module must
not know files, splits, graphs or tokenizers.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from conkd_jax.data import shards as records

SEEKER, RECOMMENDER = "seeker", "recommender"
_ROLES = (SEEKER, RECOMMENDER)


@dataclasses.dataclass(frozen=True)
class Turn:
    """Consecutive messages of one speaker.

    Attributes:
      role: "seeker" or "recommender".
      text: the messages joined by a space, movies as "@123".
      items: candidate indices of the movies said, in order, repeats kept.
      unknown_items: the "@" ids that the movie list does not have.
      entities: graph nodes in order of appearance: movies and linked text, repeats kept.
      concepts: concept ids in order of appearance, repeats kept.
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


@dataclasses.dataclass(frozen=True)
class Response:
    """One recommender turn with a history: what is trained on, decoded and scored.

    Attributes:
      conversation_id: the dialogue's id.
      turn: index of the merged turn in its dialogue, from 0.
    """

    conversation_id: str
    turn: int


def responses(dialogue: Dialogue) -> tuple[int, ...]:
    """Lists the turns of a dialogue that are responses: by the recommender, not the first turn.

    This is the canonical enumeration: response ids of a split count these over its dialogues in
    order.

    Args:
      dialogue: a dialogue with merged turns.

    Returns:
      Turn indices, ascending.
    """
    return tuple(
        index for index, turn in enumerate(dialogue.turns) if index > 0 and turn.role == RECOMMENDER
    )


def dialogue_features() -> records.Features:
    """Returns the schema of a stored dialogue.

    Lists of ids run over the whole dialogue, one after another; `num_…` says how many belong to
    each turn.
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


def to_record(dialogue: Dialogue) -> dict[str, Any]:
    """Returns the stored form of a dialogue, as `dialogue_features` describes it."""
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


def from_record(record: Mapping[str, Any]) -> Dialogue:
    """Returns the dialogue of a stored form: the inverse of `to_record`."""
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
