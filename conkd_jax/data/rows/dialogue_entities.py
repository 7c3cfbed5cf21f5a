"""Rows of whole dialogues, with the entities that are mentioned before each of their responses.

A row of `rows.dialogue` has several responses, and each has a history of its own. A model that
reads what a history mentions, such as RecInDial, therefore needs the entities of every response of
a row, and has to know which response each position belongs to::

    s1 SEP r1 END s2 SEP r2 END
    -1  0   0  -1 -1  1   1  -1      response_slot, with two targets in each response

A position belongs to a response if its state predicts one of the response's targets. The tokens of
all other positions are read for attention only. This module is independent of batches, files and
models.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32, Int64, Shaped

from conkd_jax.data.recommender_inputs import PADDING, RecommenderContexts
from conkd_jax.data.rows.contract import FILL, Inputs
from conkd_jax.data.rows.dialogue import DialogueRows, TokenPrompts


@dataclasses.dataclass(frozen=True, kw_only=True)
class DialogueEntityRows(DialogueRows):
    """Rows that hold a dialogue, or a piece of a longer one, and the entities of its histories.

    Attributes:
      entities: [N] the entities mentioned before each response in the whole dialogue, ids of the
        corpus' graph, -1 for padding.
    """

    entities: Int32[np.ndarray, "N Le"]

    @classmethod
    def of(cls, rows: DialogueRows, contexts: RecommenderContexts) -> DialogueEntityRows:
        """Returns rows with the entities of their responses.

        Args:
          rows: the rows of a split.
          contexts: the contexts of the same responses, from `build_recommender_contexts`.

        Raises:
          ValueError: the contexts are those of other responses.
        """
        if contexts.keys != rows.response_keys:
            raise ValueError(
                f"{rows.num_responses} responses came with the contexts of {len(contexts)} other "
                "responses: build both from the same dialogues."
            )
        return cls._with_entities(rows, contexts.entities)

    @classmethod
    def _with_entities(cls, rows: DialogueRows, entities: np.ndarray) -> DialogueEntityRows:
        fields = {
            field.name: getattr(rows, field.name) for field in dataclasses.fields(DialogueRows)
        }
        return cls(**fields, entities=entities)

    def inputs(
        self, row_ids: Shaped[np.ndarray, " b"], bucket_length: int, form: str, pad_id: int
    ) -> tuple[Inputs, Int64[np.ndarray, " n"]]:
        """Returns `input_ids` [b, S], padded on the right, and what the responses mention.

        Returns:
          Beside the input ids, `entities` [b, K, Le], those of the K responses of each row, -1 for
          padding; and `response_slot` [b, S], the response (from 0 to below K) that a position
          belongs to, -1 where it belongs to none. K depends on the bucket only, and is a power of
          two, so that it is usually the same for all splits of a corpus.
        """
        inputs, first = super().inputs(row_ids, bucket_length, form, pad_id)
        num_rows = len(row_ids)
        entities = np.full(
            (num_rows, self._most_responses(bucket_length), self.entities.shape[1]),
            PADDING,
            np.int32,
        )
        response_slot = np.full((num_rows, bucket_length), PADDING, np.int32)
        for place, row in enumerate(row_ids):
            if row == FILL:
                continue
            begin, end = self.row_offsets[row : row + 2]
            entities[place, : end - begin] = self.entities[begin:end]
            for slot, response in enumerate(range(begin, end)):
                start = self.response_start[response]
                response_slot[place, start : start + self.response_length[response]] = slot
        return {**inputs, "entities": entities, "response_slot": response_slot}, first

    def _most_responses(self, bucket_length: int) -> int:
        """The power of two that holds the responses of every row that fits into a bucket."""
        lengths, most = self._most_by_length
        num_fitting = np.searchsorted(lengths, bucket_length, side="right")
        most_fitting = max(1, int(most[num_fitting - 1])) if num_fitting else 1
        return 1 << (most_fitting - 1).bit_length()

    @functools.cached_property
    def _most_by_length(self) -> tuple[np.ndarray, np.ndarray]:
        """The lengths of all rows, ascending, and the most responses of a row up to each length."""
        lengths, counts = self.lengths, np.diff(self.row_offsets)
        order = np.argsort(lengths)
        return lengths[order], np.maximum.accumulate(counts[order])

    def prompts(
        self, responses: Sequence[int], opening: Sequence[int], max_tokens: int, form: str
    ) -> EntityPrompts:
        """Returns the prompts of `DialogueRows` with the entities before each response."""
        prompts = super().prompts(responses, opening, max_tokens, form)
        return EntityPrompts(prompts.tokens, self.entities[np.asarray(responses, np.int64)])

    def reopened(self, responses: Sequence[int], opening: Sequence[int]) -> DialogueEntityRows:
        """Returns rows that end with their response, which keeps its entities."""
        rows = super().reopened(responses, opening)
        return self._with_entities(rows, self.entities[np.asarray(responses, np.int64)])


@dataclasses.dataclass(frozen=True)
class EntityPrompts(TokenPrompts):
    """Prompts of a decoder-only model that also reads what was mentioned.

    Attributes:
      entities: [P] the entities mentioned before each response, -1 for padding.
    """

    entities: Int32[np.ndarray, "P Le"]

    def inputs(self, members: Sequence[int], length: int, batch_size: int) -> Inputs:
        """Returns the inputs of `TokenPrompts`, and `entities` [B, Le]."""
        entities = np.full((batch_size, self.entities.shape[1]), PADDING, np.int32)
        entities[: len(members)] = self.entities[list(members)]
        return {**super().inputs(members, length, batch_size), "entities": entities}
