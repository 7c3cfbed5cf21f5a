"""The models of a run, and batches of histories made ready for them.

Histories are answered in batches of a fixed size and a few fixed lengths, each of which is compiled
once. Heads, rules and rows are those of the run's evaluation. Nothing here changes between answers.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.chat.paths import Paths
from conkd_jax.data.corpus import RECOMMENDER, Dialogue, Turn, responses
from conkd_jax.data.mentioned_items import mentioned_with_token
from conkd_jax.data.rows.contract import Prompts
from conkd_jax.data.rows.picks import pick_room
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.errors import UserError
from conkd_jax.eval.decode_loop import Chooser, Memory
from conkd_jax.eval.item_rankings import item_mask
from conkd_jax.eval.pick_grammar import PickRules
from conkd_jax.eval.search import Draws
from conkd_jax.eval.streaming import ReadResponse, read_response
from conkd_jax.models.turn_classifier import REC
from conkd_jax.runs.finished import Run
from conkd_jax.stages import turn_classifier
from conkd_jax.stages.evaluation import decoding_head
from conkd_jax.stages.systems.free_text import TextLinker

LENGTHS = (64, 192)  # that prompts are padded to, before the longest: few, as each is compiled


class ChatError(UserError, ValueError):
    """A history that can't be answered, or a command that can't be followed."""


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
        if not (self.temperature > 0 and 0 <= self.top_p <= 1):
            raise ChatError(
                "expected temperature above 0 and top_p from 0 to 1, got "
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


class Engine:
    """A run that answers batches.

    Attributes:
      run: the run.
      system: its models.
      vocabulary: its words and items.
      batch_size: the most histories that are answered at once.
    """

    def __init__(self, run: Run, batch_size: int):
        self.run, self.system, self.batch_size = run, run.system, batch_size
        self.vocabulary: Vocabulary = run.vocabulary

    @functools.cached_property
    def linker(self) -> TextLinker:
        """Finds items and other nodes of the graph in free text."""
        return TextLinker(self.system.corpus)

    @functools.cached_property
    def paths(self) -> Paths:
        """Finds paths between the nodes of the graph."""
        return Paths(self.system.corpus)

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
    def lengths(self) -> list[int]:
        """The lengths that prompts are padded to."""
        return [length for length in LENGTHS if length < self._longest] + [self._longest]

    @functools.cached_property
    def _classifier(self):
        model, params = turn_classifier.load(self.system.directory("turn_classifier"))
        return model, jax.device_put(params)

    @functools.cached_property
    def classifier_lengths(self) -> list[int]:
        """The lengths that the turn classifier's contexts are padded to."""
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

    def classify(self, histories: Sequence[np.ndarray]) -> list[bool]:
        """Whether each response should recommend, by the turn classifier."""
        model, params = self._classifier
        longest = max(map(len, histories))
        length = next(n for n in self.classifier_lengths if n >= longest)
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
        """Dialogues that end with the seeker's turn, ready for the models."""
        system = self.system
        asked, rows, last = self._rows(dialogues)
        is_rec = None
        if system.has_tags:
            positions = self._classifier[0].num_positions
            is_rec = self.classify(rows.histories(positions, "teacher", last))
        opening = system.openings(np.array(is_rec or [False] * len(last))).tolist()
        prompts = rows.prompts(last, opening, self._longest, system.form)
        closing = [system.vocabulary.end_id] * len(last)
        teacher_prompts = rows.prompts(last, closing, self._longest, "teacher")
        return Question(prompts, teacher_prompts, self._padded(prompts), is_rec, asked)

    def length(self, dialogue: Dialogue) -> int:
        """What the prompt of a dialogue is padded to; those of one length can share a batch."""
        _, rows, last = self._rows([dialogue])
        opening = self.system.openings(np.array([False])).tolist()  # a tag is one token, any tag
        return self._padded(rows.prompts(last, opening, self._longest, self.system.form))

    def _rows(self, dialogues: Sequence[Dialogue]):
        """The dialogues with an empty response, their rows, and the ids of these responses."""
        asked = [
            Dialogue(f"chat {place}", (*dialogue.turns, Turn(RECOMMENDER, "")))
            for place, dialogue in enumerate(dialogues)
        ]
        # A history has responses too; the one that is asked for is the last of its dialogue.
        last = (np.cumsum([len(responses(dialogue)) for dialogue in asked]) - 1).tolist()
        return asked, self.system.rows_of(asked), last

    def _padded(self, prompts: Prompts) -> int:
        longest = int(max(prompts.lengths))
        return next((n for n in self.lengths if n >= longest), self.lengths[-1])

    def memory(self, question: Question, seeds: Sequence[int] | None, sampling: Sampling) -> Memory:
        """What the choices of tokens depend on, before the first one."""
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
            each = jnp.asarray(np.resize([seed % 2**31 for seed in seeds], size).astype(np.int32))
            draws = Draws.of(0, each, sampling.temperature, sampling.top_p)
        return Memory(forbidden, picks, draws)
