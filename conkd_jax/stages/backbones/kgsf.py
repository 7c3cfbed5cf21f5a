"""KGSF: an encoder and a decoder over whole words and the recommender's graphs, a row a response.

The graph representations are those of the trained recommender, computed once when the model is
made and carried with it, frozen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from tokenizers import Tokenizer

from conkd_jax.config import ConfigError
from conkd_jax.data.corpus import ConceptGraph, Corpus, Dialogue
from conkd_jax.data.rows.response import ResponseRows, build_response_rows
from conkd_jax.data.tokenizers.bpe import VocabularyError
from conkd_jax.data.tokenizers.words import load_words, train_words
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.data.word_vectors import train_word_vectors
from conkd_jax.models import kgsf
from conkd_jax.stages import recommender as trained_recommender
from conkd_jax.typing import Params

READS_RECOMMENDER = True
WORD_VECTORS = "word_vectors.npy"


def vocabulary_identity(config) -> dict:
    """Which words are counted in, and how their vectors are trained."""
    identity = {"backbone": "kgsf", "word_vectors": config.kgsf.word_vectors}
    if config.vocabulary.tokenizer == "train":
        identity["min_word_count"] = config.vocabulary.min_word_count
    if config.kgsf.word_vectors == "word2vec":
        identity |= {"embed_dim": config.kgsf.embed_dim, "seed": config.teacher_seed}
    return identity


def tokenizer(config, texts: Sequence[str]) -> Tokenizer:
    """The words of the corpus, or those of KGSF's own list."""
    part = config.vocabulary
    if part.tokenizer == "train":
        return train_words(texts, part.min_word_count)
    return load_words(part.tokenizer)


def write_word_vectors(
    config, texts: Sequence[str], vocabulary: Vocabulary, directory: epath.Path
) -> None:
    """word2vec over the training turns."""
    if config.kgsf.word_vectors == "random":
        return
    sentences = vocabulary.encode_batch(texts)
    vectors = train_word_vectors(
        sentences, vocabulary.num_rows, config.kgsf.embed_dim, config.teacher_seed
    )
    with (directory / WORD_VECTORS).open("wb") as file:
        np.save(file, vectors)


def row_identity(config) -> dict:
    """Limits of contexts and responses."""
    words, rec = config.vocabulary, config.rec_teacher
    return {
        "max_context_turns": words.max_context_turns,
        "max_context_tokens": words.max_context_tokens,
        "max_response_tokens": words.max_response_tokens,
        "max_context_entities": rec.max_context_entities,
        "max_context_concepts": rec.max_context_concepts,
    }


def rows_of(
    config, corpus: Corpus, vocabulary: Vocabulary, dialogues: Sequence[Dialogue]
) -> ResponseRows:
    """One row for each response, with what the recommender reads of its history."""
    words = config.vocabulary
    recommender = trained_recommender.RecSpec.of(config.rec_teacher)
    return build_response_rows(
        dialogues,
        vocabulary,
        recommender.contexts(dialogues, corpus),
        max_context_turns=words.max_context_turns,
        max_context_tokens=words.max_context_tokens,
        max_response_tokens=words.max_response_tokens,
    )


def longest_prompt(config) -> int:
    """A context."""
    return config.vocabulary.max_context_tokens


def initial_identity(config) -> dict:
    """The shape; the vocabulary and the recommender are inputs of their own."""
    return config.kgsf.to_dict()


def initial(
    config, inputs: Mapping[str, epath.Path], vocabulary: Vocabulary, seed: int
) -> tuple[kgsf.KGSF, Params, Params]:
    """Word vectors, random weights, and the frozen graphs of a trained recommender."""
    corpus = Corpus.open(inputs["corpus"])
    recommender = trained_recommender.load(inputs["rec_teacher"], corpus)
    frozen = {kgsf.GRAPH: _graph(recommender, corpus, vocabulary)}
    part = config.kgsf
    spec = kgsf.KGSFSpec(
        num_layers=part.num_layers,
        embed_dim=part.embed_dim,
        num_heads=part.num_heads,
        mlp_dim=part.mlp_dim,
        dropout=part.dropout,
        node_dim=recommender.spec.embed_dim,
    )
    model = kgsf.KGSF(spec, vocabulary.num_rows, vocabulary.num_targets)
    vectors = None
    if part.word_vectors == "word2vec":
        with (inputs["vocabulary"] / WORD_VECTORS).open("rb") as file:
            vectors = np.load(file, allow_pickle=False)
    params = model.init(jax.random.key(seed, impl=config.rng_impl), vectors)
    return model, params, frozen


def model_of(spec: Mapping[str, Any], vocabulary: Vocabulary) -> kgsf.KGSF:
    """A KGSF of a saved spec."""
    return kgsf.KGSF(kgsf.KGSFSpec(**spec), vocabulary.num_rows, vocabulary.num_targets)


def check_sources(config, *, makes_words: bool, makes_model: bool) -> None:
    """Looks for the word list."""
    named = config.vocabulary.tokenizer
    try:
        if makes_words and named != "train":
            load_words(named)
    except VocabularyError as error:
        raise ConfigError(f"config.vocabulary.tokenizer: {error}") from error


def _graph(
    recommender: trained_recommender.RecTeacher, corpus: Corpus, vocabulary: Vocabulary
) -> dict[str, np.ndarray]:
    """What `models.kgsf` reads of the recommender: node vectors, and the row of every graph id."""
    nodes, index = recommender.nodes, recommender.index
    entities, concepts = np.arange(-1, index.num_entities), np.arange(-1, index.num_concepts)
    return {
        "entities": np.asarray(nodes.entities),
        "entity_energies": np.asarray(nodes.entity_energies),
        "entity_rows": np.roll(index.entity_rows(entities), -1),  # padding, -1, comes last
        "concepts": np.asarray(nodes.concepts),
        "concept_energies": np.asarray(nodes.concept_energies),
        "concept_rows": np.roll(index.concept_rows(concepts), -1),
        "copy_mask": copy_mask(corpus.concept_graph, vocabulary),
    }


def copy_mask(graph: ConceptGraph, vocabulary: Vocabulary) -> np.ndarray:
    """Which targets the copy term reaches, [Y]: every item, and words that are concepts.

    Stop words and the tokens for the end and for unknown words are never reached.

    KGSF's released masks hold 12,974 key words and 5,718 movies, 4,447 of them in both, which it
    adds up to 2; here a target is reached or not.
    """
    keys = {
        word
        for word, stop in zip(graph.words, graph.is_stop_word.tolist(), strict=True)
        if not stop
    }
    mask = np.ones(vocabulary.num_targets, np.float32)
    for token in range(vocabulary.num_words):
        mask[token] = vocabulary.tokenizer.id_to_token(token).lower() in keys
    mask[[vocabulary.end_id, vocabulary.unk_id]] = 0.0
    return mask
