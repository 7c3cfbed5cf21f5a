"""DialoGPT: a byte-level BPE, one row per dialogue; published weights, or random ones."""

from __future__ import annotations

from ml_collections import ConfigDict

from conkd_jax.config.fields import Broken, transformer_shape
from conkd_jax.config.options import Config
from conkd_jax.data.batches.plan import BUCKET_MULTIPLE
from conkd_jax.data.rows.picks import pick_room


def presets(c: ConfigDict) -> None:
    """Changes nothing: the dataclasses' defaults are this backbone's."""


def check(config: Config) -> Broken:
    """BPE, lengths of rows, and positions of the model."""
    words, teacher = config.vocabulary, config.dialogue_teacher
    if words.lower_case:
        cased = f"False with the backbone {config.backbone}, whose BPE is cased"
        yield "vocabulary.lower_case", cased
    response, row = words.max_response_tokens, words.max_row_tokens
    picks = pick_room(words.max_picks or None)
    if row <= 2 * (response + picks):
        longest = f"vocabulary.max_response_tokens ({response})"
        longest += f" + vocabulary.max_picks + 1 ({picks})" if picks else ""
        yield "vocabulary.max_row_tokens", f"more than twice {longest}"
    if config.decode.max_tokens + picks + 1 >= row:
        room = f"vocabulary.max_row_tokens - {2 + picks} ({row - 2 - picks})"
        yield "decode.max_tokens", f"at most {room}, to leave room for the history"
    if teacher.weights == "random":
        yield from transformer_shape(config, "dialogue_teacher")
        if teacher.num_positions < row + -row % BUCKET_MULTIPLE:
            padded = f"vocabulary.max_row_tokens ({row}) rounded up to a multiple of"
            yield "dialogue_teacher.num_positions", f"at least {padded} {BUCKET_MULTIPLE}"
    elif words.tokenizer == "train":
        expected = f"the tokenizer that belongs to the pretrained weights {teacher.weights!r}"
        yield "vocabulary.tokenizer", expected
