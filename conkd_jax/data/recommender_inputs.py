"""Contexts and targets of the recommender, from dialogues to padded arrays.

Every response has a context, with or without an item, because the teacher store keeps a user vector
for each response. A training example is one item mention in a response. Contexts hold ids of the
corpus' graphs; `NodeIndex` maps them to the rows of a model's node vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from conkd_jax.data.corpus import Dialogue, responses

PADDING = -1


@dataclass(frozen=True)
class RecommenderContexts:
    """The entities and concepts before each response of a split, in the order of the responses.

    Attributes:
      entities: [N, Le] entity ids of the knowledge graph, most recent last, -1 for padding.
      concepts: [N, Lc] concept ids, in the same form.
      keys: (conversation id, turn) of each response.
    """

    entities: Int[np.ndarray, "N Le"]
    concepts: Int[np.ndarray, "N Lc"]
    keys: list[tuple[str, int]]

    def __len__(self) -> int:
        return len(self.entities)

    def take(self, responses: Int[np.ndarray, " n"]) -> RecommenderContexts:
        """Returns the contexts of the given responses."""
        keys = [self.keys[response] for response in responses]
        return RecommenderContexts(self.entities[responses], self.concepts[responses], keys)


@dataclass(frozen=True)
class RecommenderTargets:
    """Item mentions in responses: one training example each.

    Attributes:
      response: [S] index of the response, and so of its context.
      item: [S] candidate index of the item.
      is_novel: [S] whether the dialogue mentions the item here for the first time.
    """

    response: Int[np.ndarray, " S"]
    item: Int[np.ndarray, " S"]
    is_novel: Bool[np.ndarray, " S"]

    def __len__(self) -> int:
        return len(self.response)


@dataclass(frozen=True)
class NodeIndex:
    """The graph nodes that a recommender has vectors of, in the order of the vectors.

    Training keeps the nodes that it scores or reads (`build`); a trained recommender has vectors of
    every node (`extended`).

    Attributes:
      entities: [O] entity ids, those of the items first.
      concepts: [C] concept ids.
      num_entities: number of entities in the whole knowledge graph.
      num_concepts: number of concepts in the whole concept graph.
    """

    entities: Int[np.ndarray, " O"]
    concepts: Int[np.ndarray, " C"]
    num_entities: int
    num_concepts: int

    @classmethod
    def build(
        cls,
        item_entities: Int[np.ndarray, " M"],
        contexts: Sequence[RecommenderContexts],
        *,
        num_entities: int,
        num_concepts: int,
        all_entities: bool = False,
    ) -> NodeIndex:
        """Returns the index of the items and of everything that the contexts mention.

        Args:
          item_entities: the entity of each item; items may share one.
          contexts: the contexts of the training.
          num_entities: number of entities in the whole knowledge graph.
          num_concepts: number of concepts in the whole concept graph.
          all_entities: keeps every entity, mentioned or not.
        """
        others = np.arange(num_entities) if all_entities else _mentioned(contexts, "entities")
        items = np.asarray(list(dict.fromkeys(item_entities.tolist())), np.int64)
        return cls(
            np.concatenate([items, np.setdiff1d(others, items)]),
            _mentioned(contexts, "concepts"),
            num_entities,
            num_concepts,
        )

    def extended(
        self, entities: Int[np.ndarray, " o"], concepts: Int[np.ndarray, " c"]
    ) -> NodeIndex:
        """Returns the index with further entities and concepts at its end."""
        return NodeIndex(
            np.concatenate([self.entities, entities]),
            np.concatenate([self.concepts, concepts]),
            self.num_entities,
            self.num_concepts,
        )

    def entity_rows(self, ids: Int[np.ndarray, "*N"]) -> Int[np.ndarray, "*N"]:
        """Returns the row of each entity id, -1 for padding and for entities that are not kept."""
        return _rows(self.entities, self.num_entities, ids)

    def concept_rows(self, ids: Int[np.ndarray, "*N"]) -> Int[np.ndarray, "*N"]:
        """Returns the row of each concept id, -1 for padding and for concepts that are not kept."""
        return _rows(self.concepts, self.num_concepts, ids)


def last_distinct(ids: Iterable[int], limit: int) -> list[int]:
    """Returns the last `limit` distinct ids, ordered by their last occurrence, oldest first.

    >>> last_distinct([5, 7, 5, 9], limit=2)
    [5, 9]
    """
    latest = dict.fromkeys(reversed(list(ids)))
    return list(latest)[:limit][::-1]


def build_recommender_contexts(
    dialogues: Sequence[Dialogue],
    *,
    is_stop_word: Bool[np.ndarray, " C"],
    max_entities: int,
    max_concepts: int,
    item_entities: Int[np.ndarray, " M"] | None = None,
    review_concepts: Mapping[int, Sequence[int]] | None = None,
) -> RecommenderContexts:
    """Returns the context of every response: the entities and concepts of all earlier turns.

    Args:
      dialogues: the dialogues of one split, in order.
      is_stop_word: whether each concept is a stop word; those are left out.
      max_entities: how many distinct entities are kept, the most recent ones.
      max_concepts: how many distinct concepts are kept, the most recent ones.
      item_entities: the entity of each item, to keep only the entities of mentioned items; None
        keeps all, among them those of people and genres.
      review_concepts: the concepts of an item's review, which count as if they had been said at the
        end of each turn that mentions the item; None for no reviews.

    Returns:
      One row per response, in the canonical order (`responses` over the dialogues).
    """
    entity_rows, concept_rows, keys = [], [], []
    of_reviews = review_concepts or {}
    for dialogue in dialogues:
        said = [
            [*turn.concepts, *(c for item in turn.items for c in of_reviews.get(item, ()))]
            for turn in dialogue.turns
        ]
        for turn in responses(dialogue):
            earlier = dialogue.turns[:turn]
            if item_entities is None:
                entities = [entity for t in earlier for entity in t.entities]
            else:
                entities = [int(item_entities[item]) for t in earlier for item in t.items]
            concepts = (c for ids in said[:turn] for c in ids if not is_stop_word[c])
            entity_rows.append(last_distinct(entities, max_entities))
            concept_rows.append(last_distinct(concepts, max_concepts))
            keys.append((dialogue.conversation_id, turn))
    return RecommenderContexts(
        _padded(entity_rows, max_entities), _padded(concept_rows, max_concepts), keys
    )


def build_recommender_targets(
    dialogues: Sequence[Dialogue], *, distinct: bool = False
) -> RecommenderTargets:
    """Returns one example per item mention in a response.

    `response` counts as in `build_recommender_contexts`.

    Args:
      dialogues: the dialogues of one split, in order.
      distinct: whether an item that a response repeats is one example.
    """
    mentions = []
    index = 0
    for dialogue in dialogues:
        for turn in responses(dialogue):
            named = {item for t in dialogue.turns[:turn] for item in t.items}
            items = dialogue.turns[turn].items
            said = dict.fromkeys(items) if distinct else items
            mentions += [(index, item, item not in named) for item in said]
            index += 1
    columns = np.array(mentions, np.int64).reshape(-1, 3)
    return RecommenderTargets(
        response=columns[:, 0].astype(np.int32),
        item=columns[:, 1].astype(np.int32),
        is_novel=columns[:, 2].astype(bool),
    )


def _mentioned(contexts: Sequence[RecommenderContexts], field: str) -> Int[np.ndarray, " ids"]:
    parts = [np.unique(getattr(part, field)) for part in contexts]
    ids = np.unique(np.concatenate([np.zeros(0, np.int64), *parts]))
    return ids[ids != PADDING]


def _rows(kept: np.ndarray, num_ids: int, ids: np.ndarray) -> np.ndarray:
    # Padding is -1, so it reads the extra last place, which stays PADDING.
    row_of = np.full(num_ids + 1, PADDING, np.int32)
    row_of[kept] = np.arange(len(kept))
    return row_of[ids]


def _padded(rows: Sequence[Sequence[int]], length: int) -> Int[np.ndarray, "N L"]:
    padded = np.full((len(rows), length), PADDING, np.int32)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    return padded
