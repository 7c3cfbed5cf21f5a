"""DialoGPT: FlaxGPT2 over byte-level BPE, one row a dialogue.

Weights and tokenizer by a name of the Hugging Face hub or a folder; or random weights and a BPE
trained on the corpus.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from etils import epath
from tokenizers import Tokenizer

from conkd_jax.artifacts.build import named_content
from conkd_jax.config import ConfigError
from conkd_jax.data.corpus import Corpus, Dialogue
from conkd_jax.data.rows.dialogue import DialogueRows, build_rows
from conkd_jax.data.tokenizers.bpe import VocabularyError, load_bpe, train_bpe
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.models import gpt2, gpt2_weights
from conkd_jax.typing import Params

READS_RECOMMENDER = False
SHAPE_FIELDS = ("num_layers", "embed_dim", "num_heads", "num_positions", "dropout")


def vocabulary_identity(config) -> dict:
    """The size of a BPE that is trained."""
    part = config.vocabulary
    return {"bpe_size": part.bpe_size} if part.tokenizer == "train" else {}


def tokenizer(config, texts: Sequence[str]) -> Tokenizer:
    """A trained or a published byte-level BPE."""
    part = config.vocabulary
    return (
        train_bpe(texts, part.bpe_size) if part.tokenizer == "train" else load_bpe(part.tokenizer)
    )


def write_word_vectors(
    config, texts: Sequence[str], vocabulary: Vocabulary, directory: epath.Path
) -> None:
    """None: published weights bring their embedding, random ones start at random."""


def row_identity(config) -> dict:
    """Limits of rows and responses."""
    part = config.vocabulary
    return {
        "max_row_tokens": part.max_row_tokens,
        "max_response_tokens": part.max_response_tokens,
    }


def rows_of(
    config, corpus: Corpus, vocabulary: Vocabulary, dialogues: Sequence[Dialogue]
) -> DialogueRows:
    """Whole dialogues."""
    return build_rows(dialogues, vocabulary, **row_identity(config))


def longest_prompt(config) -> int:
    """A row, less the response to come."""
    return config.vocabulary.max_row_tokens - config.decode.max_tokens


def initial_identity(config) -> dict:
    """Which weights; their shape too, which counts where they are random."""
    part = config.dialogue_teacher
    shape = {key: part[key] for key in SHAPE_FIELDS}
    return {"weights": named_content(part.weights, made_here="random"), **shape}


def initial(
    config, inputs: Mapping[str, epath.Path], vocabulary: Vocabulary, seed: int
) -> tuple[gpt2.GPT2, Params, Params]:
    """Named weights and new item rows, or random weights."""
    part = config.dialogue_teacher
    rng = jax.random.key(seed, impl=config.rng_impl)
    if part.weights == "random":
        spec = gpt2.GPT2Spec(**{key: part[key] for key in SHAPE_FIELDS})
        model = gpt2.GPT2(spec, vocabulary.num_rows)
        return model, model.init(rng), {}
    try:
        spec, params = gpt2.load_pretrained(part.weights)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(f"config.dialogue_teacher.weights: {error}") from error
    spec = dataclasses.replace(spec, dropout=part.dropout)
    titles = [vocabulary.title_token_ids(item) for item in range(vocabulary.num_items)]
    params = gpt2.extend_embedding(params, vocabulary.num_words, titles, vocabulary.num_rows, rng)
    return gpt2.GPT2(spec, vocabulary.num_rows), params, {}


def model_of(spec: Mapping[str, Any], vocabulary: Vocabulary) -> gpt2.GPT2:
    """A GPT-2 of a saved spec."""
    return gpt2.GPT2(gpt2.GPT2Spec(**spec), vocabulary.num_rows)


def check_sources(config, *, makes_words: bool, makes_model: bool) -> None:
    """Looks for tokenizer and weights, and holds the rows to the weights' positions."""
    named, weights = config.vocabulary.tokenizer, config.dialogue_teacher.weights
    try:
        if makes_words and named != "train":
            load_bpe(named)
    except VocabularyError as error:
        raise ConfigError(f"config.vocabulary.tokenizer: {error}") from error
    if not makes_model or weights == "random":
        return
    try:
        num_positions = gpt2_weights.num_positions(gpt2_weights.find(weights)[0])
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(f"config.dialogue_teacher.weights: {error}") from error
    longest = config.vocabulary.max_row_tokens
    if longest > num_positions:
        raise ConfigError(
            f"config.vocabulary.max_row_tokens: expected at most {num_positions}, the positions of "
            f"{weights!r}, got {longest}"
        )
