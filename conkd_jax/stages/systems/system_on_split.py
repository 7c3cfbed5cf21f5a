"""A trained system on the dialogues of a split, or on some written by hand, before it answers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from conkd_jax.data.corpus import Dialogue
from conkd_jax.data.rows.contract import Rows
from conkd_jax.eval.metrics.ranking import best_indices, rows_at_a_time
from conkd_jax.eval.predictions import TOP_ITEMS, Prediction
from conkd_jax.eval.template import empty_response
from conkd_jax.stages.any_recommender import AnyRecommender
from conkd_jax.stages.systems.system import System

FEW = 8  # responses, as of a chat


@dataclasses.dataclass(frozen=True)
class SystemOnSplit:
    """A trained system, and its inputs and predictions for a split before decoding."""

    system: System
    dialogues: dict[str, Dialogue]
    rows: Rows
    recommender_top: np.ndarray  # [N, 50] candidate indices
    predicted_is_rec: np.ndarray | None  # [N]
    split: str

    def dialogue_and_turn(self, response: int) -> tuple[Dialogue, int]:
        """The dialogue of a response, and the turn that the response is."""
        conversation, turn = self.rows.response_keys[response]
        return self.dialogues[conversation], int(turn)

    def reference(self, response: int) -> Prediction:
        """A response before the system answers: its context and its reference."""
        item_ids, known = self._items
        dialogue, turn = self.dialogue_and_turn(response)
        return empty_response(dialogue, turn, item_ids, split=self.split, vocabulary=known)

    @functools.cached_property
    def _items(self) -> tuple[list[int], set[int]]:
        """The item id of every candidate, and the candidates that have a token."""
        candidates = self.system.vocabulary.item_candidates
        return self.system.corpus.items.item_ids.tolist(), {*candidates.tolist()}


def open_system(system: System, split: str) -> SystemOnSplit:
    """Computes a system's rows, recommendations and predicted turn types for a split."""
    return on_dialogues(system, system.corpus.dialogues(split), split)


def on_dialogues(system: System, dialogues: Sequence[Dialogue], split: str) -> SystemOnSplit:
    """The same for some dialogues, of a split or written by hand."""
    rows = system.rows_of(dialogues)
    recommender = system.recommender
    vectors = recommender.user_vectors(recommender.spec.contexts(dialogues, system.corpus))
    return SystemOnSplit(
        system=system,
        dialogues={dialogue.conversation_id: dialogue for dialogue in dialogues},
        rows=rows,
        recommender_top=_top(recommender, vectors),
        predicted_is_rec=system.predicted_is_rec(rows),
        split=split,
    )


def _top(recommender: AnyRecommender, vectors: np.ndarray) -> np.ndarray:
    """The best candidates for every response, [N, min(50, M)], best first; ties by index."""
    size = rows_at_a_time(recommender.head.num_targets, most=512)
    parts = []
    for start in range(0, len(vectors), size):
        some = vectors[start : start + size]
        # Every number of rows is a compilation: there are two, for a chat and for a split.
        filled = np.zeros((FEW if len(some) <= FEW else size, some.shape[1]), some.dtype)
        filled[: len(some)] = some
        parts.append(best_indices(recommender.scores(filled)[: len(some)], TOP_ITEMS))
    return np.concatenate(parts)
