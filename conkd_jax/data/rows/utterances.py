"""Rows of one response each, whose history is a sequence of utterances.

For models that read a history utterance by utterance, such as ReDial's: row n is response n. A
history is kept as one flat sequence of tokens with the place where each utterance ends, so that a
batch is padded once, to its longest history, and not in every utterance.

A second sequence has a copy of an utterance for every item that it mentions, in which the item is
marked: ReDial's sentiment model reads a dialogue anew for each item, and only the utterances that
mention the item differ. This module is independent of batches, files and models.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, Shaped

from conkd_jax.data.corpus import RECOMMENDER, Dialogue, Turn, responses
from conkd_jax.data.recommender_inputs import PADDING, RecommenderContexts
from conkd_jax.data.rows.contract import FILL, Inputs
from conkd_jax.data.rows.response import ResponseRows, build_response_rows
from conkd_jax.data.vocabulary import Vocabulary

RECOMMENDER_SENDS, SEEKER_SENDS = 1.0, -1.0  # ReDial's ±1 beside every utterance


@dataclasses.dataclass(frozen=True)
class HistoryLimits:
    """What of a history is read.

    Attributes:
      max_utterances: U, the most utterances, the last ones; an utterance is a merged turn.
      max_utterance_tokens: the most tokens of an utterance, the first ones and END.
      max_mentions: P, the most pairs (utterance, item), the last ones.
    """

    max_utterances: int
    max_utterance_tokens: int
    max_mentions: int

    @property
    def max_tokens(self) -> int:
        """The length of the longest sequence."""
        return max(self.max_utterances, self.max_mentions) * self.max_utterance_tokens


@dataclasses.dataclass(frozen=True)
class History:
    """The utterances before a response, or of a whole dialogue.

    Attributes:
      tokens: the utterances' tokens, one utterance after the other, each closed by END.
      ends: the place of each utterance's END.
      senders: +1 for the recommender, -1 for the seeker.
      items: the item numbers of the distinct items in `mentions`, in order of appearance.
      mentions: pairs (index into `movies`, utterance).
      mention_tokens: for each pair the utterance's tokens, one after the other.
      mention_ends: the place of each pair's END.
      mention_marks: which of `mention_tokens` are the pair's item.
    """

    tokens: Int32[np.ndarray, " L"]
    ends: Int32[np.ndarray, " u"]
    senders: Shaped[np.ndarray, " u"]
    movies: Int32[np.ndarray, " k"]
    mentions: Int32[np.ndarray, "p 2"]
    mention_tokens: Int32[np.ndarray, " Lm"]
    mention_ends: Int32[np.ndarray, " p"]
    mention_marks: Bool[np.ndarray, " Lm"]

    @classmethod
    def of(
        cls,
        utterances: Sequence[Sequence[int]],
        is_recommender: Sequence[bool],
        num_words: int,
        max_mentions: int,
    ) -> History:
        """The history of utterances, which are cut already; a token past the words is an item."""
        pairs = [
            (token, place)
            for place, tokens in enumerate(utterances)
            for token in dict.fromkeys(tokens)
            if token >= num_words
        ][-max_mentions:]
        movies = {movie: k for k, movie in enumerate(dict.fromkeys(movie for movie, _ in pairs))}
        copies = [utterances[place] for _, place in pairs]
        marks = [
            [token == movie for token in tokens]
            for (movie, _), tokens in zip(pairs, copies, strict=True)
        ]
        mentions = [(movies[movie], place) for movie, place in pairs]
        return cls(
            tokens=_joined(utterances, np.int32),
            ends=_ends(utterances),
            senders=np.where(is_recommender, RECOMMENDER_SENDS, SEEKER_SENDS).astype(np.float32),
            movies=np.array(list(movies), np.int32) - np.int32(num_words),
            mentions=np.array(mentions, np.int32).reshape(-1, 2),
            mention_tokens=_joined(copies, np.int32),
            mention_ends=_ends(copies),
            mention_marks=_joined(marks, bool),
        )

    @property
    def length(self) -> int:
        """The length of the longer sequence."""
        return max(len(self.tokens), len(self.mention_tokens))


@dataclasses.dataclass(frozen=True)
class Histories:
    """The histories of N responses, or of N dialogues.

    Attributes:
      keys: (conversation id, turn) of each response; the turn is the number of turns for a whole
        dialogue.
      histories: [N] the histories.
      limits: what of them was kept.
    """

    keys: list[tuple[str, int]]
    histories: list[History]
    limits: HistoryLimits

    def __len__(self) -> int:
        return len(self.histories)

    @property
    def lengths(self) -> Int32[np.ndarray, " N"]:
        """The length that each history needs, at least 1."""
        lengths = (max(1, history.length) for history in self.histories)
        return np.fromiter(lengths, np.int32, len(self))

    def take(self, chosen: Shaped[np.ndarray, " n"]) -> Histories:
        """The histories at some places."""
        keys = [self.keys[place] for place in chosen]
        return Histories(keys, [self.histories[place] for place in chosen], self.limits)

    def inputs(self, row_ids: Shaped[np.ndarray, " b"], length: int, pad_id: int) -> Inputs:
        """The arrays that the models read, for a batch of histories.

        Args:
          row_ids: the histories, FILL where the batch has too few.
          length: L, the length to pad both sequences to.
          pad_id: the padding token.

        Returns:
          `context_ids` [b, L]; `utterance_starts` and `utterance_ends` [b, U], places in it, -1 for
          padding; `senders` [b, U], ±1, 0 for padding; `movies` [b, P], distinct item numbers, -1
          for padding; `mention_ids` and `mention_marks` [b, L]; `mention_starts` and
          `mention_ends` [b, P]; `mention_movies` (index into `movies`) and `mention_utterances`
          [b, P].

        Raises:
          ValueError: a history is longer than `length`.
        """
        size, limits = len(row_ids), self.limits
        names = ("utterance_starts", "utterance_ends")
        utterances = (size, limits.max_utterances)
        pairs = (size, limits.max_mentions)
        found: Inputs = {
            "context_ids": np.full((size, length), pad_id, np.int32),
            "mention_ids": np.full((size, length), pad_id, np.int32),
            "mention_marks": np.zeros((size, length), bool),
            "senders": np.zeros(utterances, np.float32),
            **{name: np.full(utterances, PADDING, np.int32) for name in names},
        }
        for name in ("starts", "ends", "movies", "utterances"):
            found[f"mention_{name}"] = np.full(pairs, PADDING, np.int32)
        found["movies"] = np.full(pairs, PADDING, np.int32)
        for slot, row in enumerate(row_ids):
            if row == FILL:
                continue
            history = self.histories[row]
            if history.length > length:
                raise ValueError(
                    f"history {row} has {history.length} tokens, but length is {length}: "
                    "histories of utterances are padded, not cut"
                )
            for name, values in (
                ("context_ids", history.tokens),
                ("utterance_starts", _starts(history.ends)),
                ("utterance_ends", history.ends),
                ("senders", history.senders),
                ("movies", history.movies),
                ("mention_ids", history.mention_tokens),
                ("mention_marks", history.mention_marks),
                ("mention_starts", _starts(history.mention_ends)),
                ("mention_ends", history.mention_ends),
                ("mention_movies", history.mentions[:, 0]),
                ("mention_utterances", history.mentions[:, 1]),
            ):
                found[name][slot, : len(values)] = values
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class UtteranceRows(ResponseRows):
    """Rows that hold one response each and the utterances before it (R = N).

    They are `ResponseRows` whose encoder reads utterances in place of a text; the text remains what
    a turn classifier reads.

    Attributes:
      said: the history before each response.
    """

    said: Histories

    @property
    def lengths(self) -> Int32[np.ndarray, " R"]:
        """The length that each history is padded from."""
        return self.said.lengths

    def context_inputs(
        self, row_ids: Shaped[np.ndarray, " b"], bucket_length: int, pad_id: int
    ) -> Inputs:
        """The encoder's inputs, see `Histories.inputs`."""
        return self.said.inputs(row_ids, bucket_length, pad_id)

    def _reopened_fields(self, responses: Sequence[int], opening: Sequence[int]) -> dict[str, Any]:
        return {
            **super()._reopened_fields(responses, opening),
            "said": self.said.take(np.array(responses, np.int64)),
        }


def build_histories(
    dialogues: Sequence[Dialogue],
    vocabulary: Vocabulary,
    limits: HistoryLimits,
    *,
    whole: bool = False,
) -> Histories:
    """The utterances before every response, in the canonical order (`data.corpus.responses`).

    Args:
      dialogues: the dialogues of a split, turns merged, in order.
      vocabulary: the token ids.
      limits: what is kept.
      whole: one history per dialogue instead, with all of its turns.

    Raises:
      ValueError: a limit below 1.
    """
    if min(dataclasses.astuple(limits)) < 1:
        raise ValueError(f"expected limits of at least 1, got {limits}")
    encoded = vocabulary.encode_each(turn.text for d in dialogues for turn in d.turns)
    keys, histories = [], []
    for dialogue in dialogues:
        room = limits.max_utterance_tokens - 1
        said = [[*next(encoded)[:room], vocabulary.end_id] for _ in dialogue.turns]
        for turn in (len(said),) if whole else responses(dialogue):
            kept = slice(max(0, turn - limits.max_utterances), turn)
            senders = [_is_recommender(each) for each in dialogue.turns[kept]]
            history = History.of(said[kept], senders, vocabulary.num_words, limits.max_mentions)
            keys.append((dialogue.conversation_id, turn))
            histories.append(history)
    return Histories(keys, histories, limits)


def build_utterance_rows(
    dialogues: Sequence[Dialogue],
    vocabulary: Vocabulary,
    limits: HistoryLimits,
    *,
    max_response_tokens: int,
    max_picks: int | None = None,
) -> UtteranceRows:
    """The rows of a split.

    Args:
      dialogues: the dialogues of the split, turns merged, in order.
      vocabulary: the token ids.
      limits: what of a history is read.
      max_response_tokens: the most targets of a response's text, the first ones; END counts.
      max_picks: the most items that precede a text; None for ordinary rows.

    Raises:
      ValueError: a limit below 1.
      PickError: a turn has more items than `max_picks`.
    """
    said = build_histories(dialogues, vocabulary, limits)
    none = np.zeros((len(said), 0), np.int32)
    rows = build_response_rows(
        dialogues,
        vocabulary,
        RecommenderContexts(none, none, said.keys),  # no graph is read
        max_context_turns=limits.max_utterances,
        max_context_tokens=limits.max_tokens,
        max_response_tokens=max_response_tokens,
        max_picks=max_picks,
    )
    fields = {field.name: getattr(rows, field.name) for field in dataclasses.fields(rows)}
    return UtteranceRows(**fields, said=said)


def _is_recommender(turn: Turn) -> bool:
    return turn.role == RECOMMENDER


def _joined(parts: Sequence[Sequence], dtype: type) -> np.ndarray:
    return np.array([value for part in parts for value in part], dtype)


def _ends(parts: Sequence[Sequence]) -> Int32[np.ndarray, " n"]:
    return np.cumsum([len(part) for part in parts], dtype=np.int32) - np.int32(1)


def _starts(ends: Int32[np.ndarray, " n"]) -> Int32[np.ndarray, " n"]:
    return np.concatenate([np.zeros(1, np.int32), ends[:-1] + np.int32(1)])[: len(ends)]
