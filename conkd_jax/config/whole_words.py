"""What the backbones of whole words, unlike those of a BPE, expect of the options."""

from __future__ import annotations

from conkd_jax.config.fields import Broken, Ranges, of_part, ranges, transformer_shape
from conkd_jax.config.options import Config

SHAPE_RANGES: Ranges = {"mlp_dim": (1, None), "dropout": (0, 0.99)}
CONTEXT_RANGES: Ranges = {
    "vocabulary.min_word_count": (1, None),
    "vocabulary.max_context_turns": (1, None),
    "vocabulary.max_context_tokens": (1, None),
}


def encoder_decoder_rules(config: Config, part: str) -> Broken:
    """What holds of every transformer that encodes a context of whole words.

    Args:
      config: the whole config.
      part: the part of the config with its shape.
    """
    yield from word_list_rules(config)
    yield from ranges(config, of_part(config, part, SHAPE_RANGES))
    yield from ranges(config, CONTEXT_RANGES)
    yield from transformer_shape(config, part)


def word_list_rules(config: Config) -> Broken:
    """What holds of every list of words."""
    if config.vocabulary.lower_case and config.vocabulary.tokenizer != "train":
        yield "vocabulary.lower_case", "False with a given list of words, which is cased"
