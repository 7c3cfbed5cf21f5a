"""`Chat`: a trained run that answers histories.

A chat holds models and no conversation: an answer depends on the history, the seed and nothing
else, so that one object serves many people. Histories are answered in batches of a fixed size and
a few fixed lengths, each of which is compiled once.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np
from etils import epath

from conkd_jax.chat.response import Piece, RankedItem, RecommendedItem, Response, ResponseToken
from conkd_jax.data.corpus import RECOMMENDER, SEEKER, Dialogue, Turn, responses
from conkd_jax.data.mentioned_items import mentioned_with_token
from conkd_jax.data.rows.contract import Prompts
from conkd_jax.data.rows.picks import pick_room, split_picks
from conkd_jax.errors import UserError
from conkd_jax.eval.decode_loop import Chooser, Memory
from conkd_jax.eval.item_rankings import item_mask
from conkd_jax.eval.pick_grammar import PickRules
from conkd_jax.eval.prediction_checks import spell_apart
from conkd_jax.eval.search import Draws
from conkd_jax.eval.streaming import ReadResponse, StreamStep, read_response, stream_batch
from conkd_jax.models.turn_classifier import REC
from conkd_jax.run import Run
from conkd_jax.stages import turn_classifier
from conkd_jax.stages.evaluation import decoding_head
from conkd_jax.stages.free_text import Reading, TextLinker
from conkd_jax.stages.system import System

LENGTHS = (64, 192)  # that prompts are padded to, before the longest: few, as each is compiled
TOP_ITEMS = 50
UNDECODED = "\ufffd"  # the first bytes of a character that the next token completes

Message = str | Turn | Reading | Response


class ChatError(UserError, ValueError):
    """A history that can't be answered."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How random responses are drawn.

    Attributes:
      temperature: τ; a token y is drawn in proportion to P(y)^(1/τ).
      top_p: only the fewest tokens that together have this probability are drawn.
    """

    temperature: float = 1.0
    top_p: float = 0.95

    def __post_init__(self):
        if not (self.temperature > 0 and 0 < self.top_p <= 1):
            raise ChatError(
                "expected temperature above 0 and top_p above 0 and up to 1, got "
                f"{self.temperature} and {self.top_p}"
            )


@dataclasses.dataclass(frozen=True)
class Question:
    """A batch of histories, ready for the models.

    Attributes:
      prompts: of the system, and of the dialogue teacher.
      length: what they are padded to.
      is_rec: the predicted tags; None for a system without tags.
      dialogues: each with an empty response as its last turn.
    """

    prompts: Prompts
    teacher_prompts: Prompts
    length: int
    is_rec: list[bool] | None
    dialogues: list[Dialogue]


class Chat:
    """A run that answers; open one with `Chat.open`.

    Attributes:
      run: the run.
      system: its models.
      batch_size: the most histories that are answered at once.
    """

    def __init__(self, run: Run, batch_size: int = 1):
        self.run, self.system, self.batch_size = run, run.system, batch_size

    @classmethod
    def open(cls, run: Run | epath.PathLike, *, batch_size: int = 1, warm: bool = True) -> Chat:
        """Opens a run.

        Args:
          run: a folder written by conkd_jax.train, or an opened run.
          batch_size: the most histories that are answered at once.
          warm: whether to compile every shape now, so that no answer has to wait for it.

        Raises:
          RunError: the folder holds no run, or a trained artifact is missing.
        """
        run = run if isinstance(run, Run) else Run.open(run)
        run.expect_trained()
        chat = cls(run, batch_size)
        if warm:
            chat.warm_up()
        return chat

    # --- reading -------------------------------------------------------------------------------

    @functools.cached_property
    def linker(self) -> TextLinker:
        """Finds movies, people and genres in free text."""
        return TextLinker(self.system.corpus)

    def read(
        self,
        text: str,
        role: str = SEEKER,
        corrections: Mapping[int, int | None] | None = None,
    ) -> Reading:
        """Reads what a person typed; arguments as of `TextLinker.read`."""
        return self.linker.read(text, role, corrections)

    def dialogue(self, history: Sequence[Message]) -> Dialogue:
        """The history as the models read it: turns of alternating speakers.

        Raises:
          ChatError: the history is empty, or its last message is not the seeker's.
        """
        if isinstance(history, str) or not history:
            raise ChatError(
                f"history: expected a list of one or more messages, the last one the seeker's; got "
                f"{history!r}"
            )
        turns: list[Turn] = []
        for place, message in enumerate(history):
            role = SEEKER if (len(history) - place) % 2 else RECOMMENDER
            turn = self.read(message, role).turn if isinstance(message, str) else message
            turn = turn if isinstance(turn, Turn) else turn.turn
            if turns and turns[-1].role == turn.role:
                turn = _joined(turns.pop(), turn)
            turns.append(turn)
        if turns[-1].role != SEEKER:
            raise ChatError("history: expected a message of the seeker last, got a response")
        return Dialogue("chat", tuple(turns))

    # --- answering -----------------------------------------------------------------------------

    def respond(
        self,
        history: Sequence[Message],
        *,
        seed: int | None = None,
        sampling: Sampling | None = None,
    ) -> Response:
        """Answers a history.

        Args:
          history: the messages so far, the last one the seeker's. Texts alternate between speakers;
            titles, people and genres are found in them. What `read` and `respond` return and turns
            of the corpus know their speaker.
          seed: None for the most probable token at each step, by the rules of the run's decoding
            (beams can't be streamed); a number draws a random response, the same for the same
            number.
          sampling: how it is drawn; None for the run's own temperature and top-p.

        Returns:
          The response. Nothing in the chat changes.

        Raises:
          ChatError: the history can't be answered.
        """
        return self.stream(history, seed=seed, sampling=sampling).response()

    def stream(
        self,
        history: Sequence[Message],
        *,
        seed: int | None = None,
        sampling: Sampling | None = None,
    ) -> Stream:
        """Answers a history a token at a time; arguments as of `respond`."""
        seeds = None if seed is None else [seed]
        question = self.question([self.dialogue(history)])
        return Stream(self, question, seeds, sampling or self.sampling)

    def respond_all(
        self,
        histories: Sequence[Sequence[Message]],
        *,
        seeds: Sequence[int] | None = None,
        sampling: Sampling | None = None,
    ) -> list[Response]:
        """Answers many histories, up to `batch_size` at once; each as if it were alone.

        Args:
          histories: as of `respond`.
          seeds: one for each history, or None.
          sampling: as of `respond`.
        """
        dialogues = [self.dialogue(history) for history in histories]
        alone = [self.question([dialogue]).length for dialogue in dialogues]
        found: dict[int, Response] = {}
        for length in sorted(set(alone)):
            members = [place for place, own in enumerate(alone) if own == length]
            for start in range(0, len(members), self.batch_size):
                some = members[start : start + self.batch_size]
                question = self.question([dialogues[place] for place in some])
                of_some = None if seeds is None else [seeds[place] for place in some]
                stream = Stream(self, question, of_some, sampling or self.sampling)
                found |= zip(some, stream.responses(), strict=True)
        return [found[place] for place in range(len(histories))]

    def warm_up(self) -> float:
        """Compiles every shape; returns the seconds that it took."""
        began = time.perf_counter()
        dialogue = Dialogue("warm-up", (Turn(SEEKER, "Hi"),))
        question = self.question([dialogue])
        for length in self._lengths:
            padded = dataclasses.replace(question, length=length)
            Stream(self, padded, None, self.sampling).warm_up()
        if self.system.has_tags:
            for length in self._classifier_lengths:
                self._classify([np.zeros(length, np.int32)])
        return time.perf_counter() - began

    # --- the models ----------------------------------------------------------------------------

    @property
    def max_tokens(self) -> int:
        """The longest response, picks and end token included."""
        return self.run.config.decode.max_tokens + pick_room(self.system.rows.max_picks)

    @functools.cached_property
    def head(self):
        """The head that responses are decoded with, as in the evaluation of the run."""
        return decoding_head(self.system, self.run.config.decode.item_offset)

    @property
    def sampling(self) -> Sampling:
        """How a random response is drawn: as in the evaluation, where that sampled."""
        decode = self.run.config.decode
        is_sampled = decode.strategy == "sample"
        return Sampling(decode.temperature, decode.top_p) if is_sampled else Sampling()

    @functools.cached_property
    def chooser(self) -> Chooser:
        """The choice of a token, by the rules of the run's decoding."""
        words, rules = self.system.vocabulary, self.run.config.decode
        return Chooser(
            num_words=words.num_words,
            end_id=words.end_id,
            item_rule=rules.item_rule,
            allow_repeats=rules.allow_repeated_items,
            max_picks=self.system.rows.max_picks or 0,
        )

    @functools.cached_property
    def _longest(self) -> int:
        return self.system.rows.longest_prompt(self.run.config.decode.max_tokens)

    @functools.cached_property
    def _lengths(self) -> list[int]:
        return [length for length in LENGTHS if length < self._longest] + [self._longest]

    @functools.cached_property
    def _classifier(self):
        model, params = turn_classifier.load(self.system.directory("turn_classifier"))
        return model, jax.device_put(params)

    @functools.cached_property
    def _classifier_lengths(self) -> list[int]:
        limit = self._classifier[0].num_positions
        return [length for length in LENGTHS if length < limit] + [limit]

    @functools.cached_property
    def variables(self):
        """The arrays of the system's model, on the device."""
        return jax.device_put(self.system.model.variables)

    @functools.cached_property
    def teacher_variables(self):
        """The arrays of the dialogue teacher, on the device."""
        return jax.device_put(self.system.dialogue_teacher.variables)

    @functools.cached_property
    def teacher_head(self):
        """The head of the dialogue teacher."""
        return self.system.dialogue_teacher.head()

    def _classify(self, histories: Sequence[np.ndarray]) -> list[bool]:
        model, params = self._classifier
        longest = max(map(len, histories))
        length = next(n for n in self._classifier_lengths if n >= longest)
        filled = [*histories, *[np.zeros(0, np.int32)] * (self.batch_size - len(histories))]
        log_probs = turn_classifier.log_probs(
            params, *turn_classifier.padded(filled, length), model=model
        )
        return (np.asarray(log_probs).argmax(-1) == REC)[: len(histories)].tolist()

    def read_as_teacher(self, question: Question, tokens: np.ndarray) -> ReadResponse:
        """What the dialogue teacher predicts at every token [B, T] of responses."""
        teacher = self.system.dialogue_teacher
        arrays = self.teacher_variables, self.teacher_head
        return self._read(teacher, *arrays, question.teacher_prompts, question, tokens)

    def read_as_system(self, question: Question, tokens: np.ndarray) -> ReadResponse:
        """What the system itself predicts at every token [B, T] of responses."""
        arrays = self.variables, self.head
        return self._read(self.system.model, *arrays, question.prompts, question, tokens)

    def _read(self, language_model, variables, head, prompts, question, tokens) -> ReadResponse:
        size, words = self.batch_size, self.system.vocabulary
        padded = np.full((size, self.max_tokens), words.end_id, np.int32)
        padded[: len(tokens), : tokens.shape[1]] = tokens
        members = list(range(len(question.dialogues)))
        inputs = prompts.inputs(members, question.length, size)
        model, num_words = language_model.model, words.num_words
        return read_response(variables, head, inputs, padded, model=model, num_words=num_words)

    def question(self, dialogues: Sequence[Dialogue]) -> Question:
        system = self.system
        asked = [
            Dialogue(f"chat {place}", (*dialogue.turns, Turn(RECOMMENDER, "")))
            for place, dialogue in enumerate(dialogues)
        ]
        rows = system.rows_of(asked)
        # A history has responses too; the one that is asked for is the last of its dialogue.
        last = (np.cumsum([len(responses(dialogue)) for dialogue in asked]) - 1).tolist()
        is_rec = None
        if system.has_tags:
            positions = self._classifier[0].num_positions
            is_rec = self._classify(rows.histories(positions, "teacher", last))
        opening = system.openings(np.array(is_rec or [False] * len(last))).tolist()
        prompts = rows.prompts(last, opening, self._longest, system.form)
        closing = [system.vocabulary.end_id] * len(last)
        teacher_prompts = rows.prompts(last, closing, self._longest, "teacher")
        longest = int(max(prompts.lengths))
        length = next((n for n in self._lengths if n >= longest), self._lengths[-1])
        return Question(prompts, teacher_prompts, length, is_rec, asked)

    def _memory(
        self, question: Question, seeds: Sequence[int] | None, sampling: Sampling
    ) -> Memory:
        words, rules, size = self.system.vocabulary, self.run.config.decode, self.batch_size
        max_picks, count = self.system.rows.max_picks, len(question.dialogues)
        forbidden, picks, draws = None, None, None
        if max_picks is not None:
            pick_rules = PickRules(max_picks, question.is_rec or [None] * count)
            picks = pick_rules.states(range(count), size, words.num_items)
        if not (rules.allow_mentioned_items and rules.allow_repeated_items) or max_picks:
            given: list[list[int]] = [[] for _ in question.dialogues]
            if not rules.allow_mentioned_items:
                for place, dialogue in enumerate(question.dialogues):
                    mentioned = mentioned_with_token(words, dialogue, len(dialogue.turns) - 1)
                    given[place] = [words.num_words + item for item in mentioned]
            forbidden = item_mask(given, size, words.num_items, words.num_words)
        if seeds is not None:
            each = np.resize(np.asarray(seeds, np.uint32), size)
            draws = Draws.of(0, each, sampling.temperature, sampling.top_p)
        return Memory(forbidden, picks, draws)


class Stream:
    """The answers to a batch of histories while they are decoded.

    Iterate over one to get the tokens of a single answer as they come; `response` completes it.
    """

    def __init__(
        self, chat: Chat, question: Question, seeds: Sequence[int] | None, sampling: Sampling
    ):
        self._chat, self._question = chat, question
        self._seeds, self._sampling = seeds, sampling
        self._began = time.perf_counter()
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
                text, movie = self._text(row)
                added.append(Piece(text[len(said[row]) :], movie))
                said[row] = text
            yield added

    def _text(self, row: int) -> tuple[str, int | None]:
        """An answer so far, and the movie that its last token names.

        A title stands where a text had a space, so that the text only grows.
        """
        words, (_, tokens) = self._chat.system.vocabulary, self._tokens(row)
        text = words.render(tokens)
        if not self._raw[-1].has_ended[row]:
            text = text.removesuffix(UNDECODED)
        has_item = bool(tokens) and len(self._raw) and tokens[-1] == self._raw[-1].token[row]
        has_item = has_item and bool(words.is_item(tokens[-1]))
        return text, int(words.movie_ids[tokens[-1] - words.num_words]) if has_item else None

    def response(self) -> Response:
        """Decodes what is left, and returns the answer."""
        return self.responses()[0]

    def responses(self) -> list[Response]:
        """Decodes what is left; returns the answer to each history."""
        for _ in self._steps:
            pass
        masses = self._teacher_masses() if self._chat.system.has_student else None
        seconds = time.perf_counter() - self._began
        return [self._response(row, masses, seconds) for row in range(self._count)]

    def warm_up(self) -> None:
        """Decodes two tokens and reads them, which compiles every program of this length."""
        for _ in self._decode(least_tokens=2):
            if len(self._raw) == 2:
                break
        if self._chat.system.has_student:
            self._teacher_masses()

    def _decode(self, least_tokens: int = 1) -> Iterator[StreamStep]:
        chat, question, size = self._chat, self._question, self._chat.batch_size
        members = list(range(self._count))
        for step in stream_batch(
            chat.system.model.model,
            chat.variables,
            chat.head,
            question.prompts.inputs(members, question.length, size),
            chat._memory(question, self._seeds, self._sampling),
            np.arange(size) >= self._count,
            chooser=chat.chooser,
            max_tokens=chat.max_tokens,
            top_k=TOP_ITEMS,
            least_tokens=least_tokens,
        ):
            if not self._raw:
                self._first_seconds = time.perf_counter() - self._began
            self._raw.append(step)
            yield step

    def _tokens(self, row: int) -> tuple[list[int], list[int]]:
        """The picks and the text of an answer so far, without its end token."""
        words, rules = self._chat.system.vocabulary, self._chat.run.config.decode
        raw = [int(step.token[row]) for step in self._raw]
        picks: list[int] = []
        if self._chat.system.rows.max_picks is not None:
            found, text = split_picks(raw, words.num_words, words.end_id)
            picks, raw = list(found), list(text)
        raw = raw[: rules.max_tokens]
        return picks, raw[: raw.index(words.end_id)] if words.end_id in raw else raw

    def _teacher_masses(self) -> np.ndarray:
        raw = np.stack([step.token for step in self._raw], axis=1)
        return np.asarray(self._chat.read_as_teacher(self._question, raw).item_mass)

    def _response(self, row: int, masses: np.ndarray | None, seconds: float) -> Response:
        words = self._chat.system.vocabulary
        picks, text = self._tokens(row)
        first = len(picks) + 1 if picks else 0  # of the text: picks end with the end token
        found, items, said = [], [], ""
        for place, token in enumerate(text):
            whole = words.render(text[: place + 1])
            step, mass = self._raw[first + place], None
            if masses is not None:
                mass = float(masses[row, first + place])
            movie = int(words.movie_ids[token - words.num_words]) if words.is_item(token) else None
            found.append(
                ResponseToken(
                    text=whole[len(said) :],
                    movie_id=movie,
                    probability=float(step.probability[row]),
                    item_mass=float(step.item_mass[row]),
                    teacher_mass=mass,
                )
            )
            said = whole
            if movie is not None:
                chosen = self._raw[picks.index(token)] if picks else step
                items.append(self._item(token, place, chosen, row))
        tagged = self._question.is_rec
        return Response(
            text=said,
            turn=self._turn(text, [item.movie_id for item in items]),
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
        words = self._chat.system.vocabulary

        def ranked(item: int, probability: float) -> RankedItem:
            index = int(item) - words.num_words
            title = words.titles[index].strip() or f"@{words.movie_ids[index]}"
            return RankedItem(int(words.movie_ids[index]), title, float(probability))

        ranking = tuple(
            ranked(item, probability)
            for item, probability in zip(step.top[row], step.top_probability[row], strict=True)
            if probability > 0
        )
        own = ranked(token, step.probability[row])
        if step.token[row] != token:  # a pick that was named again
            own = next((one for one in ranking if one.movie_id == own.movie_id), own)
        return RecommendedItem(own.movie_id, own.title, own.probability, place, ranking)

    def _turn(self, tokens: Sequence[int], items: Sequence[int]) -> Turn:
        """The answer as a turn of the corpus; words that spell "@12" name no movie."""
        text = spell_apart(self._chat.system.vocabulary.decode(tokens), items)
        linked = self._chat.linker.linker.link([text])
        return Turn(
            RECOMMENDER,
            text,
            linked.items,
            linked.unknown_items,
            linked.entities,
            linked.concepts,
        )


def _joined(first: Turn, second: Turn) -> Turn:
    """Two messages of one speaker as one turn, as in the corpus."""
    return Turn(
        first.role,
        f"{first.text} {second.text}".strip(),
        first.items + second.items,
        first.unknown_items + second.unknown_items,
        first.entities + second.entities,
        first.concepts + second.concepts,
    )
