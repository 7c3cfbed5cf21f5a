"""Rows: what a language model reads at once, and the responses that are targets in it.

The contract between a corpus and everything that trains, stores, scores or decodes. A backbone
decides what a row is: a whole dialogue with several responses (`dialogue_rows`), or one response
with its context (`response_rows`). Whoever reads rows knows the targets of every response, which
rows hold which responses, and asks the row itself for a model's inputs.

Arrays of a response are indexed by target t = 1 … T; the state that predicts y_t is found from the
position of the first one, so a teacher's and a student's features pair without a shift.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, Int64, Shaped

FORMS = ("teacher", "student")
FILL = -1  # the row id of a place that a short batch leaves empty

Inputs = dict[str, np.ndarray]


class Prompts(abc.ABC):
    """What a decoder reads before the responses it generates, the opening token included."""

    @property
    @abc.abstractmethod
    def lengths(self) -> Shaped[np.ndarray, " P"]:
        """Tokens of each prompt: prompts of like lengths share a batch."""

    @abc.abstractmethod
    def inputs(self, members: Sequence[int], length: int, batch_size: int) -> Inputs:
        """Inputs of a model's `open_cache`: `members` first, then rows that only fill the batch.

        Args:
          members: prompts of the batch, at most `batch_size`.
          length: that they are padded to; a longer one keeps its tail.
          batch_size: rows of every array.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows(abc.ABC):
    """The rows and responses of one split (R rows, N responses).

    Response n is the n-th of the split in the order of `conkd_jax.data.corpus.responses`; rows
    follow the same order, so the responses of a row are consecutive.

    Attributes:
      response_keys: [N] pairs (conversation_id, merged-turn index).
      response_length: [N] number of targets T, from 1 to the config's limit.
      response_is_rec: [N] whether the whole, uncut turn holds an item token.
      row_offsets: [R + 1] row r has the responses `row_offsets[r]` to `row_offsets[r + 1]`.
      targets: all targets, response after response.
      target_offsets: [N + 1] where each response's targets begin.
    """

    response_keys: list[tuple[str, int]]
    response_length: Int32[np.ndarray, " N"]
    response_is_rec: Bool[np.ndarray, " N"]
    row_offsets: Int64[np.ndarray, " R1"]
    targets: Int32[np.ndarray, " T"]
    target_offsets: Int64[np.ndarray, " N1"]

    @property
    @abc.abstractmethod
    def lengths(self) -> Int32[np.ndarray, " R"]:
        """Tokens in each row, which batches pad to a bucket."""

    @abc.abstractmethod
    def inputs(
        self, row_ids: Shaped[np.ndarray, " b"], bucket_length: int, form: str, pad_id: int
    ) -> tuple[Inputs, Int64[np.ndarray, " n"]]:
        """A model's inputs for some rows.

        Args:
          row_ids: rows, FILL where the batch is short.
          bucket_length: tokens they are padded to.
          form: "teacher", or "student": the response opens with [REC] or [GEN].
          pad_id: the padding token.

        Returns:
          the arrays that the backbone's `states` reads, [b, …]; and for each response of the rows,
          in order, where the state that predicts its first target stands in states [b · S].
        """

    @abc.abstractmethod
    def histories(
        self, max_tokens: int, form: str, responses: Sequence[int] | None = None
    ) -> list[Int32[np.ndarray, " L"]]:
        """The last tokens of what was said before each response, without the opening token.

        Args:
          max_tokens: at most so many.
          form: as in `inputs`.
          responses: response ids; None means all, in order.
        """

    @abc.abstractmethod
    def prompts(
        self, responses: Sequence[int], opening: Sequence[int], max_tokens: int, form: str
    ) -> Prompts:
        """Prompts for generating some responses.

        Args:
          responses: response ids.
          opening: the token that opens each of them.
          max_tokens: that a prompt may have, the opening one included.
          form: as in `inputs`.
        """

    @abc.abstractmethod
    def reopened(self, responses: Sequence[int], opening: Sequence[int]) -> Rows:
        """Some responses again, one a row, each opened by another token than the gold one.

        The history is the one that a response has here, its past tags and all; what is read differs
        in that one token. The tokens stand in the student's form.

        Args:
          responses: response ids, rising; they become responses 0, 1, … of the result.
          opening: the token that opens each of them.
        """

    @property
    def num_rows(self) -> int:
        """R."""
        return len(self.row_offsets) - 1

    @property
    def num_responses(self) -> int:
        """N."""
        return len(self.response_keys)

    @property
    def row_targets(self) -> Int64[np.ndarray, " R"]:
        """Response tokens (targets) in each row."""
        return np.diff(self.target_offsets[self.row_offsets])

    def responses_of(self, row_ids: Shaped[np.ndarray, " b"]) -> Int64[np.ndarray, " n"]:
        """The responses of some rows, in order; FILL has none."""
        spans = [np.arange(*self.row_offsets[row : row + 2]) for row in row_ids if row != FILL]
        return np.concatenate([np.zeros(0, np.int64), *spans])

    def response_targets(self, response: int | np.integer) -> Int32[np.ndarray, " T"]:
        """The targets of one response."""
        return self.targets[self.target_offsets[response] : self.target_offsets[response + 1]]

    def _one_a_row(self, responses: Int64[np.ndarray, " n"]) -> dict[str, Any]:
        """The attributes of `Rows` that hold some of the responses, one a row."""
        lengths = self.response_length[responses]
        targets = [self.response_targets(response) for response in responses]
        return {
            "response_keys": [self.response_keys[response] for response in responses],
            "response_length": lengths,
            "response_is_rec": self.response_is_rec[responses],
            "row_offsets": np.arange(len(responses) + 1, dtype=np.int64),
            "targets": np.concatenate([np.zeros(0, np.int32), *targets]),
            "target_offsets": np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        }


def check_histories(max_tokens: int, form: str) -> None:
    """Raises a ValueError for an unknown form or a limit below 1."""
    if form not in FORMS:
        raise ValueError(f"form must be one of {FORMS}, got {form!r}.")
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, got {max_tokens}.")
