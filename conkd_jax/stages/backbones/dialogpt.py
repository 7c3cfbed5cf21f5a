"""DialoGPT: FlaxGPT2 over byte-level BPE, one row per dialogue.

Weights and tokenizer come from the Hugging Face hub or a folder. Alternatively, the weights are
random and the BPE is trained on the corpus.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from etils import epath
from tokenizers import Tokenizer

from conkd_jax.artifacts.fingerprint import named_content, outside_fingerprint
from conkd_jax.config import Config, ConfigError
from conkd_jax.data.corpus import Corpus, Dialogue
from conkd_jax.data.rows.dialogue import DialogueRows, build_dialogue_rows
from conkd_jax.data.rows.picks import pick_room
from conkd_jax.data.tokenizers.bpe import VocabularyError, load_bpe, train_bpe
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.models import gpt2, gpt2_weights
from conkd_jax.stages.exported_items import with_exported_items
from conkd_jax.typing import Params

READS_RECOMMENDER = False


@dataclasses.dataclass(frozen=True)
class BPESettings:
    """Settings of a byte-level BPE, published or trained.

    Attributes:
      bpe_size: |V| of a trained BPE; None for a published one.
      source: "train", a hub name or a folder.
    """

    bpe_size: int | None
    source: str = outside_fingerprint(because="its content enters, as the vocabulary's tokenizer")

    def tokenizer(self, texts: Sequence[str]) -> Tokenizer:
        """Trains the BPE on texts, or reads it from its source."""
        if self.bpe_size is not None:
            return train_bpe(texts, self.bpe_size)
        return load_bpe(self.source)

    def write_word_vectors(
        self, texts: Sequence[str], vocabulary: Vocabulary, directory: epath.Path
    ) -> None:
        """Writes nothing: the embedding is part of the published weights, or random."""


@dataclasses.dataclass(frozen=True)
class DialogueRowSettings:
    """Settings of rows that hold whole dialogues."""

    max_row_tokens: int
    max_response_tokens: int
    max_picks: int | None = None  # not 0: ordinary rows have their old fingerprint

    def rows_of(
        self, corpus: Corpus, vocabulary: Vocabulary, dialogues: Sequence[Dialogue]
    ) -> DialogueRows:
        """The rows of dialogues; `corpus` is not used."""
        return build_dialogue_rows(
            dialogues,
            vocabulary,
            max_row_tokens=self.max_row_tokens,
            max_response_tokens=self.max_response_tokens,
            max_picks=self.max_picks,
        )

    def longest_prompt(self, max_tokens: int) -> int:
        """The length of a row without the response."""
        return self.max_row_tokens - max_tokens - pick_room(self.max_picks)


@dataclasses.dataclass(frozen=True)
class GPT2Settings:
    """Settings of a GPT-2 with published or random weights; shape as in `config.dialogue_teacher`.

    Attributes:
      weights: "random", a hub name, or the hashes of a folder's files.
      num_layers: number of layers; like the other sizes, used with random weights only.
      embed_dim: width of embeddings and layers.
      num_heads: attention heads per layer.
      num_positions: learned positions.
      dropout: dropout rate, also with published weights.
      source: "random", the hub name or the folder.
    """

    weights: str | dict[str, str]
    num_layers: int
    embed_dim: int
    num_heads: int
    num_positions: int
    dropout: float
    source: str = outside_fingerprint(because="its content enters, as weights")

    def initial(
        self, inputs: Mapping[str, epath.Path], vocabulary: Vocabulary, seed: int, rng_impl: str
    ) -> tuple[gpt2.GPT2, Params, Params]:
        """Builds the model from published weights and new item embeddings, or at random."""
        rng = jax.random.key(seed, impl=rng_impl)
        if self.source == "random":
            spec = gpt2.GPT2Spec(
                num_layers=self.num_layers,
                embed_dim=self.embed_dim,
                num_heads=self.num_heads,
                num_positions=self.num_positions,
                dropout=self.dropout,
            )
            model = gpt2.GPT2(spec, vocabulary.num_rows)
            return model, model.init(rng), {}
        try:
            spec, params = gpt2.load_pretrained(self.source)
        except (FileNotFoundError, ValueError) as error:
            raise ConfigError(f"config.dialogue_teacher.weights: {error}") from error
        spec = dataclasses.replace(spec, dropout=self.dropout)
        titles = [vocabulary.title_token_ids(item) for item in range(vocabulary.num_items)]
        extended = gpt2.extend_embedding(
            params, vocabulary.num_words, titles, vocabulary.num_rows, rng
        )
        extended = with_exported_items(extended, params, self.source, vocabulary, gpt2.GPT2)
        return gpt2.GPT2(spec, vocabulary.num_rows), extended, {}


def word_settings(config: Config) -> BPESettings:
    """The settings of the config's BPE."""
    part = config.vocabulary
    size = part.bpe_size if part.tokenizer == "train" else None
    return BPESettings(bpe_size=size, source=part.tokenizer)


def row_settings(config: Config) -> DialogueRowSettings:
    """The lengths of rows and responses, and whether items come first."""
    part = config.vocabulary
    return DialogueRowSettings(
        part.max_row_tokens, part.max_response_tokens, part.max_picks or None
    )


def model_settings(config: Config) -> GPT2Settings:
    """The weights and, for random ones, their shape."""
    part = config.dialogue_teacher
    return GPT2Settings(
        weights=named_content(part.weights, made_here="random"),
        num_layers=part.num_layers,
        embed_dim=part.embed_dim,
        num_heads=part.num_heads,
        num_positions=part.num_positions,
        dropout=part.dropout,
        source=part.weights,
    )


def model_of(spec: Mapping[str, Any], vocabulary: Vocabulary) -> gpt2.GPT2:
    """Rebuilds a GPT-2 from its saved spec."""
    return gpt2.GPT2(gpt2.GPT2Spec(**spec), vocabulary.num_rows)


def check_sources(config: Config, *, makes_words: bool, makes_model: bool) -> None:
    """Checks that tokenizer and weights exist and that rows fit the weights' positions."""
    check_published(
        config,
        lambda weights: gpt2_weights.num_positions(gpt2_weights.find_weights(weights)[0]),
        makes_words=makes_words,
        makes_model=makes_model,
    )


def check_published(
    config: Config, positions_of: Callable[[str], int], *, makes_words: bool, makes_model: bool
) -> None:
    """Checks the published tokenizer and weights that a config names, if any.

    Args:
      config: the whole config.
      positions_of: finds weights and returns the longest sequence that they can read.
      makes_words: as of `BackboneStages.check_sources`.
      makes_model: the same.

    Raises:
      ConfigError: the tokenizer or the weights can't be used; names the field.
    """
    tokenizer, weights = config.vocabulary.tokenizer, config.dialogue_teacher.weights
    try:
        if makes_words and tokenizer != "train":
            load_bpe(tokenizer)
    except VocabularyError as error:
        raise ConfigError(f"config.vocabulary.tokenizer: {error}") from error
    if not makes_model or weights == "random":
        return
    try:
        num_positions = positions_of(weights)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(f"config.dialogue_teacher.weights: {error}") from error
    longest = config.vocabulary.max_row_tokens
    if longest > num_positions:
        raise ConfigError(
            f"config.vocabulary.max_row_tokens: expected at most {num_positions}, the positions of "
            f"{weights!r}, got {longest}"
        )
