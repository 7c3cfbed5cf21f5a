"""Dialogues as rows of token ids, and every response's place in its row.

This file exists because a dialogue is read once: one row holds a whole dialogue and every
recommender turn in it is a target, so each token is computed once for all the responses that follow
it. It knows turns and token ids; it must not know batches, files or models.

A row, with the separator that opens every recommender turn and the end token that closes it::

    s1 SEP r1 END s2 SEP r2 END

For a teacher SEP is the end token, so its rows are DialoGPT's own format. For a student SEP is
[REC] or [GEN], by what the turn holds. Both forms have the same length and differ only there.

The targets of a response are its words and items, then END, cut at ``max_response_tokens``; a cut
response has no END among its targets and its other tokens stay in the row without a loss. The state
that predicts target t = 1 … T of a response stands at the position of SEP + t - 1.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int32, Int64

from conkd_jax.data.corpus import Dialogue, responses
from conkd_jax.data.vocabulary import Vocabulary

FORMS = ("teacher", "student")


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows and responses of one split (R rows, N responses).

    Response n is the n-th of the split in the order of ``conkd_jax.data.corpus.responses``; rows
    follow the same order, so the responses of a row are consecutive.

    Attributes:
        tokens: [R] arrays [L], the rows in the teacher's form.
        response_keys: [N] pairs (conversation_id, merged-turn index).
        response_row: [N] the one row in which the response is a target.
        response_start: [N] position of its SEP in that row.
        response_length: [N] number of targets T, from 1 to ``max_response_tokens``.
        response_is_rec: [N] whether the whole, uncut turn holds an item token.
        row_offsets: [R + 1] row r has the responses ``row_offsets[r]`` to ``row_offsets[r + 1]``.
        targets: all targets, response after response.
        target_offsets: [N + 1] where each response's targets begin.
        student_rows: [R] arrays [L], the rows in the student's form.
        dialogue_tokens: for each form, every dialogue's whole run of tokens.
        response_dialogue: [N] which of them holds the response.
        response_position: [N] position of its SEP there.
    """

    tokens: list[np.ndarray]
    response_keys: list[tuple[str, int]]
    response_row: Int32[np.ndarray, " N"]
    response_start: Int32[np.ndarray, " N"]
    response_length: Int32[np.ndarray, " N"]
    response_is_rec: Bool[np.ndarray, " N"]
    row_offsets: Int64[np.ndarray, " R1"]
    targets: Int32[np.ndarray, " T"]
    target_offsets: Int64[np.ndarray, " N1"]
    student_rows: list[np.ndarray]
    dialogue_tokens: dict[str, list[np.ndarray]]
    response_dialogue: Int32[np.ndarray, " N"]
    response_position: Int32[np.ndarray, " N"]

    @property
    def num_rows(self) -> int:
        """R."""
        return len(self.tokens)

    @property
    def num_responses(self) -> int:
        """N."""
        return len(self.response_keys)

    @property
    def lengths(self) -> Int32[np.ndarray, " R"]:
        """Tokens in each row."""
        return np.fromiter(map(len, self.tokens), np.int32, self.num_rows)

    @property
    def row_targets(self) -> Int64[np.ndarray, " R"]:
        """Response tokens (targets) in each row."""
        return np.diff(self.target_offsets[self.row_offsets])

    def student_tokens(self, row: int | np.integer) -> Int32[np.ndarray, " L"]:
        """A row in the student's form: SEP is [REC] or [GEN]."""
        return self.student_rows[row]

    def row_tokens(self, row: int | np.integer, form: str) -> Int32[np.ndarray, " L"]:
        """A row in the form "teacher" or "student"."""
        return self.tokens[row] if form == "teacher" else self.student_rows[row]

    def response_targets(self, response: int | np.integer) -> Int32[np.ndarray, " T"]:
        """The targets of one response."""
        return self.targets[self.target_offsets[response] : self.target_offsets[response + 1]]


def build_rows(
    dialogues: Sequence[Dialogue],
    vocabulary: Vocabulary,
    max_row_tokens: int = 512,
    max_response_tokens: int = 30,
) -> Rows:
    """The rows of a split.

    A dialogue over ``max_row_tokens`` is split at a turn. Each further row opens with the tail of
    the history, at most half a row of it, so that a split row still serves several responses; a
    response turn that does not fit behind that is cut in this row and whole in the next one's
    history. A row ends with its last response turn.

    Args:
        dialogues: merged dialogues in split order; turns alternate between the two roles.
        vocabulary: the token ids.
        max_row_tokens: longest row, in tokens.
        max_response_tokens: most targets of a response; its head is kept.

    Raises:
        ValueError: if half a row can't hold a response, or a dialogue's turns do not alternate.
    """
    if not 1 <= max_response_tokens <= max_row_tokens // 2:
        raise ValueError(
            "max_response_tokens must be at least 1 and fit in half a row: got "
            f"{max_response_tokens} with max_row_tokens={max_row_tokens}."
        )
    encoded = _encode(dialogues, vocabulary)
    builder = _Builder(max_row_tokens, max_response_tokens)
    for dialogue, tokens in zip(dialogues, encoded, strict=True):
        builder.add(dialogue, tokens)
    return builder.finish()


def contexts(
    rows: Rows,
    max_tokens: int,
    form: str = "student",
    responses: Sequence[int] | None = None,
) -> list[Int32[np.ndarray, " L"]]:
    """What was said before each response: its whole history up to, not including, its SEP.

    Args:
        rows: the split. The history is the dialogue's, not only what the response's row holds.
        max_tokens: the last so many tokens are kept.
        form: "student": past recommender turns open with their own [REC] or [GEN], as decoding
            wants it. "teacher": with the plain end token, as the turn classifier wants it.
        responses: response ids; None means all, in order.

    Returns:
        One array per response; empty where nothing with text came before.

    Raises:
        ValueError: for an unknown form or a limit below 1.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {FORMS}, got {form!r}.")
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, got {max_tokens}.")
    chosen = range(rows.num_responses) if responses is None else responses
    dialogues = rows.dialogue_tokens[form]
    histories = []
    for response in chosen:
        end = int(rows.response_position[response])
        tokens = dialogues[rows.response_dialogue[response]]
        histories.append(tokens[max(0, end - max_tokens) : end])
    return histories


@dataclasses.dataclass(frozen=True)
class _Encoded:
    """One dialogue as a single run of tokens.

    ``begins[i]`` and ``ends[i]`` bound turn i; a recommender turn begins with its SEP.
    """

    teacher: np.ndarray
    student: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    is_rec: np.ndarray


def _encode(dialogues: Sequence[Dialogue], vocabulary: Vocabulary) -> list[_Encoded]:
    """Every dialogue's tokens in both forms, with one call of the tokenizer for all texts."""
    for dialogue in dialogues:
        _check_turns(dialogue)
    turn_ids = iter(
        vocabulary.encode_batch([turn.text for dialogue in dialogues for turn in dialogue.turns])
    )
    encoded = []
    for dialogue in dialogues:
        tokens: list[int] = []
        begins, is_rec = [], []
        for turn in dialogue.turns:
            ids = next(turn_ids)
            begins.append(len(tokens))
            is_rec.append(max(ids, default=0) >= vocabulary.num_words)
            if turn.role == "recommender":
                tokens += [vocabulary.end_id, *ids, vocabulary.end_id]
            else:
                tokens += ids
        teacher = np.array(tokens, np.int32)
        student = teacher.copy()
        for turn, begin, rec in zip(dialogue.turns, begins, is_rec, strict=True):
            if turn.role == "recommender":
                student[begin] = vocabulary.rec_id if rec else vocabulary.gen_id
        ends = np.array([*begins[1:], len(tokens)])
        encoded.append(_Encoded(teacher, student, np.array(begins), ends, np.array(is_rec)))
    return encoded


def _check_turns(dialogue: Dialogue) -> None:
    roles = [turn.role for turn in dialogue.turns]
    for index, role in enumerate(roles):
        if role not in ("seeker", "recommender") or (index and role == roles[index - 1]):
            raise ValueError(
                f"Dialogue {dialogue.conversation_id!r}, turn {index}: expected roles that "
                f"alternate between 'seeker' and 'recommender', got {role!r} after "
                f"{roles[index - 1] if index else None!r}. Merge consecutive messages of a speaker."
            )


class _Builder:
    """Collects rows and responses dialogue by dialogue."""

    def __init__(self, max_row_tokens: int, max_response_tokens: int):
        self.max_row_tokens = max_row_tokens
        self.max_response_tokens = max_response_tokens
        self.spans: list[tuple[int, int, int]] = []  # dialogue, begin, end
        self.row_offsets = [0]
        self.dialogues: list[_Encoded] = []
        self.keys: list[tuple[str, int]] = []
        self.places: list[tuple[int, ...]] = []  # row, start, length, is_rec, dialogue, position
        self.targets: list[np.ndarray] = []

    def add(self, dialogue: Dialogue, encoded: _Encoded) -> None:
        """Cut one dialogue into rows."""
        number = len(self.dialogues)
        self.dialogues.append(encoded)
        limit, history = self.max_row_tokens, self.max_row_tokens // 2
        row_begin, row_end = 0, None  # row_end None: no response in this row yet
        for turn in responses(dialogue):
            sep, end = int(encoded.begins[turn]), int(encoded.ends[turn])
            if end - row_begin > limit and sep - row_begin > history:
                if row_end is not None:
                    self._close(number, row_begin, row_end)
                row_begin = sep - history
            row_end = min(end, row_begin + limit)  # half a row always holds the targets
            targets = encoded.teacher[sep + 1 : end][: self.max_response_tokens]
            self.keys.append((dialogue.conversation_id, turn))
            # the row is closed later, under this very number
            place = (len(self.spans), sep - row_begin, len(targets), encoded.is_rec[turn])
            self.places.append((*place, number, sep))
            self.targets.append(targets)
        if row_end is not None:
            self._close(number, row_begin, row_end)

    def _close(self, number: int, begin: int, end: int) -> None:
        self.spans.append((number, begin, end))
        self.row_offsets.append(len(self.keys))

    def finish(self) -> Rows:
        """The arrays over all dialogues."""
        places = np.array(self.places, np.int32).reshape(-1, 6)
        lengths = places[:, 2]
        return Rows(
            tokens=[self.dialogues[d].teacher[a:b] for d, a, b in self.spans],
            student_rows=[self.dialogues[d].student[a:b] for d, a, b in self.spans],
            response_keys=self.keys,
            response_row=places[:, 0],
            response_start=places[:, 1],
            response_length=lengths,
            response_is_rec=places[:, 3].astype(bool),
            row_offsets=np.array(self.row_offsets, np.int64),
            targets=np.concatenate([np.zeros(0, np.int32), *self.targets]),
            target_offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
            dialogue_tokens={
                "teacher": [encoded.teacher for encoded in self.dialogues],
                "student": [encoded.student for encoded in self.dialogues],
            },
            response_dialogue=places[:, 4],
            response_position=places[:, 5],
        )
