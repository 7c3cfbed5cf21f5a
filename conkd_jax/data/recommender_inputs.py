"""Contexts and targets of the recommendation teacher, from dialogues to padded arrays.

A context exists for every response, with or without a movie, since the teacher store keeps a user
vector for each; a training sample is one movie mention of a response. Contexts hold ids of the
corpus' graphs; `RecIndex` says which of them a model keeps, and where. No model is known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from conkd_jax.data.corpus import Dialogue, responses

PADDING = -1


@dataclass(frozen=True)
class RecContexts:
    """What was said before each response of a split, in the split's order of responses.

    Attributes:
      entities: [N, Le] graph entity ids, most recent last, -1 for padding.
      concepts: [N, Lc] concept ids likewise.
      keys: (conversation id, turn) of each response.
    """

    entities: Int[np.ndarray, "N Le"]
    concepts: Int[np.ndarray, "N Lc"]
    keys: list[tuple[str, int]]

    def __len__(self) -> int:
        return len(self.entities)

    def take(self, responses: Int[np.ndarray, " n"]) -> RecContexts:
        """The contexts of some responses."""
        keys = [self.keys[response] for response in responses]
        return RecContexts(self.entities[responses], self.concepts[responses], keys)


@dataclass(frozen=True)
class RecTargets:
    """Movie mentions of responses: one sample each.

    Attributes:
      response: [S] index of the response whose context goes with the sample.
      item: [S] candidate index of the movie.
      is_novel: [S] whether the movie was not named earlier in the dialogue.
    """

    response: Int[np.ndarray, " S"]
    item: Int[np.ndarray, " S"]
    is_novel: Bool[np.ndarray, " S"]

    def __len__(self) -> int:
        return len(self.response)


@dataclass(frozen=True)
class RecIndex:
    """The graph nodes that a recommender keeps vectors of: all that can be scored or mentioned.

    Attributes:
      entities: [O] entity ids, the items' first.
      concepts: [C] concept ids, ascending.
      num_entities: of the whole knowledge graph.
      num_concepts: of the whole concept graph.
    """

    entities: Int[np.ndarray, " O"]
    concepts: Int[np.ndarray, " C"]
    num_entities: int
    num_concepts: int

    @classmethod
    def build(
        cls,
        item_entities: Int[np.ndarray, " M"],
        contexts: Sequence[RecContexts],
        *,
        num_entities: int,
        num_concepts: int,
        all_entities: bool = False,
    ) -> RecIndex:
        """Items, then whatever the contexts mention; every entity where `all_entities`."""
        others = np.arange(num_entities) if all_entities else _mentioned(contexts, "entities")
        items = np.asarray(list(dict.fromkeys(item_entities.tolist())), np.int64)
        return cls(
            np.concatenate([items, np.setdiff1d(others, items)]),
            _mentioned(contexts, "concepts"),
            num_entities,
            num_concepts,
        )

    def entity_rows(self, ids: Int[np.ndarray, "*N"]) -> Int[np.ndarray, "*N"]:
        """Row of each entity id; -1 for padding and for an entity that is not kept."""
        return _rows(self.entities, self.num_entities, ids)

    def concept_rows(self, ids: Int[np.ndarray, "*N"]) -> Int[np.ndarray, "*N"]:
        """Row of each concept id; -1 for padding and for a concept that is not kept."""
        return _rows(self.concepts, self.num_concepts, ids)


def last_distinct(ids: Iterable[int], limit: int) -> list[int]:
    """The `limit` distinct ids that were said last, each at its latest place, oldest first."""
    latest = dict.fromkeys(reversed(list(ids)))
    return list(latest)[:limit][::-1]


def build_contexts(
    dialogues: Sequence[Dialogue],
    *,
    is_stop_word: Bool[np.ndarray, " C"],
    max_entities: int,
    max_concepts: int,
) -> RecContexts:
    """The context of every response: entities and concepts of all earlier turns, de-duplicated.

    Args:
      dialogues: of one split, in order.
      is_stop_word: of every concept; stop words are left out.
      max_entities: the last ones that are kept.
      max_concepts: likewise, after stop words are gone.

    Returns:
      One row per response, in the canonical order (`responses` over the dialogues).
    """
    entity_rows, concept_rows, keys = [], [], []
    for dialogue in dialogues:
        for turn in responses(dialogue):
            earlier = dialogue.turns[:turn]
            entities = (entity for t in earlier for entity in t.entities)
            concepts = (c for t in earlier for c in t.concepts if not is_stop_word[c])
            entity_rows.append(last_distinct(entities, max_entities))
            concept_rows.append(last_distinct(concepts, max_concepts))
            keys.append((dialogue.conversation_id, turn))
    return RecContexts(
        _padded(entity_rows, max_entities), _padded(concept_rows, max_concepts), keys
    )


def build_targets(dialogues: Sequence[Dialogue]) -> RecTargets:
    """One sample per movie mention of a response, repeats kept, as `build_contexts` orders them."""
    samples = []
    index = 0
    for dialogue in dialogues:
        for turn in responses(dialogue):
            named = {item for t in dialogue.turns[:turn] for item in t.items}
            samples += [(index, item, item not in named) for item in dialogue.turns[turn].items]
            index += 1
    columns = np.array(samples, np.int64).reshape(-1, 3)
    return RecTargets(
        response=columns[:, 0].astype(np.int32),
        item=columns[:, 1].astype(np.int32),
        is_novel=columns[:, 2].astype(bool),
    )


def _mentioned(contexts: Sequence[RecContexts], field: str) -> Int[np.ndarray, " ids"]:
    parts = [np.unique(getattr(part, field)) for part in contexts]
    ids = np.unique(np.concatenate([np.zeros(0, np.int64), *parts]))
    return ids[ids != PADDING]


def _rows(kept: np.ndarray, num_ids: int, ids: np.ndarray) -> np.ndarray:
    row_of = np.full(num_ids + 1, PADDING, np.int32)  # the last place answers for padding
    row_of[kept] = np.arange(len(kept))
    return row_of[ids]


def _padded(rows: Sequence[Sequence[int]], length: int) -> Int[np.ndarray, "N L"]:
    padded = np.full((len(rows), length), PADDING, np.int32)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    return padded
