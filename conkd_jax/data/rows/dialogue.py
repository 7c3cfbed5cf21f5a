"""Rows of whole dialogues: token ids, and the position of every response.

A row holds a whole dialogue, and every recommender turn in it is a target, so each token is
computed once for all the responses that follow it. This module is independent of batches, files and
models.

A separator opens every recommender turn of a row, and the end token closes it::

    s1 SEP r1 END s2 SEP r2 END

For a teacher SEP is the end token, so its rows have DialoGPT's own format. For a student SEP is
[REC] or [GEN], depending on whether the turn holds an item. The two forms differ nowhere else. With
`max_picks` the items of r1 are listed before it, in both forms (`rows.picks`).

The targets of a response are its picks, if any, then its words and items, then END, the text cut at
`max_response_tokens`. A cut response has no END of its text among its targets, and the rest of its
tokens stay in the row without a loss. The state that predicts target t = 1 … T of a response stands
at the position of SEP + t - 1.
"""

from __future__ import annotations

import array
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int32, Int64, Shaped

from conkd_jax.data.corpus import Dialogue, responses
from conkd_jax.data.rows.contract import FILL, FORMS, Inputs, Prompts, Rows, check_history_options
from conkd_jax.data.rows.picks import pick_room, picks_of
from conkd_jax.data.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True, kw_only=True)
class DialogueRows(Rows):
    """Rows that hold a dialogue, or a piece of a longer one.

    Attributes:
      tokens: for each form, [R] arrays [L].
      response_row: [N] the one row in which the response is a target.
      response_start: [N] position of its SEP in that row.
      dialogue_tokens: for each form, the tokens of every whole dialogue.
      response_dialogue: [N] the dialogue of the response.
      response_position: [N] position of its SEP in that dialogue.
      is_said: for every dialogue, whether each token was said and is no pick; None without picks.
    """

    tokens: dict[str, list[np.ndarray]]
    response_row: Int32[np.ndarray, " N"]
    response_start: Int32[np.ndarray, " N"]
    dialogue_tokens: dict[str, list[np.ndarray]]
    response_dialogue: Int32[np.ndarray, " N"]
    response_position: Int32[np.ndarray, " N"]
    is_said: list[np.ndarray] | None = None

    @property
    def lengths(self) -> Int32[np.ndarray, " R"]:
        """Tokens in each row."""
        return np.fromiter(map(len, self.tokens["teacher"]), np.int32, self.num_rows)

    def inputs(
        self, row_ids: Shaped[np.ndarray, " b"], bucket_length: int, form: str, pad_id: int
    ) -> tuple[Inputs, Int64[np.ndarray, " n"]]:
        """Returns `input_ids` [b, S], padded on the right."""
        ids = np.full((len(row_ids), bucket_length), pad_id, np.int32)
        slots = [np.zeros(0, np.int64)]  # per response: its row's place in the batch
        for slot, row in enumerate(row_ids):
            if row != FILL:
                tokens = self.tokens[form][row]
                ids[slot, : len(tokens)] = tokens
                slots.append(np.full(np.diff(self.row_offsets[row : row + 2]), slot))
        # In the flat states [b · S] the row in slot k begins at k · S; SEP is where the state that
        # predicts the first target stands.
        first = np.concatenate(slots) * bucket_length
        return {"input_ids": ids}, first + self.response_start[self.responses_of(row_ids)]

    def capacity(self, bucket_length: int) -> tuple[int, int]:
        """Returns one target at every position, and one response at every second: SEP and END."""
        return bucket_length, -(-bucket_length // 2)

    def histories(
        self, max_tokens: int, form: str, responses: Sequence[int] | None = None
    ) -> list[Int32[np.ndarray, " L"]]:
        """Returns the last tokens said before each response's SEP.

        A history may reach further back than the response's row. In the student's form past
        recommender turns open with their own [REC] or [GEN], in the teacher's with the end token.

        Raises:
          ValueError: an unknown form, or a limit below 1.
        """
        check_history_options(max_tokens, form)
        chosen = range(self.num_responses) if responses is None else responses
        if self.is_said is None:
            return self._read_before(max_tokens, form, chosen)
        found = []
        for response in chosen:
            dialogue, end = self.response_dialogue[response], self.response_position[response]
            said = self.is_said[dialogue][:end]
            found.append(self.dialogue_tokens[form][dialogue][:end][said][-max_tokens:])
        return found

    def _read_before(
        self, max_tokens: int, form: str, responses: Sequence[int]
    ) -> list[Int32[np.ndarray, " L"]]:
        """Returns the last tokens that a model reads before each response's SEP, with picks."""
        dialogues, found = self.dialogue_tokens[form], []
        for response in responses:
            end = int(self.response_position[response])
            tokens = dialogues[self.response_dialogue[response]]
            found.append(tokens[max(0, end - max_tokens) : end])
        return found

    def prompts(
        self, responses: Sequence[int], opening: Sequence[int], max_tokens: int, form: str
    ) -> TokenPrompts:
        """Returns what precedes each response in its dialogue, and then its opening token."""
        room = max_tokens - 1
        histories = self._read_before(room, form, responses) if room else [()] * len(responses)
        return TokenPrompts(
            [[*map(int, h), int(first)] for h, first in zip(histories, opening, strict=True)]
        )

    def reopened(self, responses: Sequence[int], opening: Sequence[int]) -> DialogueRows:
        """Returns rows that end with their response; each begins where its row begins here."""
        chosen = np.array(responses, np.int64)
        each, starts = np.arange(len(chosen), dtype=np.int32), self.response_start[chosen]
        rows, is_said = [], []
        for response, first, start in zip(chosen, opening, starts, strict=True):
            end = start + self.response_length[response]
            rows.append(self.tokens["student"][self.response_row[response]][:end].copy())
            rows[-1][start] = first
            if self.is_said is not None:
                begin = self.response_position[response] - start
                said = self.is_said[self.response_dialogue[response]]
                is_said.append(said[begin : begin + end])
        return DialogueRows(
            **self._one_a_row(chosen),
            tokens={"teacher": rows, "student": rows},
            response_row=each,
            response_start=starts,
            dialogue_tokens={"teacher": rows, "student": rows},
            response_dialogue=each,
            response_position=starts,
            is_said=None if self.is_said is None else is_said,
        )


@dataclasses.dataclass(frozen=True)
class TokenPrompts(Prompts):
    """Prompts of a decoder-only model: token ids, padded on the left."""

    tokens: Sequence[Sequence[int]]

    @property
    def lengths(self) -> Int64[np.ndarray, " P"]:
        """Tokens in each prompt."""
        return np.fromiter(map(len, self.tokens), np.int64, len(self.tokens))

    def inputs(self, members: Sequence[int], length: int, batch_size: int) -> Inputs:
        """Returns `input_ids` [B, S] and `attention_mask` [B, S], True at real tokens."""
        ids = np.zeros((batch_size, length), np.int32)
        mask = np.zeros((batch_size, length), bool)
        for row, member in enumerate(members):
            tail = self.tokens[member][-length:]
            ids[row, length - len(tail) :] = tail
            mask[row, length - len(tail) :] = True
        return {"input_ids": ids, "attention_mask": mask}

    def cut(self, length: int) -> TokenPrompts:
        """Returns the prompts with at most their last `length` tokens."""
        return TokenPrompts([tokens[-length:] for tokens in self.tokens])

    def trunks(self) -> tuple[TokenPrompts, Int64[np.ndarray, " P"]]:
        """Returns the token sequences that prompts share, and the one that each branches from.

        A prompt branches from a trunk that begins with all of its tokens but the opening one. The
        prompts of a dialogue, which follow each other from the shortest to the longest, branch from
        the longest one's; a prompt that lacks its beginning has a trunk of its own.

        >>> trunks, trunk_of = TokenPrompts([[1, 9], [1, 2, 3, 8], [4, 9]]).trunks()
        >>> trunks.tokens, trunk_of.tolist()
        ([[4], [1, 2, 3]], [1, 1, 0])
        """
        found: list[list[int]] = []
        trunk_of = np.zeros(len(self.tokens), np.int64)
        for prompt in reversed(range(len(self.tokens))):
            history = list(self.tokens[prompt][:-1])
            if not found or found[-1][: len(history)] != history:
                found.append(history)
            trunk_of[prompt] = len(found) - 1
        return TokenPrompts(found), trunk_of


def build_dialogue_rows(
    dialogues: Sequence[Dialogue],
    vocabulary: Vocabulary,
    max_row_tokens: int = 512,
    max_response_tokens: int = 30,
    max_picks: int | None = None,
) -> DialogueRows:
    """Returns the rows of a split.

    A dialogue of more than `max_row_tokens` is split between turns. Each further row opens with the
    tail of the history, at most half a row, which leaves room for several responses. A response
    turn that does not fit into the rest is cut in its row; the history of the next row holds it as
    far as half a row allows. A row ends with its last response turn.

    Args:
      dialogues: the dialogues of the split, turns merged, in order.
      vocabulary: the token ids.
      max_row_tokens: the most tokens of a row.
      max_response_tokens: the most targets of a response's text, the first ones; END counts.
      max_picks: the most items that precede a text; None for ordinary rows.

    Raises:
      ValueError: half a row can't hold a response, or the turns of a dialogue don't alternate.
      PickError: a turn has more items than `max_picks`.
    """
    longest = max_response_tokens + pick_room(max_picks)
    if not (1 <= max_response_tokens and longest <= max_row_tokens // 2):
        raise ValueError(
            "max_response_tokens must be at least 1 and fit in half a row with the picks: got "
            f"{max_response_tokens} with max_row_tokens={max_row_tokens}, max_picks={max_picks}."
        )
    encoded = _encode(dialogues, vocabulary, max_picks)
    builder = _Builder(max_row_tokens, max_response_tokens, has_picks=max_picks is not None)
    for dialogue, tokens in zip(dialogues, encoded, strict=True):
        builder.add(dialogue, tokens)
    return builder.finish()


@dataclasses.dataclass(frozen=True)
class _Encoded:
    """One dialogue as a single sequence of tokens.

    Turn i lies between `begins[i]` and `ends[i]`; a recommender turn begins with its SEP and
    `pick_tokens[i]` tokens of picks.
    """

    teacher: np.ndarray
    student: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    is_rec: np.ndarray
    pick_tokens: np.ndarray

    @property
    def is_said(self) -> np.ndarray:
        """Whether each token was said and is no pick."""
        is_said = np.ones(len(self.teacher), bool)
        for begin, count in zip(self.begins, self.pick_tokens, strict=True):
            is_said[begin + 1 : begin + 1 + count] = False
        return is_said


def _encode(
    dialogues: Sequence[Dialogue], vocabulary: Vocabulary, max_picks: int | None
) -> Iterator[_Encoded]:
    """Encodes every dialogue in both forms, with few calls of the tokenizer."""
    for dialogue in dialogues:
        _check_turns(dialogue)
    turn_ids = vocabulary.encode_each(turn.text for each in dialogues for turn in each.turns)
    for dialogue in dialogues:
        tokens: list[int] = []
        begins, is_rec, pick_tokens = [], [], []
        for turn in dialogue.turns:
            ids = next(turn_ids)
            begins.append(len(tokens))
            is_rec.append(max(ids, default=0) >= vocabulary.num_words)
            picks = picks_of(ids, vocabulary, max_picks) if turn.role == "recommender" else []
            pick_tokens.append(len(picks))
            if turn.role == "recommender":
                tokens += [vocabulary.end_id, *picks, *ids, vocabulary.end_id]
            else:
                tokens += ids
        teacher = np.array(tokens, np.int32)
        student = teacher.copy()
        for turn, begin, rec in zip(dialogue.turns, begins, is_rec, strict=True):
            if turn.role == "recommender":
                student[begin] = vocabulary.rec_id if rec else vocabulary.gen_id
        ends = np.array([*begins[1:], len(tokens)])
        turns = (np.array(begins), ends, np.array(is_rec), np.array(pick_tokens, np.int32))
        yield _Encoded(teacher, student, *turns)


def _check_turns(dialogue: Dialogue) -> None:
    roles = [turn.role for turn in dialogue.turns]
    for index, role in enumerate(roles):
        if role not in ("seeker", "recommender") or (index and role == roles[index - 1]):
            raise ValueError(
                f"Dialogue {dialogue.conversation_id!r}, turn {index}: expected roles that "
                f"alternate between 'seeker' and 'recommender', got {role!r} after "
                f"{roles[index - 1] if index else None!r}. Merge a speaker's consecutive messages."
            )


class _Builder:
    """Collects rows and responses dialogue by dialogue.

    Of a long split most memory would be Python objects, so its numbers are kept in flat arrays.
    """

    def __init__(self, max_row_tokens: int, max_response_tokens: int, *, has_picks: bool):
        self.max_row_tokens = max_row_tokens
        self.max_response_tokens = max_response_tokens
        self.has_picks = has_picks
        self.spans: list[tuple[int, int, int]] = []  # dialogue, begin, end
        self.row_offsets = [0]
        self.tokens: dict[str, list[np.ndarray]] = {form: [] for form in FORMS}
        self.is_said: list[np.ndarray] = []
        self.keys: list[tuple[str, int]] = []
        # row, start, length, is_rec, dialogue, position, pick_tokens
        self.places = array.array("i")
        self.targets = array.array("i")

    def add(self, dialogue: Dialogue, encoded: _Encoded) -> None:
        """Cuts one dialogue into rows."""
        number = len(self.tokens["teacher"])
        self.tokens["teacher"].append(encoded.teacher)
        self.tokens["student"].append(encoded.student)
        if self.has_picks:
            self.is_said.append(encoded.is_said)
        limit, history = self.max_row_tokens, self.max_row_tokens // 2
        row_begin, row_end = 0, None  # row_end None: no response in this row yet
        for turn in responses(dialogue):
            sep, end = int(encoded.begins[turn]), int(encoded.ends[turn])
            # A new row is worth it only if it drops some history. With at most half a row before
            # SEP it would drop none, so a turn that still doesn't fit is cut in this row.
            if end - row_begin > limit and sep - row_begin > history:
                if row_end is not None:
                    self._close(number, row_begin, row_end)
                row_begin = sep - history
            row_end = min(end, row_begin + limit)  # half a row always holds the targets
            num_picks = int(encoded.pick_tokens[turn])
            targets = encoded.teacher[sep + 1 : end][: num_picks + self.max_response_tokens]
            self.keys.append((dialogue.conversation_id, turn))
            # The row is still open; closing it appends its span under this very number.
            place = (len(self.spans), sep - row_begin, len(targets), int(encoded.is_rec[turn]))
            self.places.extend((*place, number, sep, num_picks))
            self.targets.frombytes(targets.tobytes())
        if row_end is not None:
            self._close(number, row_begin, row_end)

    def _close(self, number: int, begin: int, end: int) -> None:
        self.spans.append((number, begin, end))
        self.row_offsets.append(len(self.keys))

    def finish(self) -> DialogueRows:
        """Returns the rows of all dialogues that were added."""
        places = np.array(self.places, np.int32).reshape(-1, 7)
        lengths = places[:, 2]
        return DialogueRows(
            tokens={
                form: [of_dialogue[d][a:b] for d, a, b in self.spans]
                for form, of_dialogue in self.tokens.items()
            },
            response_keys=self.keys,
            response_row=places[:, 0],
            response_start=places[:, 1],
            response_length=lengths,
            response_is_rec=places[:, 3].astype(bool),
            row_offsets=np.array(self.row_offsets, np.int64),
            targets=np.array(self.targets, np.int32),
            target_offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
            dialogue_tokens=self.tokens,
            response_dialogue=places[:, 4],
            response_position=places[:, 5],
            pick_tokens=places[:, 6] if self.has_picks else None,
            is_said=self.is_said if self.has_picks else None,
        )
