"""Rows of one response each: an encoder's context, a decoder's response and the mentioned nodes.

For models that read a context of a few turns and write one response, such as KGSF: row n is
response n. This module is independent of batches, files and models.

A context is the last turns before the response, each closed by the end token, cut to its last
tokens. The response is opened by the end token for a teacher, by [REC] or [GEN] for a student. Its
targets are its picks, if any (`rows.picks`), then its words and items, then END, the text cut at
`max_response_tokens`. A context is what was said, without picks. Entities and concepts come from
the whole history, as for the recommender.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64, Shaped

from conkd_jax.data.corpus import Dialogue, responses
from conkd_jax.data.recommender_inputs import PADDING, RecommenderContexts
from conkd_jax.data.rows.contract import FILL, Inputs, Prompts, Rows, check_history_options
from conkd_jax.data.rows.picks import pick_room, picks_of
from conkd_jax.data.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResponseRows(Rows):
    """Rows that hold one response each (R = N).

    Attributes:
      context_tokens: [N] arrays [L], the last turns before each response.
      opening: for each form, [N] the opening token of the response.
      contexts: the entities and concepts before each response.
      max_response_tokens: T, the length that responses are padded to, with room for picks.
    """

    context_tokens: list[np.ndarray]
    opening: dict[str, Int32[np.ndarray, " N"]]
    contexts: RecommenderContexts
    max_response_tokens: int

    @property
    def lengths(self) -> Int32[np.ndarray, " R"]:
        """Tokens in each context; a batch pads its contexts to a bucket length."""
        return np.fromiter(map(len, self.encoder_tokens), np.int32, self.num_rows)

    @property
    def encoder_tokens(self) -> list[np.ndarray]:
        """[N] arrays [L], what the encoder reads of each context: all of it, and nothing else."""
        return self.context_tokens

    def inputs(
        self, row_ids: Shaped[np.ndarray, " b"], bucket_length: int, form: str, pad_id: int
    ) -> tuple[Inputs, Int64[np.ndarray, " n"]]:
        """Returns `context_inputs` and `response_ids` [b, T]: the opening token, y_1 … y_{T-1}."""
        size = self.max_response_tokens
        response_ids = np.full((len(row_ids), size), pad_id, np.int32)
        slots = []
        for slot, row in enumerate(row_ids):
            if row != FILL:
                read = [self.opening[form][row], *self.response_targets(row)[:-1]]
                response_ids[slot, : len(read)] = read
                slots.append(slot)
        context = self.context_inputs(row_ids, bucket_length, pad_id)
        # The states are the decoder's, [b, T]: a response begins where its row of them does.
        return {**context, "response_ids": response_ids}, np.array(slots, np.int64) * size

    def context_inputs(
        self, row_ids: Shaped[np.ndarray, " b"], bucket_length: int, pad_id: int
    ) -> Inputs:
        """Returns the encoder's inputs.

        Args:
          row_ids: the rows, FILL where the batch has too few.
          bucket_length: S, the length to pad to; a longer context keeps its tail.
          pad_id: the padding token.

        Returns:
          `context_ids` and `context_mask` [b, S], padded on the right; `entities` [b, Le] and
          `concepts` [b, Lc], ids of the corpus' graphs, -1 for padding.
        """
        ids = np.full((len(row_ids), bucket_length), pad_id, np.int32)
        mask = np.zeros((len(row_ids), bucket_length), bool)
        kept = (np.asarray(row_ids) != FILL)[:, None]
        for slot, row in enumerate(row_ids):
            if row != FILL:
                tail = self.encoder_tokens[row][-bucket_length:]
                ids[slot, : len(tail)] = tail
                mask[slot, : len(tail)] = True
        return {
            "context_ids": ids,
            "context_mask": mask,
            "entities": np.where(kept, self.contexts.entities[row_ids], PADDING).astype(np.int32),
            "concepts": np.where(kept, self.contexts.concepts[row_ids], PADDING).astype(np.int32),
        }

    def capacity(self, bucket_length: int) -> tuple[int, int]:
        """Returns T and 1, whatever the length of the context."""
        return self.max_response_tokens, 1

    def histories(
        self, max_tokens: int, form: str, responses: Sequence[int] | None = None
    ) -> list[Int32[np.ndarray, " L"]]:
        """Returns the tail of each response's context; both forms agree, as contexts have no tags.

        Raises:
          ValueError: an unknown form, or a limit below 1.
        """
        check_history_options(max_tokens, form)
        chosen = range(self.num_responses) if responses is None else responses
        return [self.context_tokens[response][-max_tokens:] for response in chosen]

    def prompts(
        self, responses: Sequence[int], opening: Sequence[int], max_tokens: int, form: str
    ) -> ContextPrompts:
        """Returns the contexts and the opening tokens of the given responses."""
        return ContextPrompts(
            self, np.asarray(responses, np.int64), np.asarray(opening, np.int32), max_tokens
        )

    def reopened(self, responses: Sequence[int], opening: Sequence[int]) -> ResponseRows:
        """Returns the given responses with the same contexts and other opening tokens."""
        return dataclasses.replace(self, **self._reopened_fields(responses, opening))

    def _reopened_fields(self, responses: Sequence[int], opening: Sequence[int]) -> dict[str, Any]:
        chosen = np.array(responses, np.int64)
        return {
            **self._one_a_row(chosen),
            "context_tokens": [self.context_tokens[response] for response in responses],
            "opening": {
                "teacher": self.opening["teacher"][chosen],
                "student": np.array(opening, np.int32),
            },
            "contexts": self.contexts.take(chosen),
        }


@dataclasses.dataclass(frozen=True)
class ContextPrompts(Prompts):
    """Prompts of an encoder-decoder: `first_token` [B] beside `ResponseRows.context_inputs`."""

    rows: ResponseRows
    responses: Int64[np.ndarray, " P"]
    opening: Int32[np.ndarray, " P"]
    max_tokens: int
    pad_id: int = 0  # any token: padding is masked

    @property
    def lengths(self) -> Int64[np.ndarray, " P"]:
        """Tokens of each context, after it is cut."""
        lengths = self.rows.lengths[self.responses].astype(np.int64)
        return np.minimum(lengths, self.max_tokens)

    def inputs(self, members: Sequence[int], length: int, batch_size: int) -> Inputs:
        """Returns arrays of `batch_size` rows, those of the members first."""
        row_ids = np.full(batch_size, FILL, np.int64)
        row_ids[: len(members)] = self.responses[list(members)]
        first = np.zeros(batch_size, np.int32)
        first[: len(members)] = self.opening[list(members)]
        length = min(length, self.max_tokens)
        return {**self.rows.context_inputs(row_ids, length, self.pad_id), "first_token": first}


def build_response_rows(
    dialogues: Sequence[Dialogue],
    vocabulary: Vocabulary,
    contexts: RecommenderContexts,
    *,
    max_context_turns: int,
    max_context_tokens: int,
    max_response_tokens: int,
    max_picks: int | None = None,
) -> ResponseRows:
    """Returns the rows of a split.

    Args:
      dialogues: the dialogues of the split, turns merged, in order.
      vocabulary: the token ids.
      contexts: the entities and concepts of the same responses, from `build_recommender_contexts`.
      max_context_turns: the most turns of a context, the last ones.
      max_context_tokens: the most tokens of a context, the last ones.
      max_response_tokens: the most targets of a response's text, the first ones; END counts.
      max_picks: the most items that precede a text; None for ordinary rows.

    Raises:
      ValueError: a limit below 1, or contexts of other responses.
      PickError: a turn has more items than `max_picks`.
    """
    limits = (max_context_turns, max_context_tokens, max_response_tokens)
    if min(limits) < 1:
        raise ValueError(
            "max_context_turns, max_context_tokens and max_response_tokens: expected limits of at "
            f"least 1, got {limits}."
        )
    keys = [(d.conversation_id, turn) for d in dialogues for turn in responses(d)]
    if keys != contexts.keys:
        raise ValueError(
            f"{len(keys)} responses came with the contexts of {len(contexts)} other responses: "
            "build both from the same dialogues."
        )
    encoded = vocabulary.encode_each(turn.text for each in dialogues for turn in each.turns)
    context_tokens, targets, is_rec, pick_tokens = [], [], [], []
    for dialogue in dialogues:
        turns = [[*next(encoded), vocabulary.end_id] for _ in dialogue.turns]
        for turn in responses(dialogue):
            said = turns[max(0, turn - max_context_turns) : turn]
            context = [token for tokens in said for token in tokens][-max_context_tokens:]
            context_tokens.append(np.array(context, np.int32))
            picks = picks_of(turns[turn], vocabulary, max_picks)
            pick_tokens.append(len(picks))
            targets.append(np.array([*picks, *turns[turn][:max_response_tokens]], np.int32))
            is_rec.append(max(turns[turn]) >= vocabulary.num_words)
    rec = np.array(is_rec, bool)
    lengths = np.fromiter(map(len, targets), np.int32, len(targets))
    return ResponseRows(
        response_keys=keys,
        response_length=lengths,
        response_is_rec=rec,
        row_offsets=np.arange(len(keys) + 1, dtype=np.int64),
        targets=np.concatenate([np.zeros(0, np.int32), *targets]),
        target_offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        pick_tokens=None if max_picks is None else np.array(pick_tokens, np.int32),
        context_tokens=context_tokens,
        opening={
            "teacher": np.full(len(keys), vocabulary.end_id, np.int32),
            "student": np.where(rec, vocabulary.rec_id, vocabulary.gen_id).astype(np.int32),
        },
        contexts=contexts,
        max_response_tokens=max_response_tokens + pick_room(max_picks),
    )
