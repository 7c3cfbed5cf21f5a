"""A trained system: its corpus, its models, and the tokens that start its responses.

Used by the evaluation, the analysis of the gate and the timing. Each model is loaded on first use.
Nothing is trained or written.
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
from conkd_jax.stages.any_recommender import AnyRecommender
from conkd_jax.stages.backbones import RowSettings
from conkd_jax.stages.language_model import LanguageModel
from conkd_jax.stages.training import compute_setting

PROMPT_BUCKETS = (32, 64, 128, 192, 256, 384)  # lengths that prompts are padded to


@dataclasses.dataclass(frozen=True, eq=False)
class System:
    """The trained system of a config, opened from artifacts.

    Attributes:
      backbone: the backbone of the language models.
      rows: the settings of their rows.
      names: the names of its artifacts, as in the inputs of `evaluation`: "corpus", "student", …
      directory: returns the folder of an artifact; may raise if it is missing.
      compute_dtype: the type of the language models' products (`training.compute_setting`).
    """

    backbone: str
    rows: RowSettings
    names: Collection[str]
    directory: Callable[[str], epath.Path]
    compute_dtype: str | None = None

    @classmethod
    def of_config(
        cls, config: Config, names: Collection[str], directory: Callable[[str], epath.Path]
    ) -> System:
        """The system of a config; the other arguments are the attributes of the same names."""
        rows = backbones.named(config.backbone).row_settings(config)
        dtype = compute_setting(config)
        return cls(config.backbone, rows, names, directory, dtype)

    # --- data ----------------------------------------------------------------------------------

    @functools.cached_property
    def corpus(self) -> Corpus:
        """The corpus with the scored split; the test split is in a separate one."""
        return Corpus.open(
            self.directory("scored_corpus" if "scored_corpus" in self.names else "corpus")
        )

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """Words and items."""
        return Vocabulary.load(self.directory("vocabulary"))

    def rows_of(self, dialogues: Sequence[Dialogue]) -> Rows:
        """The rows of dialogues, of a split or written by hand."""
        return self.rows.rows_of(self.corpus, self.vocabulary, dialogues)

    # --- models --------------------------------------------------------------------------------

    @property
    def has_student(self) -> bool:
        """Whether the responses are a student's, and not the dialogue teacher's."""
        return "student" in self.names

    @property
    def has_teacher(self) -> bool:
        """Whether there is a dialogue teacher beside the student; a small release has none."""
        return self.has_student and "dialogue_teacher" in self.names

    @property
    def has_tags(self) -> bool:
        """Whether responses start with [REC] or [GEN], chosen by a turn classifier."""
        return "turn_classifier" in self.names

    @property
    def form(self) -> str:
        """The form of the rows that `model` reads: "student" with tags, "teacher" without."""
        return "student" if self.has_tags else "teacher"

    @functools.cached_property
    def dialogue_teacher(self) -> LanguageModel:
        """The dialogue teacher, from which the gate takes the item mass."""
        return self._load("dialogue_teacher")

    @functools.cached_property
    def model(self) -> LanguageModel:
        """The model that generates the responses."""
        if not self.has_student:
            return self.dialogue_teacher
        return self._load("student")

    def _load(self, name: str) -> LanguageModel:
        directory = self.directory(name)
        return language_model.load(self.backbone, directory, self.vocabulary, self.compute_dtype)

    @functools.cached_property
    def recommender(self) -> AnyRecommender:
        """The recommender, with the graphs of the corpus."""
        return recommenders.load(self.directory("rec_teacher"), self.corpus)

    # --- responses -----------------------------------------------------------------------------

    def predicted_is_rec(self, rows: Rows) -> np.ndarray | None:
        """Whether each response is predicted to recommend, [N] bool.

        None for a system without a turn classifier.
        """
        if not self.has_tags:
            return None
        return turn_classifier.predict(self.directory("turn_classifier"), rows)

    def openings(self, is_rec: np.ndarray) -> np.ndarray:
        """The token that starts each response, [N]: its tag or, without tags, the end token.

        Args:
          is_rec: [N] whether each response should recommend.
        """
        if not self.has_tags:
            return np.full(len(is_rec), self.vocabulary.end_id)
        return np.where(is_rec, self.vocabulary.rec_id, self.vocabulary.gen_id)


def prompt_buckets(longest: int) -> list[int]:
    """The lengths that prompts are padded to, ascending; each is compiled once.

    Args:
      longest: tokens of the longest prompt.

    >>> prompt_buckets(100)
    [32, 64, 100]
    """
    return [length for length in PROMPT_BUCKETS if length < longest] + [longest]


def spread_evenly(count: int, limit: int | None) -> np.ndarray:
    """Indices of at most `limit` of `count` responses, spread evenly.

    Args:
      count: number of responses.
      limit: the most indices to return; None means all.

    >>> spread_evenly(10, 4).tolist(), spread_evenly(3, 4).tolist()
    ([0, 3, 6, 9], [0, 1, 2])
    """
    if limit is None or limit >= count:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, limit).astype(int))
