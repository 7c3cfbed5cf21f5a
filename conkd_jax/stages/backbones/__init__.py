"""What differs between the language models of `config.backbone`, and nothing else.

A backbone is a module of this folder with the functions of `BackboneStages`: how its words are
made, what a row of it is, and how its untrained model is built. Training, distillation, the store,
decoding and scoring are the same for all and know only the contract of `models.backbone`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

from etils import epath
from tokenizers import Tokenizer

from conkd_jax.config import BACKBONES, ConfigError
from conkd_jax.data.corpus import Corpus, Dialogue
from conkd_jax.data.rows.contract import Rows
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.models.backbone import Backbone
from conkd_jax.typing import Params


@runtime_checkable
class BackboneStages(Protocol):
    """The functions that a module of this folder offers the stages."""

    READS_RECOMMENDER: bool  # whether the model is built on a trained recommender's graph vectors

    def vocabulary_identity(self, config) -> dict:
        """The config fields that the words depend on, beside the tokenizer's name."""
        ...

    def tokenizer(self, config, texts: Sequence[str]) -> Tokenizer:
        """The words, trained on texts or published."""
        ...

    def write_word_vectors(
        self, config, texts: Sequence[str], vocabulary: Vocabulary, directory: epath.Path
    ) -> None:
        """Trains what the embedding starts from, where it starts from something: on one process."""
        ...

    def row_identity(self, config) -> dict:
        """The config fields that rows depend on and words don't."""
        ...

    def rows_of(
        self, config, corpus: Corpus, vocabulary: Vocabulary, dialogues: Sequence[Dialogue]
    ) -> Rows:
        """The rows of dialogues, of a split or made up: computed, not stored, in seconds."""
        ...

    def longest_prompt(self, config) -> int:
        """Tokens that a decoder's prompt may have under the config."""
        ...

    def initial_identity(self, config) -> dict:
        """The config fields that the untrained model depends on."""
        ...

    def initial(
        self, config, inputs: Mapping[str, epath.Path], vocabulary: Vocabulary, seed: int
    ) -> tuple[Backbone, Params, Params]:
        """The model before any training on dialogues: (model, parameters, frozen arrays).

        Args:
          inputs: artifact folders by stage name: corpus, vocabulary and, where it is read,
            rec_teacher.
          seed: of the random parts.

        Raises:
          ConfigError: what the config names can't be read.
        """
        ...

    def model_of(self, spec: Mapping[str, Any], vocabulary: Vocabulary) -> Backbone:
        """The model of a saved spec, the fields of `initial`'s `model.spec`."""
        ...

    def check_sources(self, config, *, makes_words: bool, makes_model: bool) -> None:
        """Looks for the files that the config names, before the first stage runs.

        Raises:
          ConfigError: naming the field; expected files are not there, or of another kind.
        """
        ...


def of(config) -> BackboneStages:
    """The backbone that a config names.

    Raises:
      ConfigError: there is none of that name.
    """
    if config.backbone not in BACKBONES:
        raise ConfigError(
            f"config.backbone: expected one of {', '.join(BACKBONES)}, got {config.backbone!r}"
        )
    return cast(BackboneStages, importlib.import_module(f"{__name__}.{config.backbone}"))
