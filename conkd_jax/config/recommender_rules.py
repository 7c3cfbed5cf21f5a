"""What the recommenders, and those that read them, expect of the other options."""

from __future__ import annotations

from conkd_jax.config.fields import Broken, Ranges, ranges
from conkd_jax.config.options import Config

REVIEWS = "RevCore's .pkl or a .jsonl; generated with corpus.name=movieworld"
HAVE_REVIEWS = HAVE_QUESTIONNAIRES = ("redial", "movieworld")
AUTOREC_RANGES: Ranges = {
    "autorec.hidden_dim": (1, None),
    "autorec.patience": (0, None),
    "sentiment.word_dim": (1, None),
    "sentiment.features": (1, None),
    "sentiment.num_layers": (1, None),
    "sentiment.dropout": (0, 0.99),
    "sentiment.patience": (0, None),
    "sentiment.max_utterances": (1, None),
    "sentiment.max_utterance_tokens": (2, None),  # a word and END
    "sentiment.max_mentions": (1, None),
}


def recommender_rules(config: Config) -> Broken:
    """What is wrong with the reviews that a config names, and with its AutoRec, if it has one."""
    reviews, corpus = config.corpus.reviews, config.corpus.name
    if config.rec_teacher.use_reviews and not reviews:
        yield "rec_teacher.use_reviews", f"False without corpus.reviews ({REVIEWS})"
    if config.rec_teacher.use_reviews and not config.rec_teacher.use_concepts:
        yield "rec_teacher.use_reviews", "False with rec_teacher.use_concepts = False"
    if reviews and corpus not in HAVE_REVIEWS:
        known = " or ".join(HAVE_REVIEWS)
        yield "corpus.reviews", f'"" with corpus.name={corpus}: there are reviews for {known}'
    elif reviews and (reviews == "generated") != (corpus == "movieworld"):
        expected = "generated" if corpus == "movieworld" else "a .pkl or .jsonl of reviews"
        yield "corpus.reviews", f'"" or {expected} with corpus.name={corpus}'
    if config.rec_teacher.architecture != "autorec":
        return
    yield from ranges(config, AUTOREC_RANGES)
    if corpus not in HAVE_QUESTIONNAIRES:
        why = f"corpus.name={corpus}, which has no questionnaires to learn from"
        yield "rec_teacher.architecture", f"graph with {why}"
    if config.rec_teacher.use_inferred_order:
        why = "rec_teacher.architecture=autorec, as no questionnaires are read for that split"
        yield "rec_teacher.use_inferred_order", f"False with {why}"


def needs_node_vectors(config: Config) -> Broken:
    """What is wrong with the recommender of a backbone that reads a graph's node vectors."""
    if config.rec_teacher.architecture != "graph":
        why = f"backbone={config.backbone}, which reads the node vectors of a graph"
        yield "rec_teacher.architecture", f"graph with {why}"
