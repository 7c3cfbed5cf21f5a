"""KBRD: an encoder-decoder of whole words, with a bias on words that the entities give."""

from __future__ import annotations

from ml_collections import ConfigDict

from conkd_jax.config.backbones import kgsf
from conkd_jax.config.fields import Broken, ranges
from conkd_jax.config.options import Config
from conkd_jax.config.recommender_rules import needs_node_vectors
from conkd_jax.config.whole_words import encoder_decoder_rules


def presets(c: ConfigDict) -> None:
    """The KBRD backbone in any preset: its graph, its recommender, its whole history of words.

    Graph rule, recommender, Adam's 3e-3, batches and patience are those of KBRD's public code. Its
    script names no optimizer for the dialogue model; Adam and the rest are KGSF's here, and η is
    fitted.
    """
    kgsf.presets(c)
    c.corpus.graph_rule = "kbrd"
    c.vocabulary.lower_case = True
    c.vocabulary.max_context_tokens = 1024
    c.rec_teacher.update(
        {
            "use_concepts": False,
            "distinct_targets": True,
            "attention_init": "xavier_uniform",
            "norm": "sum",
            "score_over": "entities",
            "user_dropout": 0.0,
            "context_dropout": 0.0,
            "mim_epochs": 0,
            "mim_weight": 0.0,
            "patience": 5,
            "ema_decay": 0.0,
        }
    )
    c.dialogue_teacher.weighting = "token"
    for part in (c.dialogue_teacher, c.student):
        part.batch_rows = 64
    if c.preset == "paper":
        c.rec_teacher.batch_size = 256
    else:
        c.vocabulary.max_context_tokens = 256  # about 93 % of the histories are shorter
        c.rec_teacher.score_over = "items"  # on a CPU, all entities cost seven times as much
        c.kbrd.update({"embed_dim": 128, "mlp_dim": 256, "bias_dim": 256})
    if c.preset == "demo":
        c.kbrd.update({"embed_dim": 32, "mlp_dim": 64, "bias_dim": 64})
    # Every turn is closed by a token, so the limit on turns never binds.
    c.vocabulary.max_context_turns = c.vocabulary.max_context_tokens


def check(config: Config) -> Broken:
    """The recommender's inputs, the words, and the shape of the transformer."""
    if config.rec_teacher.use_concepts:
        yield "rec_teacher.use_concepts", "False with the backbone kbrd, whose user is n(x) alone"
    if config.vocabulary.tokenizer != "train":
        yield "vocabulary.tokenizer", "train with the backbone kbrd, which has no published list"
    yield from ranges(config, {"kbrd.bias_dim": (1, None)})
    yield from encoder_decoder_rules(config, "kbrd")
    yield from needs_node_vectors(config)
