"""RecInDial: DialoGPT with a bias on items from a recommender of the mentioned items."""

from __future__ import annotations

from ml_collections import ConfigDict

from conkd_jax.config.backbones import dialogpt
from conkd_jax.config.fields import Broken
from conkd_jax.config.options import Config
from conkd_jax.config.recommender_rules import needs_node_vectors


def presets(c: ConfigDict) -> None:
    """The RecInDial backbone in any preset: DialoGPT and a recommender of the mentioned items.

    With published weights, the learning rate is a usual one for fine-tuning GPT-2; the smaller
    presets keep that of their random weights.
    """
    c.rec_teacher.update(
        {"use_concepts": False, "context_nodes": "items", "mim_epochs": 0, "mim_weight": 0.0}
    )
    c.decode.item_rule = "class"
    if c.preset == "paper":
        for part in (c.dialogue_teacher, c.student):
            part.optimizer.learning_rate = 1e-4


def check(config: Config) -> Broken:
    """DialoGPT's rules, and a recommender of entities alone."""
    yield from dialogpt.check(config)
    if config.rec_teacher.use_concepts:
        why = "backbone = recindial, whose user vectors are pooled from entities alone"
        yield "rec_teacher.use_concepts", f"False with {why}"
    yield from needs_node_vectors(config)
