"""A trained system, ready to answer: its models, its rows, and the token that opens a response.

Evaluation, the gate's analysis and timing all open a system here. A model is loaded when it is
first used, so that a program that needs one of them does not wait for the rest. Nothing is trained
or written.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence

import numpy as np
from etils import epath

from conkd_jax.config import Config
from conkd_jax.data.corpus import Corpus, Dialogue
from conkd_jax.data.rows.contract import Rows
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.stages import backbones, language_model, turn_classifier
from conkd_jax.stages import recommender as recommenders
from conkd_jax.stages.backbones import RowSettings
from conkd_jax.stages.language_model import LanguageModel

PROMPT_BUCKETS = (32, 64, 128, 192, 256, 384)  # lengths that prompts are padded to


@dataclasses.dataclass(frozen=True, eq=False)
class System:
    """What a config trained, opened from artifacts.

    Attributes:
      backbone: the name of the language models' backbone.
      rows: what their rows are.
      names: the artifacts that the system has, as inputs of its evaluation: "corpus", "student", …
      directory: returns the folder of one of them; may raise where it is gone.
    """

    backbone: str
    rows: RowSettings
    names: Collection[str]
    directory: Callable[[str], epath.Path]

    @classmethod
    def of_config(
        cls, config: Config, names: Collection[str], directory: Callable[[str], epath.Path]
    ) -> System:
        """The system of a whole config; other arguments as the attributes."""
        rows = backbones.named(config.backbone).row_settings(config)
        return cls(config.backbone, rows, names, directory)

    # --- data ----------------------------------------------------------------------------------

    @functools.cached_property
    def corpus(self) -> Corpus:
        """The corpus that holds the scored split: the test split has one of its own."""
        return Corpus.open(
            self.directory("scored_corpus" if "scored_corpus" in self.names else "corpus")
        )

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """Words and items."""
        return Vocabulary.load(self.directory("vocabulary"))

    def rows_of(self, dialogues: Sequence[Dialogue]) -> Rows:
        """The rows of dialogues, those of a split or made-up ones."""
        return self.rows.rows_of(self.corpus, self.vocabulary, dialogues)

    # --- models --------------------------------------------------------------------------------

    @property
    def has_student(self) -> bool:
        """Whether a student answers; else the fine-tuned dialogue teacher does."""
        return "student" in self.names

    @property
    def has_tags(self) -> bool:
        """Whether a turn classifier chooses the [REC] or [GEN] that opens a response."""
        return "turn_classifier" in self.names

    @property
    def form(self) -> str:
        """The form of the rows that `model` reads: "student" with tags, "teacher" without."""
        return "student" if self.has_tags else "teacher"

    @functools.cached_property
    def dialogue_teacher(self) -> LanguageModel:
        """The dialogue teacher; its item mass is λ."""
        return language_model.load(
            self.backbone, self.directory("dialogue_teacher"), self.vocabulary
        )

    @functools.cached_property
    def model(self) -> LanguageModel:
        """The model that answers."""
        if not self.has_student:
            return self.dialogue_teacher
        return language_model.load(self.backbone, self.directory("student"), self.vocabulary)

    @functools.cached_property
    def recommender(self) -> recommenders.TrainedRecommender:
        """The recommender, on the graphs of the corpus."""
        return recommenders.load(self.directory("rec_teacher"), self.corpus)

    # --- answering -----------------------------------------------------------------------------

    def predicted_is_rec(self, rows: Rows) -> np.ndarray | None:
        """Whether the turn classifier expects each response to recommend ([N] bool).

        None for a system without a turn classifier.
        """
        if not self.has_tags:
            return None
        return turn_classifier.predict(self.directory("turn_classifier"), rows)

    def openings(self, is_rec: np.ndarray) -> np.ndarray:
        """The token that opens each response: its tag, or the separator in a system without tags.

        Args:
          is_rec: [N] whether each response is to recommend.
        """
        if not self.has_tags:
            return np.full(len(is_rec), self.vocabulary.end_id)
        return np.where(is_rec, self.vocabulary.rec_id, self.vocabulary.gen_id)


def prompt_buckets(longest: int) -> list[int]:
    """The lengths that prompts are padded to, rising; each is compiled once.

    Args:
      longest: tokens of the longest prompt.

    >>> prompt_buckets(100)
    [32, 64, 100]
    """
    return [length for length in PROMPT_BUCKETS if length < longest] + [longest]


def spread_evenly(count: int, limit: int | None) -> np.ndarray:
    """Indices of at most `limit` of `count` responses, spread evenly over the split.

    Args:
      count: responses of the split.
      limit: None takes all of them.

    >>> spread_evenly(10, 4).tolist(), spread_evenly(3, 4).tolist()
    ([0, 3, 6, 9], [0, 1, 2])
    """
    if limit is None or limit >= count:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, limit).astype(int))
