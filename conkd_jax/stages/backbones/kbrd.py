"""KBRD: a transformer over the whole history, with a vocabulary bias from the recommender's user.

Rows, words and the frozen entity vectors are as with KGSF, without concepts and word vectors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath

from conkd_jax.artifacts.fingerprint import view
from conkd_jax.config import Config, KBRDConfig
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.models import encoder_decoder, kbrd
from conkd_jax.stages import recommender as recommenders
from conkd_jax.stages.backbones import kgsf
from conkd_jax.stages.backbones.kgsf import ResponseRowSettings, WholeWordSettings
from conkd_jax.typing import Params

READS_RECOMMENDER = True


@dataclasses.dataclass(frozen=True)
class KBRDSettings(KBRDConfig):
    """Settings of a KBRD model: its shape."""

    def initial(
        self, inputs: Mapping[str, epath.Path], vocabulary: Vocabulary, seed: int, rng_impl: str
    ) -> tuple[kbrd.KBRD, Params, Params]:
        """Builds the model with a random embedding and the recommender's entity vectors, frozen."""
        corpus = Corpus.open(inputs["corpus"])
        recommender = recommenders.load_graph_recommender(inputs["rec_teacher"], corpus)
        spec = kbrd.KBRDSpec(
            **dataclasses.asdict(view(self, KBRDConfig)), node_dim=recommender.spec.embed_dim
        )
        model = kbrd.KBRD(spec, vocabulary.num_rows, vocabulary.num_targets)
        params = model.init(jax.random.key(seed, impl=rng_impl))
        return model, params, {encoder_decoder.GRAPH: kgsf.entity_arrays(recommender)}


def word_settings(config: Config) -> WholeWordSettings:
    """The settings of the config's word list; its vectors are random."""
    part = config.vocabulary
    return WholeWordSettings(
        word_vectors="random",
        min_word_count=part.min_word_count,
        embed_dim=None,
        seed=None,
        source=part.tokenizer,
        lower_case=part.lower_case or None,
    )


def row_settings(config: Config) -> ResponseRowSettings:
    """The lengths of contexts and responses, and whether items come first; no concepts."""
    return dataclasses.replace(kgsf.row_settings(config), max_context_concepts=0)


def model_settings(config: Config) -> KBRDSettings:
    """The shape of the model."""
    return view(config.kbrd, KBRDSettings)


def model_of(spec: Mapping[str, Any], vocabulary: Vocabulary) -> kbrd.KBRD:
    """Rebuilds a KBRD model from its saved spec."""
    return kbrd.KBRD(kbrd.KBRDSpec(**spec), vocabulary.num_rows, vocabulary.num_targets)


def check_sources(config: Config, *, makes_words: bool, makes_model: bool) -> None:
    """Checks nothing, since the config names no file."""
