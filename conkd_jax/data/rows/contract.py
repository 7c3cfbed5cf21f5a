"""The interface of rows: what a language model reads at once, and the responses in it.

This is the contract between a corpus and the code that trains, stores, scores or decodes. A
backbone decides what a row is: a whole dialogue with several responses (`rows.dialogue`), or one
response with its context (`rows.response`). The interface gives the targets of every response, the
responses of every row, and a model's inputs for a batch of rows.

Arrays of a response are indexed by target t = 1 … T. The state that predicts y_t lies t - 1 places
after the state that predicts y_1, so the features of teacher and student pair without a shift.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, Int64, Shaped

FORMS = ("teacher", "student")
FILL = -1  # the row id that fills a batch with too few rows

Inputs = dict[str, np.ndarray]


class Prompts(abc.ABC):
    """What a decoder reads before it generates responses, the opening token included."""

    @property
    @abc.abstractmethod
    def lengths(self) -> Shaped[np.ndarray, " P"]:
        """Tokens in each prompt; prompts of similar lengths share a batch."""

    @abc.abstractmethod
    def inputs(self, members: Sequence[int], length: int, batch_size: int) -> Inputs:
        """Returns the inputs of a model's `open_cache`: `members` first, then filling rows.

        Args:
          members: the prompts of the batch, at most `batch_size`.
          length: the length to pad to; a longer prompt keeps its tail.
          batch_size: the number of rows in every array.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows(abc.ABC):
    """The rows and responses of one split (R rows, N responses).

    Responses are numbered in the order of `conkd_jax.data.corpus.responses`. Rows keep that order,
    so the responses of a row are consecutive.

    Attributes:
      response_keys: [N] pairs (conversation_id, merged-turn index).
      response_length: [N] number of targets T, from 1 to the config's limit.
      response_is_rec: [N] whether the turn, before it is cut, holds an item token.
      row_offsets: [R + 1] row r holds the responses `row_offsets[r]` to `row_offsets[r + 1] - 1`.
      targets: the targets of all responses, concatenated.
      target_offsets: [N + 1] where the targets of each response begin.
      pick_tokens: [N] how many targets of each response precede its text (`rows.picks`); None for
        ordinary rows.
    """

    response_keys: list[tuple[str, int]]
    response_length: Int32[np.ndarray, " N"]
    response_is_rec: Bool[np.ndarray, " N"]
    row_offsets: Int64[np.ndarray, " R1"]
    targets: Int32[np.ndarray, " T"]
    target_offsets: Int64[np.ndarray, " N1"]
    pick_tokens: Int32[np.ndarray, " N"] | None = None

    @property
    @abc.abstractmethod
    def lengths(self) -> Int32[np.ndarray, " R"]:
        """Tokens in each row; a batch pads its rows to a bucket length."""

    @abc.abstractmethod
    def inputs(
        self, row_ids: Shaped[np.ndarray, " b"], bucket_length: int, form: str, pad_id: int
    ) -> tuple[Inputs, Int64[np.ndarray, " n"]]:
        """Returns a model's inputs for a batch of rows.

        Args:
          row_ids: the rows, FILL where the batch has too few.
          bucket_length: the length to pad to.
          form: "teacher", or "student", whose responses open with [REC] or [GEN].
          pad_id: the padding token.

        Returns:
          The arrays that the backbone's `states` reads, [b, …]; and for each response of the rows,
          in order, the position in the flat states [b · S] of the one that predicts its first
          target.
        """

    @abc.abstractmethod
    def capacity(self, bucket_length: int) -> tuple[int, int]:
        """Returns the most targets and responses of a row that is padded to this length.

        It must hold for rows of any dialogues, so that all sets of rows have the same shapes.
        """

    @abc.abstractmethod
    def histories(
        self, max_tokens: int, form: str, responses: Sequence[int] | None = None
    ) -> list[Int32[np.ndarray, " L"]]:
        """Returns the last tokens said before each response, without picks and opening token.

        Args:
          max_tokens: the most tokens of a history.
          form: as in `inputs`.
          responses: response ids; None means all, in order.
        """

    @abc.abstractmethod
    def prompts(
        self, responses: Sequence[int], opening: Sequence[int], max_tokens: int, form: str
    ) -> Prompts:
        """Returns prompts for generating the given responses.

        Args:
          responses: response ids.
          opening: the opening token of each.
          max_tokens: the most tokens of a prompt, the opening one included.
          form: as in `inputs`.
        """

    @abc.abstractmethod
    def reopened(self, responses: Sequence[int], opening: Sequence[int]) -> Rows:
        """Returns rows of one response each, opened by the given tokens instead of the gold ones.

        A response keeps the history that it has here, with the gold tags of past turns; only its
        opening token changes. The rows are in the student's form.

        Args:
          responses: response ids, ascending; they become responses 0, 1, … of the result.
          opening: the opening token of each.
        """

    @property
    def num_rows(self) -> int:
        """The number of rows, R."""
        return len(self.row_offsets) - 1

    @property
    def num_responses(self) -> int:
        """The number of responses, N."""
        return len(self.response_keys)

    @property
    def row_targets(self) -> Int64[np.ndarray, " R"]:
        """Targets (response tokens) in each row."""
        return np.diff(self.target_offsets[self.row_offsets])

    def responses_of(self, row_ids: Shaped[np.ndarray, " b"]) -> Int64[np.ndarray, " n"]:
        """Returns the responses of the given rows, in order; FILL has none."""
        spans = [np.arange(*self.row_offsets[row : row + 2]) for row in row_ids if row != FILL]
        return np.concatenate([np.zeros(0, np.int64), *spans])

    def response_targets(self, response: int | np.integer) -> Int32[np.ndarray, " T"]:
        """Returns the targets of a response."""
        return self.targets[self.target_offsets[response] : self.target_offsets[response + 1]]

    def choices_of(self, responses: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Returns at how many of its targets, the first ones, each response chooses items.

        All of them in ordinary rows. With picks, those that precede the text, and at least the
        first: there a response without items chooses to have none. Items in the text are given.
        """
        if self.pick_tokens is None:
            return self.response_length[responses].astype(np.int64)
        return np.maximum(self.pick_tokens[responses], 1).astype(np.int64)

    @property
    def is_choice(self) -> Bool[np.ndarray, " T"]:
        """Whether each of `targets` is one at which an item can be chosen (`choices_of`)."""
        starts = np.repeat(self.target_offsets[:-1], self.response_length)
        choices = self.choices_of(np.arange(self.num_responses))
        return np.arange(len(self.targets)) - starts < np.repeat(choices, self.response_length)

    def _one_a_row(self, responses: Int64[np.ndarray, " n"]) -> dict[str, Any]:
        """Returns the attributes of `Rows` for the given responses, each in a row of its own."""
        lengths = self.response_length[responses]
        targets = [self.response_targets(response) for response in responses]
        return {
            "response_keys": [self.response_keys[response] for response in responses],
            "response_length": lengths,
            "response_is_rec": self.response_is_rec[responses],
            "row_offsets": np.arange(len(responses) + 1, dtype=np.int64),
            "targets": np.concatenate([np.zeros(0, np.int32), *targets]),
            "target_offsets": np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
            "pick_tokens": None if self.pick_tokens is None else self.pick_tokens[responses],
        }


def check_history_options(max_tokens: int, form: str) -> None:
    """Checks the arguments of `Rows.histories`.

    Raises:
      ValueError: an unknown form, or a limit below 1.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {FORMS}, got {form!r}.")
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, got {max_tokens}.")
