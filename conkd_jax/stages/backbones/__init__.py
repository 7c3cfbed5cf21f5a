"""What differs between the language models of `config.backbone`, and nothing else.

A backbone is a module of this folder that offers the functions of `BackboneStages`. They turn a
config into three small settings objects: how the words are made (`WordSettings`), what a row is
(`RowSettings`) and how the untrained model is built (`ModelSettings`). Each object holds the fields
that enter fingerprints and does its work from them, so no stage has to know which backbone it
serves. Training, distillation, the teacher store, decoding and scoring are the same for all
backbones and rely on the contract of `conkd_jax.models.backbone` only.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

from etils import epath
from tokenizers import Tokenizer

from conkd_jax.config import BACKBONES, Config, ConfigError
from conkd_jax.data.corpus import Corpus, Dialogue
from conkd_jax.data.rows.contract import Rows
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.models.backbone import Backbone
from conkd_jax.typing import Params


@runtime_checkable
class WordSettings(Protocol):
    """How the words of a vocabulary are made; a frozen dataclass."""

    def tokenizer(self, texts: Sequence[str]) -> Tokenizer:
        """The words, trained on texts or published."""
        ...

    def write_word_vectors(
        self, texts: Sequence[str], vocabulary: Vocabulary, directory: epath.Path
    ) -> None:
        """Trains the vectors that the embedding starts from, if any; called by one process."""
        ...


@runtime_checkable
class RowSettings(Protocol):
    """What a row of the language model is; a frozen dataclass."""

    max_response_tokens: int

    def rows_of(
        self, corpus: Corpus, vocabulary: Vocabulary, dialogues: Sequence[Dialogue]
    ) -> Rows:
        """The rows of dialogues, from a split or written by hand: computed in seconds."""
        ...

    def longest_prompt(self, max_tokens: int) -> int:
        """The length of the longest prompt whose response may have `max_tokens` tokens."""
        ...


@runtime_checkable
class ModelSettings(Protocol):
    """How the model is made before any training on dialogues; a frozen dataclass."""

    def initial(
        self, inputs: Mapping[str, epath.Path], vocabulary: Vocabulary, seed: int, rng_impl: str
    ) -> tuple[Backbone, Params, Params]:
        """The untrained model: (model, parameters, frozen arrays).

        Args:
          inputs: artifact folders by stage name: corpus, vocabulary and, where the backbone reads
            it, rec_teacher.
          vocabulary: of the artifact.
          seed: of the random parts.
          rng_impl: the generator that draws them.

        Raises:
          ConfigError: the named weights can't be read.
        """
        ...


@runtime_checkable
class BackboneStages(Protocol):
    """The functions that a module of this folder offers the stages."""

    READS_RECOMMENDER: bool  # whether the model is built on a trained recommender's node vectors

    def word_settings(self, config: Config) -> WordSettings:
        """How a config's words are made."""
        ...

    def row_settings(self, config: Config) -> RowSettings:
        """What a config's rows are."""
        ...

    def model_settings(self, config: Config) -> ModelSettings:
        """How a config's untrained model is made."""
        ...

    def model_of(self, spec: Mapping[str, Any], vocabulary: Vocabulary) -> Backbone:
        """The model of a saved spec: the fields of the initial model's `spec`."""
        ...

    def check_sources(self, config: Config, *, makes_words: bool, makes_model: bool) -> None:
        """Looks for the files that the config names, before the first stage runs.

        Raises:
          ConfigError: names the field; the files are missing, or of another kind.
        """
        ...


def named(backbone: str) -> BackboneStages:
    """The backbone of that name.

    Raises:
      ConfigError: there is none.
    """
    if backbone not in BACKBONES:
        raise ConfigError(
            f"config.backbone: expected one of {', '.join(BACKBONES)}, got {backbone!r}"
        )
    return cast(BackboneStages, importlib.import_module(f"{__name__}.{backbone}"))
