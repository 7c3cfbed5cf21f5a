"""ReDial: recurrent networks over whole words, with AutoRec as recommender."""

from __future__ import annotations

from ml_collections import ConfigDict

from conkd_jax.config.fields import Broken, Ranges, choices, ranges
from conkd_jax.config.options import Config
from conkd_jax.config.whole_words import word_list_rules

RANGES: Ranges = {
    "redial.word_dim": (1, None),
    "redial.utterance_dim": (1, None),
    "redial.hidden_dim": (1, None),
    "redial.token_dim": (1, None),
    "vocabulary.min_word_count": (1, None),
}


def presets(c: ConfigDict) -> None:
    """ReDial's backbone in any preset: whole words, one row per response, AutoRec as recommender.

    Adam with 1e-3 is that of the public code; its batches of 4 responses are 32 here. Warm-up,
    schedule, clipping and epochs are ours.
    """
    c.vocabulary.tokenizer = "train"
    c.rec_teacher.architecture = "autorec"
    c.student.item_init = "title"  # its items are scored by AutoRec, not by rows of the embedding
    c.distill.eta = 0.0
    for part in (c.dialogue_teacher, c.student):
        part.batch_rows = 32  # responses
        part.num_buckets = 4
        part.optimizer.update(
            {"name": "adam", "learning_rate": 1e-3, "weight_decay": 0.0, "b2": 0.999}
        )
    c.teacher_outputs.batch_rows = 64
    if c.preset == "paper":
        return
    c.vocabulary.min_word_count = 2
    c.redial.update({"word_dim": 128, "utterance_dim": 128, "hidden_dim": 256, "token_dim": 128})
    c.sentiment.update(
        {"word_dim": 128, "features": 64, "num_layers": 1, "epochs": 12, "patience": 3}
    )
    c.sentiment.optimizer.learning_rate = 1e-3
    c.autorec.hidden_dim = 256
    c.turn_classifier.update({"num_layers": 1, "epochs": 2})
    for part in (c.dialogue_teacher, c.student):
        part.batch_rows = 64
        part.epochs = 6
        part.optimizer.learning_rate = 2e-3
    if c.preset == "demo":
        c.redial.update({"word_dim": 32, "utterance_dim": 32, "hidden_dim": 64, "token_dim": 32})
        c.sentiment.update(
            {"word_dim": 32, "features": 16, "epochs": 4, "max_utterances": 16, "num_buckets": 2}
        )
        c.sentiment.optimizer.learning_rate = 3e-3
        c.autorec.update({"hidden_dim": 64, "epochs": 10})
        for part in (c.dialogue_teacher, c.student):
            part.num_buckets = 2
            part.epochs = 8
            part.optimizer.learning_rate = 3e-3


def check(config: Config) -> Broken:
    """Sizes, words, and AutoRec as the recommender."""
    yield from choices(config, {"redial.word_vectors": ("word2vec", "random")})
    yield from ranges(config, RANGES)
    if config.parallel.remat:
        yield "parallel.remat", "False with backbone=redial, whose recurrent layers have none"
    yield from word_list_rules(config)
    if config.rec_teacher.architecture != "autorec":
        yield "rec_teacher.architecture", "autorec with backbone=redial, which is built on it"
    for part in ("dialogue_teacher", "student"):
        if getattr(config, part).item_init != "title":
            why = "backbone=redial, whose movies are scored by AutoRec, the recommender itself"
            yield f"{part}.item_init", f"title with {why}, and not by rows of an embedding"
    if config.redial.word_vectors == "word2vec" and config.autorec.use_sentiment:
        width = config.redial.word_dim
        if config.sentiment.word_dim != width:
            yield "sentiment.word_dim", f"redial.word_dim ({width}), as they share word vectors"
