"""Responses as rows: an encoder's context, a decoder's response, and the graph nodes mentioned.

For models that read a context of a few turns and write one response, as KGSF's does: row n is
response n. It knows turns, token ids and graph ids; it must not know batches, files or models.

A context is the last turns before the response, each closed by the end token, cut to its last
tokens. The response is opened by the end token for a teacher, by [REC] or [GEN] for a student, and
its targets are its words and items, then END, cut at `max_response_tokens`. Entities and concepts
come from the whole history, as the recommender reads it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32, Int64, Shaped

from conkd_jax.data.corpus import Dialogue, responses
from conkd_jax.data.recommender_inputs import PADDING, RecContexts
from conkd_jax.data.rows.contract import FILL, Inputs, Prompts, Rows, check_histories
from conkd_jax.data.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResponseRows(Rows):
    """Rows that hold one response each (R = N).

    Attributes:
      context_tokens: [N] arrays [L]: the last turns before each response.
      opening: for each form, [N] the token that opens the response.
      contexts: entities and concepts said before each response.
      max_response_tokens: T, to which responses are padded.
    """

    context_tokens: list[np.ndarray]
    opening: dict[str, Int32[np.ndarray, " N"]]
    contexts: RecContexts
    max_response_tokens: int

    @property
    def lengths(self) -> Int32[np.ndarray, " R"]:
        """Tokens of each context, which batches pad to a bucket."""
        return np.fromiter(map(len, self.context_tokens), np.int32, self.num_rows)

    def inputs(
        self, row_ids: Shaped[np.ndarray, " b"], bucket_length: int, form: str, pad_id: int
    ) -> tuple[Inputs, Int64[np.ndarray, " n"]]:
        """`context_inputs`, and `response_ids` [b, T]: the opening token, then y_1 … y_{T-1}."""
        size = self.max_response_tokens
        response_ids = np.full((len(row_ids), size), pad_id, np.int32)
        slots = []
        for slot, row in enumerate(row_ids):
            if row != FILL:
                read = [self.opening[form][row], *self.response_targets(row)[:-1]]
                response_ids[slot, : len(read)] = read
                slots.append(slot)
        found = self.context_inputs(row_ids, bucket_length, pad_id)
        return {**found, "response_ids": response_ids}, np.array(slots, np.int64) * size

    def context_inputs(
        self, row_ids: Shaped[np.ndarray, " b"], bucket_length: int, pad_id: int
    ) -> Inputs:
        """`context_ids` and `context_mask` [b, S], padded on the right; a longer context keeps its
        tail. `entities` [b, Le] and `concepts` [b, Lc] are ids of the corpus' graphs, -1 padding.
        """
        ids = np.full((len(row_ids), bucket_length), pad_id, np.int32)
        mask = np.zeros((len(row_ids), bucket_length), bool)
        kept = (np.asarray(row_ids) != FILL)[:, None]
        for slot, row in enumerate(row_ids):
            if row != FILL:
                tail = self.context_tokens[row][-bucket_length:]
                ids[slot, : len(tail)] = tail
                mask[slot, : len(tail)] = True
        return {
            "context_ids": ids,
            "context_mask": mask,
            "entities": np.where(kept, self.contexts.entities[row_ids], PADDING).astype(np.int32),
            "concepts": np.where(kept, self.contexts.concepts[row_ids], PADDING).astype(np.int32),
        }

    def histories(
        self, max_tokens: int, form: str, responses: Sequence[int] | None = None
    ) -> list[Int32[np.ndarray, " L"]]:
        """The tail of each response's context: the same in both forms, a context has no tags.

        Raises:
          ValueError: for an unknown form or a limit below 1.
        """
        check_histories(max_tokens, form)
        chosen = range(self.num_responses) if responses is None else responses
        return [self.context_tokens[response][-max_tokens:] for response in chosen]

    def prompts(
        self, responses: Sequence[int], opening: Sequence[int], max_tokens: int, form: str
    ) -> ContextPrompts:
        """Contexts, and the tokens that open the responses."""
        return ContextPrompts(
            self, np.asarray(responses, np.int64), np.asarray(opening, np.int32), max_tokens
        )

    def reopened(self, responses: Sequence[int], opening: Sequence[int]) -> ResponseRows:
        """The same contexts, with other opening tokens."""
        chosen = np.array(responses, np.int64)
        return dataclasses.replace(
            self,
            **self._one_a_row(chosen),
            context_tokens=[self.context_tokens[response] for response in responses],
            opening={
                "teacher": self.opening["teacher"][chosen],
                "student": np.array(opening, np.int32),
            },
            contexts=self.contexts.take(chosen),
        )


@dataclasses.dataclass(frozen=True)
class ContextPrompts(Prompts):
    """Prompts of an encoder and decoder: `first_token` [B] beside `ResponseRows.context_inputs`."""

    rows: ResponseRows
    responses: Int64[np.ndarray, " P"]
    opening: Int32[np.ndarray, " P"]
    max_tokens: int
    pad_id: int = 0  # any token: padding is masked

    @property
    def lengths(self) -> Int64[np.ndarray, " P"]:
        """Tokens of each context that are read."""
        lengths = self.rows.lengths[self.responses].astype(np.int64)
        return np.minimum(lengths, self.max_tokens)

    def inputs(self, members: Sequence[int], length: int, batch_size: int) -> Inputs:
        """Arrays of `batch_size` rows, the members' first."""
        row_ids = np.full(batch_size, FILL, np.int64)
        row_ids[: len(members)] = self.responses[list(members)]
        first = np.zeros(batch_size, np.int32)
        first[: len(members)] = self.opening[list(members)]
        length = min(length, self.max_tokens)
        return {**self.rows.context_inputs(row_ids, length, self.pad_id), "first_token": first}


def build_response_rows(
    dialogues: Sequence[Dialogue],
    vocabulary: Vocabulary,
    contexts: RecContexts,
    *,
    max_context_turns: int,
    max_context_tokens: int,
    max_response_tokens: int,
) -> ResponseRows:
    """The rows of a split.

    Args:
      dialogues: merged dialogues in split order.
      vocabulary: the token ids.
      contexts: entities and concepts of the same responses (`rec_samples.build_contexts`).
      max_context_turns: turns that a context may have.
      max_context_tokens: its last tokens that are kept.
      max_response_tokens: most targets of a response, END among them; its head is kept.

    Raises:
      ValueError: a limit below 1, or contexts of other responses.
    """
    limits = (max_context_turns, max_context_tokens, max_response_tokens)
    if min(limits) < 1:
        raise ValueError(f"Expected limits of at least 1, got {limits}.")
    keys = [(d.conversation_id, turn) for d in dialogues for turn in responses(d)]
    if keys != contexts.keys:
        raise ValueError(
            f"{len(keys)} responses came with contexts of {len(contexts)} others: build both from "
            "the same dialogues."
        )
    texts = [turn.text for dialogue in dialogues for turn in dialogue.turns]
    encoded = iter(vocabulary.encode_batch(texts))
    context_tokens, targets, is_rec = [], [], []
    for dialogue in dialogues:
        turns = [[*next(encoded), vocabulary.end_id] for _ in dialogue.turns]
        for turn in responses(dialogue):
            said = turns[max(0, turn - max_context_turns) : turn]
            context = [token for tokens in said for token in tokens][-max_context_tokens:]
            context_tokens.append(np.array(context, np.int32))
            targets.append(np.array(turns[turn][:max_response_tokens], np.int32))
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
        context_tokens=context_tokens,
        opening={
            "teacher": np.full(len(keys), vocabulary.end_id, np.int32),
            "student": np.where(rec, vocabulary.rec_id, vocabulary.gen_id).astype(np.int32),
        },
        contexts=contexts,
        max_response_tokens=max_response_tokens,
    )
