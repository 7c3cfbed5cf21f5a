"""KGSF: an encoder-decoder of whole words that reads the graphs of entities and concepts."""

from __future__ import annotations

from ml_collections import ConfigDict

from conkd_jax.config.fields import Broken, choices
from conkd_jax.config.options import Config
from conkd_jax.config.recommender_rules import needs_node_vectors
from conkd_jax.config.whole_words import encoder_decoder_rules


def presets(c: ConfigDict) -> None:
    """The KGSF backbone in any preset: whole words, one row per response.

    The paper's settings for this backbone are not available. Adam, the learning rate of 1e-3,
    clipping at .1 and batches of 32 are those of KGSF's public code; warm-up, schedule and epochs
    are ours, and η is fitted.
    """
    c.vocabulary.tokenizer = "train"
    c.distill.eta = 0.0
    for part in (c.dialogue_teacher, c.student):
        part.batch_rows = 32  # responses
        part.num_buckets = 4
        part.optimizer.update(
            {"name": "adam", "learning_rate": 1e-3, "weight_decay": 0.0, "b2": 0.999}
        )
        part.optimizer.clip_norm = 0.1
    c.teacher_outputs.batch_rows = 64
    if c.preset == "paper":
        return
    c.vocabulary.min_word_count = 2
    c.vocabulary.max_context_tokens = 128  # about 95 % of the contexts are shorter
    c.kgsf.update({"embed_dim": 128, "mlp_dim": 256})
    c.turn_classifier.update({"num_layers": 1, "epochs": 2})
    for part in (c.dialogue_teacher, c.student):
        part.batch_rows = 64
        part.num_buckets = 2  # on a GPU, each takes most of a minute to compile
        part.epochs = 4  # fewer are needed, thanks to word vectors and graphs
        part.optimizer.learning_rate = 2e-3
    if c.preset == "demo":
        c.kgsf.update({"embed_dim": 32, "mlp_dim": 64})
        for part in (c.dialogue_teacher, c.student):
            part.epochs = 8
            part.optimizer.learning_rate = 3e-3


def check(config: Config) -> Broken:
    """The recommender's inputs, word vectors, and the shape of the transformer."""
    if not config.rec_teacher.use_concepts:
        yield "rec_teacher.use_concepts", "True with the backbone kgsf, which reads the concepts"
    if config.rec_teacher.context_nodes != "entities":
        yield "rec_teacher.context_nodes", "entities with the backbone kgsf, which reads them all"
    yield from choices(config, {"kgsf.word_vectors": ("word2vec", "random")})
    yield from encoder_decoder_rules(config, "kgsf")
    yield from needs_node_vectors(config)
