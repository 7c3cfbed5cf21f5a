"""ReDial: a hierarchical recurrent encoder, AutoRec and a switching decoder, over whole words.

AutoRec and the sentiment model come from the stage `rec_teacher`. AutoRec is trained further as a
part of the model; the sentiment model is saved with it, frozen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from conkd_jax.artifacts.fingerprint import merged, view
from conkd_jax.config import Config, ConfigError
from conkd_jax.config.parts import ReDialConfig
from conkd_jax.data.corpus import Corpus, Dialogue
from conkd_jax.data.rows.utterances import HistoryLimits, UtteranceRows, build_utterance_rows
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.models import redial
from conkd_jax.models.sentiment import SentimentSpec
from conkd_jax.stages import autorec
from conkd_jax.stages.backbones import kgsf
from conkd_jax.stages.backbones.kgsf import WholeWordSettings
from conkd_jax.typing import Params

READS_RECOMMENDER = True


@dataclasses.dataclass(frozen=True)
class UtteranceRowSettings:
    """Settings of rows that hold one response each and the utterances before it."""

    max_response_tokens: int
    limits: HistoryLimits = merged()
    max_picks: int | None = None  # not 0: ordinary rows have their old fingerprint

    def rows_of(
        self, corpus: Corpus, vocabulary: Vocabulary, dialogues: Sequence[Dialogue]
    ) -> UtteranceRows:
        """One row per response, with the utterances and the movies of its history."""
        del corpus  # the graphs are not read
        return build_utterance_rows(
            dialogues,
            vocabulary,
            self.limits,
            max_response_tokens=self.max_response_tokens,
            max_picks=self.max_picks,
        )

    def longest_prompt(self, max_tokens: int) -> int:
        """The length of a history; the response is not part of it."""
        return self.limits.max_tokens


@dataclasses.dataclass(frozen=True)
class ReDialSettings(ReDialConfig):
    """Settings of a ReDial model: its shape."""

    def initial(
        self, inputs: Mapping[str, epath.Path], vocabulary: Vocabulary, seed: int, rng_impl: str
    ) -> tuple[redial.ReDial, Params, Params]:
        """Builds the model, with the trained AutoRec and the sentiment model, frozen."""
        recommender = autorec.load(inputs["rec_teacher"], Corpus.open(inputs["corpus"]))
        if recommender.spec.vocabulary.fingerprint != vocabulary.fingerprint:
            raise ConfigError(
                f"{inputs['rec_teacher']}: expected an AutoRec whose sentiment model reads the "
                "vocabulary of the dialogue model; train it again for this vocabulary"
            )
        spec = redial.ReDialSpec(
            word_dim=self.word_dim,
            utterance_dim=self.utterance_dim,
            hidden_dim=self.hidden_dim,
            token_dim=self.token_dim,
            autorec_dim=recommender.spec.embed_dim,
            sentiment=recommender.spec.sentiment,
        )
        model = _model(spec, vocabulary)
        vectors = None
        if self.word_vectors == "word2vec":
            vectors = kgsf.read_word_vectors(inputs["vocabulary"])
        params = model.init(jax.random.key(seed, impl=rng_impl), vectors)
        params[redial.AUTOREC] = _of_items(recommender.params, vocabulary.item_candidates)
        frozen = {redial.SENTIMENT: recommender.sentiment} if recommender.sentiment else {}
        return model, params, frozen


def word_settings(config: Config) -> WholeWordSettings:
    """The settings of the config's word list and word vectors."""
    part, has_vectors = config.vocabulary, config.redial.word_vectors == "word2vec"
    return WholeWordSettings(
        word_vectors=config.redial.word_vectors,
        min_word_count=part.min_word_count if part.tokenizer == "train" else None,
        embed_dim=config.redial.word_dim if has_vectors else None,
        seed=config.teacher_seed if has_vectors else None,
        source=part.tokenizer,
        lower_case=part.lower_case or None,
    )


def row_settings(config: Config) -> UtteranceRowSettings:
    """What is read of a history, the length of a response, and whether items come first."""
    return UtteranceRowSettings(
        max_response_tokens=config.vocabulary.max_response_tokens,
        limits=view(config.sentiment, HistoryLimits),
        max_picks=config.vocabulary.max_picks or None,
    )


def model_settings(config: Config) -> ReDialSettings:
    """The shape of the model."""
    return view(config.redial, ReDialSettings)


def model_of(spec: Mapping[str, Any], vocabulary: Vocabulary) -> redial.ReDial:
    """Rebuilds a ReDial model from its saved spec."""
    sentiment = spec["sentiment"]
    part = None if sentiment is None else SentimentSpec(**sentiment)
    return _model(redial.ReDialSpec(**{**spec, "sentiment": part}), vocabulary)


def check_sources(config: Config, *, makes_words: bool, makes_model: bool) -> None:
    """Checks that the word list can be read, and word vectors be trained."""
    if makes_words:
        kgsf.check_words(word_settings(config), "config.redial.word_vectors")


def _model(spec: redial.ReDialSpec, vocabulary: Vocabulary) -> redial.ReDial:
    return redial.ReDial(spec, vocabulary.num_rows, vocabulary.num_words, vocabulary.num_targets)


def _of_items(params: Params, candidates: np.ndarray) -> Params:
    """AutoRec's parameters for the candidates that have a token, in the order of the tokens."""
    encoder, decoder = params["encoder"], params["decoder"]
    return {
        "encoder": {
            "kernel": jnp.asarray(encoder["kernel"])[candidates],
            "bias": jnp.asarray(encoder["bias"]),
        },
        "decoder": {
            "kernel": jnp.asarray(decoder["kernel"])[:, candidates],
            "bias": jnp.asarray(decoder["bias"])[candidates],
        },
    }
