"""Llama: a language model of today, over byte-level BPE, one row per dialogue.

Words and rows are those of the backbone `dialogpt`. Weights and tokenizer come from the Hugging
Face hub, a folder, a GGUF file or an installed package. Alternatively, the weights are random and
the BPE is trained on the corpus.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath

from conkd_jax.config import Config, ConfigError
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.models import llama, llama_weights
from conkd_jax.models.llama_network import LlamaSpec
from conkd_jax.stages.backbones import dialogpt
from conkd_jax.stages.exported_items import with_exported_items
from conkd_jax.typing import Params

READS_RECOMMENDER = False

word_settings = dialogpt.word_settings
row_settings = dialogpt.row_settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaSettings(dialogpt.GPT2Settings):
    """Settings of a Llama with published or random weights.

    Attributes:
      num_kv_heads: heads of keys and values; like the other sizes, used with random weights only.
      mlp_dim: hidden width of the MLP.
      rope_theta: θ of the rotary positions.
      tied: whether the output layer is the embedding.
    """

    num_kv_heads: int
    mlp_dim: int
    rope_theta: float
    tied: bool

    def initial(
        self, inputs: Mapping[str, epath.Path], vocabulary: Vocabulary, seed: int, rng_impl: str
    ) -> tuple[llama.Llama, Params, Params]:
        """Builds the model from published weights and new item embeddings, or at random."""
        rng = jax.random.key(seed, impl=rng_impl)
        if self.source == "random":
            spec = LlamaSpec(
                num_layers=self.num_layers,
                embed_dim=self.embed_dim,
                num_heads=self.num_heads,
                num_kv_heads=self.num_kv_heads,
                head_dim=self.embed_dim // self.num_heads,
                mlp_dim=self.mlp_dim,
                num_positions=self.num_positions,
                rope_theta=self.rope_theta,
                tied=self.tied,
                dropout=self.dropout,
            )
            model = llama.Llama(spec, vocabulary.num_rows)
            return model, model.init(rng), {}
        titles = [vocabulary.title_token_ids(item) for item in range(vocabulary.num_items)]
        try:
            spec, params = llama.load_pretrained(self.source)
            extended = llama.extend_vocabulary(
                params, vocabulary.num_words, titles, vocabulary.num_rows, rng
            )
        except (FileNotFoundError, ValueError) as error:
            raise ConfigError(f"config.dialogue_teacher.weights: {error}") from error
        spec = dataclasses.replace(spec, dropout=self.dropout)
        extended = with_exported_items(extended, params, self.source, vocabulary, llama.Llama)
        return llama.Llama(spec, vocabulary.num_rows), extended, {}


def model_settings(config: Config) -> LlamaSettings:
    """The weights and, for random ones, their shape."""
    return LlamaSettings(
        **vars(dialogpt.model_settings(config)), **dataclasses.asdict(config.llama)
    )


def model_of(spec: Mapping[str, Any], vocabulary: Vocabulary) -> llama.Llama:
    """Rebuilds a Llama from its saved spec."""
    return llama.Llama(LlamaSpec.from_fields(spec), vocabulary.num_rows)


def check_sources(config: Config, *, makes_words: bool, makes_model: bool) -> None:
    """Checks that tokenizer and weights exist and that rows fit the weights' positions."""
    dialogpt.check_published(
        config,
        lambda weights: llama_weights.find_weights(weights).config["max_position_embeddings"],
        makes_words=makes_words,
        makes_model=makes_model,
    )
