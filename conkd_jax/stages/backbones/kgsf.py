"""KGSF: encoder and decoder over whole words and the recommender's graphs, one row per response.

The node vectors come from the trained recommender. They are computed once, when the model is built,
and saved with it as frozen arrays.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from etils import epath
from tokenizers import Tokenizer

from conkd_jax.artifacts.fingerprint import outside_fingerprint, view
from conkd_jax.config import Config, ConfigError, KGSFConfig
from conkd_jax.data.corpus import ConceptGraph, Corpus, Dialogue
from conkd_jax.data.recommender_inputs import build_recommender_contexts
from conkd_jax.data.rows.response import ResponseRows, build_response_rows
from conkd_jax.data.tokenizers.bpe import VocabularyError
from conkd_jax.data.tokenizers.words import load_words, train_words
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.data.word_vectors import has_word2vec, train_word_vectors
from conkd_jax.io.files import write_whole
from conkd_jax.models import kgsf, revcore
from conkd_jax.stages import recommender as recommenders
from conkd_jax.typing import Params

READS_RECOMMENDER = True
_WORD_VECTORS = "word_vectors.npy"


@dataclasses.dataclass(frozen=True)
class WholeWordSettings:
    """Settings of a list of whole words and of their initial vectors.

    Attributes:
      word_vectors: "word2vec" or "random".
      min_word_count: for a list built from the corpus, the smallest count of a word that is kept;
        None for KGSF's own list.
      embed_dim: width of the word2vec vectors; None without word2vec.
      seed: seed of word2vec; None without word2vec.
      lower_case: True if words are lower-cased, else None.
      source: "train", or the path of KGSF's list.
    """

    word_vectors: str
    min_word_count: int | None
    embed_dim: int | None
    seed: int | None
    source: str = outside_fingerprint(because="its content enters, as the vocabulary's tokenizer")
    lower_case: bool | None = None  # not False: a cased list has its old fingerprint

    def tokenizer(self, texts: Sequence[str]) -> Tokenizer:
        """Builds the word list from texts, or reads KGSF's own."""
        if self.min_word_count is not None:
            return train_words(texts, self.min_word_count, lower_case=bool(self.lower_case))
        return load_words(self.source)

    def write_word_vectors(
        self, texts: Sequence[str], vocabulary: Vocabulary, directory: epath.Path
    ) -> None:
        """Trains word2vec on the training turns and writes its vectors, if the config uses it."""
        if self.embed_dim is None or self.seed is None:
            return
        sentences = vocabulary.encode_batch(texts)
        vectors = train_word_vectors(sentences, vocabulary.num_rows, self.embed_dim, self.seed)
        buffer = io.BytesIO()  # on a full disk NumPy's own error would say less
        np.save(buffer, vectors)
        write_whole(directory / _WORD_VECTORS, buffer.getvalue())


def read_word_vectors(directory: epath.Path) -> np.ndarray:
    """Reads what `WholeWordSettings.write_word_vectors` wrote, one vector per row."""
    with (directory / _WORD_VECTORS).open("rb") as file:
        return np.load(file, allow_pickle=False)


@dataclasses.dataclass(frozen=True)
class ResponseRowSettings:
    """Settings of rows that hold one response each, its context and the recommender's input."""

    max_context_turns: int
    max_context_tokens: int
    max_response_tokens: int
    max_context_entities: int
    max_context_concepts: int
    max_picks: int | None = None  # not 0: ordinary rows have their old fingerprint
    use_reviews: bool | None = None  # not False, likewise

    def rows_of(
        self, corpus: Corpus, vocabulary: Vocabulary, dialogues: Sequence[Dialogue]
    ) -> ResponseRows:
        """One row per response, with the recommender's entities and concepts of its history."""
        contexts = build_recommender_contexts(
            dialogues,
            is_stop_word=corpus.concept_graph.is_stop_word,
            max_entities=self.max_context_entities,
            max_concepts=self.max_context_concepts,
            review_concepts=recommenders.concepts_of_reviews(corpus) if self.use_reviews else None,
        )
        return build_response_rows(
            dialogues,
            vocabulary,
            contexts,
            max_context_turns=self.max_context_turns,
            max_context_tokens=self.max_context_tokens,
            max_response_tokens=self.max_response_tokens,
            max_picks=self.max_picks,
        )

    def longest_prompt(self, max_tokens: int) -> int:
        """The length of a context; the response is not part of it."""
        return self.max_context_tokens


@dataclasses.dataclass(frozen=True)
class KGSFSettings(KGSFConfig):
    """Settings of a KGSF model: its shape."""

    ARCHITECTURE: ClassVar[type[kgsf.KGSF] | type[revcore.RevCore]] = kgsf.KGSF

    def initial(
        self, inputs: Mapping[str, epath.Path], vocabulary: Vocabulary, seed: int, rng_impl: str
    ) -> tuple[kgsf.KGSF | revcore.RevCore, Params, Params]:
        """Builds the model with initial word vectors and the recommender's node vectors, frozen."""
        corpus = Corpus.open(inputs["corpus"])
        recommender = recommenders.load_graph_recommender(inputs["rec_teacher"], corpus)
        frozen = {kgsf.GRAPH: _graph(recommender, corpus, vocabulary)}
        spec = kgsf.KGSFSpec(
            num_layers=self.num_layers,
            embed_dim=self.embed_dim,
            num_heads=self.num_heads,
            mlp_dim=self.mlp_dim,
            dropout=self.dropout,
            node_dim=recommender.spec.embed_dim,
        )
        model = self.ARCHITECTURE(spec, vocabulary.num_rows, vocabulary.num_targets)
        vectors = None
        if self.word_vectors == "word2vec":
            vectors = read_word_vectors(inputs["vocabulary"])
        params = model.init(jax.random.key(seed, impl=rng_impl), vectors)
        return model, params, frozen


def word_settings(config: Config) -> WholeWordSettings:
    """The settings of the config's word list and word vectors."""
    part, has_vectors = config.vocabulary, config.kgsf.word_vectors == "word2vec"
    return WholeWordSettings(
        word_vectors=config.kgsf.word_vectors,
        min_word_count=part.min_word_count if part.tokenizer == "train" else None,
        embed_dim=config.kgsf.embed_dim if has_vectors else None,
        seed=config.teacher_seed if has_vectors else None,
        source=part.tokenizer,
        lower_case=part.lower_case or None,
    )


def row_settings(config: Config) -> ResponseRowSettings:
    """The lengths of contexts and responses, and whether items come first."""
    words, recommender = config.vocabulary, config.rec_teacher
    return ResponseRowSettings(
        max_context_turns=words.max_context_turns,
        max_context_tokens=words.max_context_tokens,
        max_response_tokens=words.max_response_tokens,
        max_context_entities=recommender.max_context_entities,
        max_context_concepts=recommender.max_context_concepts,
        max_picks=words.max_picks or None,
        use_reviews=recommender.use_reviews or None,
    )


def model_settings(config: Config) -> KGSFSettings:
    """The shape of the model."""
    return view(config.kgsf, KGSFSettings)


def model_of(spec: Mapping[str, Any], vocabulary: Vocabulary) -> kgsf.KGSF:
    """Rebuilds a KGSF model from its saved spec."""
    return kgsf.KGSF(kgsf.KGSFSpec(**spec), vocabulary.num_rows, vocabulary.num_targets)


def check_sources(config: Config, *, makes_words: bool, makes_model: bool) -> None:
    """Checks that the word list can be read, and word vectors be trained."""
    if makes_words:
        check_words(word_settings(config), "config.kgsf.word_vectors")


def check_words(words: WholeWordSettings, field: str) -> None:
    """Checks that a word list can be read and that its word vectors can be trained.

    Args:
      words: the settings of both.
      field: the config field that asks for word vectors.

    Raises:
      ConfigError: the list is missing or unusable, or gensim is not installed.
    """
    try:
        if words.min_word_count is None:
            load_words(words.source)
    except VocabularyError as error:
        raise ConfigError(f"config.vocabulary.tokenizer: {error}") from error
    if words.embed_dim is not None and not has_word2vec():
        raise ConfigError(
            f"{field}: word2vec is trained by the package gensim, which is not installed. Install "
            f"it with: pip install 'conkd_jax[kgsf]'. Or train without it: --{field}=random"
        )


def _graph(
    recommender: recommenders.TrainedRecommender, corpus: Corpus, vocabulary: Vocabulary
) -> dict[str, np.ndarray]:
    """The recommender's node vectors, the row of every graph id, and the copy mask."""
    nodes, index = recommender.nodes, recommender.index
    concepts = np.arange(-1, index.num_concepts)
    return {
        **entity_arrays(recommender),
        "concepts": np.asarray(nodes.concepts),
        "concept_energies": np.asarray(nodes.concept_energies),
        "concept_rows": np.roll(index.concept_rows(concepts), -1),
        "copy_mask": copy_mask(corpus.concept_graph, vocabulary),
    }


def entity_arrays(recommender: recommenders.TrainedRecommender) -> dict[str, np.ndarray]:
    """The recommender's entity vectors, their energies, and the row of every entity id.

    Contexts are padded with -1. The row of that id comes last, where index -1 finds it.
    """
    nodes, index = recommender.nodes, recommender.index
    return {
        "entities": np.asarray(nodes.entities),
        "entity_energies": np.asarray(nodes.entity_energies),
        "entity_rows": np.roll(index.entity_rows(np.arange(-1, index.num_entities)), -1),
    }


def copy_mask(graph: ConceptGraph, vocabulary: Vocabulary) -> np.ndarray:
    """Mask [Y] of the targets that the copy term can raise: all items, and words that are concepts.

    Stop words, the end token and the token for unknown words are excluded.

    KGSF's released masks cover 12,974 key words and 5,718 movies, and are summed, so the 4,447
    entries in both count twice. Here every target counts at most once.
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
