"""An answer while it is decoded, and the `Response` it becomes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from conkd_jax.chat.engine import Engine, Question, Sampling
from conkd_jax.chat.response import Piece, RankedItem, RecommendedItem, Response, ResponseToken
from conkd_jax.data.corpus import RECOMMENDER, Turn
from conkd_jax.data.rows.picks import split_picks
from conkd_jax.eval.prediction_checks import spell_apart
from conkd_jax.eval.streaming import StreamStep, stream_batch

TOP_ITEMS = 50
UNDECODED = "\ufffd"  # the first bytes of a character that the next token completes


class Stream:
    """The answers to a batch of histories while they are decoded.

    Iterate over one to get the tokens of a single answer as they come; `response` completes it.

    Args:
      engine: the models.
      question: the histories.
      seeds: one for each, or None for the most probable tokens.
      sampling: how random tokens are drawn.
      began: when the histories arrived, by `time.perf_counter`.
    """

    def __init__(
        self,
        engine: Engine,
        question: Question,
        seeds: Sequence[int] | None,
        sampling: Sampling,
        began: float,
    ):
        self._engine, self._question = engine, question
        self._seeds, self._sampling = seeds, sampling
        self._began = began
        self._count = len(question.dialogues)
        self._raw: list[StreamStep] = []
        self._steps = self._decode()
        self._first_seconds = 0.0

    def __iter__(self) -> Iterator[Piece]:
        """Yields what each step adds to the text of the answer; its items are titles."""
        if self._count != 1:
            raise ValueError(f"expected a stream of one answer, got {self._count}; use `pieces`")
        for pieces in self.pieces():
            if pieces[0].text:
                yield pieces[0]

    def pieces(self) -> Iterator[list[Piece]]:
        """Yields what each step adds to each answer; an empty piece where it adds nothing."""
        said = [""] * self._count
        for _ in self._steps:
            added = []
            for row in range(self._count):
                text, item_id = self._text(row)
                added.append(Piece(text[len(said[row]) :], item_id))
                said[row] = text
            yield added

    def _text(self, row: int) -> tuple[str, int | None]:
        """An answer so far, and the item that its last token names.

        A title stands where a text had a space, so that the text only grows.
        """
        words, (_, tokens) = self._engine.vocabulary, self._tokens(row)
        text = words.render(tokens)
        if not self._raw[-1].has_ended[row]:
            text = text.removesuffix(UNDECODED)
        has_item = bool(tokens) and len(self._raw) and tokens[-1] == self._raw[-1].token[row]
        has_item = has_item and tokens[-1] >= words.num_words
        return text, int(words.item_ids[tokens[-1] - words.num_words]) if has_item else None

    def response(self) -> Response:
        """Decodes what is left, and returns the answer."""
        return self.responses()[0]

    def responses(self) -> list[Response]:
        """Decodes what is left; returns the answer to each history."""
        for _ in self._steps:
            pass
        masses = self._teacher_masses() if self._engine.system.has_teacher else None
        seconds = time.perf_counter() - self._began
        return [self._response(row, masses, seconds) for row in range(self._count)]

    def warm_up(self) -> None:
        """Decodes two tokens and reads them, which compiles every program of this length."""
        for _ in self._decode(least_tokens=2):
            if len(self._raw) == 2:
                break
        if self._engine.system.has_teacher:
            self._teacher_masses()

    def _decode(self, least_tokens: int = 1) -> Iterator[StreamStep]:
        engine, question, size = self._engine, self._question, self._engine.batch_size
        members = list(range(self._count))
        for step in stream_batch(
            engine.system.model.model,
            engine.variables,
            engine.head,
            question.prompts.inputs(members, question.length, size),
            engine.memory(question, self._seeds, self._sampling),
            np.arange(size) >= self._count,
            chooser=engine.chooser,
            max_tokens=engine.max_tokens,
            top_k=TOP_ITEMS,
            least_tokens=least_tokens,
        ):
            if not self._raw:
                self._first_seconds = time.perf_counter() - self._began
            self._raw.append(step)
            yield step

    def _tokens(self, row: int) -> tuple[list[int], list[int]]:
        """The picks and the text of an answer so far, without its end token."""
        words, rules = self._engine.vocabulary, self._engine.run.config.decode
        raw = [int(step.token[row]) for step in self._raw]
        picks: list[int] = []
        if self._engine.system.rows.max_picks is not None:
            found, text = split_picks(raw, words.num_words, words.end_id)
            picks, raw = list(found), list(text)
        raw = raw[: rules.max_tokens]
        return picks, raw[: raw.index(words.end_id)] if words.end_id in raw else raw

    def _teacher_masses(self) -> np.ndarray:
        raw = np.stack([step.token for step in self._raw], axis=1)
        return np.asarray(self._engine.read_as_teacher(self._question, raw).item_mass)

    def _response(self, row: int, masses: np.ndarray | None, seconds: float) -> Response:
        words = self._engine.vocabulary
        picks, text = self._tokens(row)
        first = len(picks) + 1 if picks else 0  # of the text: picks end with the end token
        found, items, said = [], [], ""
        for place, token in enumerate(text):
            whole = words.render(text[: place + 1])
            step, mass = self._raw[first + place], None
            if masses is not None:
                mass = float(masses[row, first + place])
            item_id = (
                int(words.item_ids[token - words.num_words]) if token >= words.num_words else None
            )
            found.append(
                ResponseToken(
                    text=whole[len(said) :],
                    item_id=item_id,
                    probability=float(step.probability[row]),
                    item_mass=float(step.item_mass[row]),
                    teacher_mass=mass,
                )
            )
            said = whole
            if item_id is not None:
                chosen = self._raw[picks.index(token)] if picks else step
                items.append(self._item(token, place, chosen, row))
        tagged = self._question.is_rec
        return Response(
            text=said,
            turn=self._turn(text, [item.item_id for item in items]),
            items=tuple(items),
            tokens=tuple(found),
            tag=None if tagged is None else "rec" if tagged[row] else "gen",
            seconds=seconds,
            first_seconds=self._first_seconds,
            ended=bool(self._raw[-1].has_ended[row]),
            ids=self._ids(row),
        )

    def _ids(self, row: int) -> tuple[int, ...]:
        """The decoded tokens, without what fills the row after its end."""
        ends = [place for place, step in enumerate(self._raw) if step.has_ended[row]]
        raw = self._raw[: ends[0] + 1] if ends else self._raw
        return tuple(int(step.token[row]) for step in raw)

    def _item(self, token: int, place: int, step: StreamStep, row: int) -> RecommendedItem:
        words = self._engine.vocabulary

        def ranked(item: int, probability: float) -> RankedItem:
            index = item - words.num_words
            title = words.titles[index].strip() or f"@{words.item_ids[index]}"
            return RankedItem(int(words.item_ids[index]), title, probability)

        ranking = tuple(
            ranked(item, probability)
            for item, probability in zip(
                step.top[row].tolist(), step.top_probability[row].tolist(), strict=True
            )
            if probability > 0
        )
        own = ranked(token, float(step.probability[row]))
        if step.token[row] != token:  # a pick that was named again
            own = next((one for one in ranking if one.item_id == own.item_id), own)
        return RecommendedItem(own.item_id, own.title, own.probability, place, ranking)

    def _turn(self, tokens: Sequence[int], items: Sequence[int]) -> Turn:
        """The answer as a turn of the corpus; words that spell "@12" name no item."""
        text = spell_apart(self._engine.vocabulary.decode(tokens), items)
        return self._engine.linker.turn(text, RECOMMENDER)
