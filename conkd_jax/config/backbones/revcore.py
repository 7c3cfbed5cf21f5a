"""RevCore: KGSF with reviews of the mentioned movies."""

from __future__ import annotations

from ml_collections import ConfigDict

from conkd_jax.config.backbones import kgsf
from conkd_jax.config.fields import Broken, Ranges, ranges
from conkd_jax.config.options import Config
from conkd_jax.config.recommender_rules import REVIEWS

RANGES: Ranges = {
    "revcore.max_review_tokens": (1, None),
    "revcore.max_retrieved_words": (1, None),
}


def presets(c: ConfigDict) -> None:
    """The RevCore backbone in any preset: KGSF's settings, and reviews.

    RevCore's public code keeps KGSF's settings but for batches of 128 pairs in the recommender.
    """
    kgsf.presets(c)
    c.corpus.reviews = "movie2tokenreview_helpful.pkl"  # RevCore's file, from the raw files
    c.rec_teacher.use_reviews = True
    c.teacher_outputs.format = "dense"  # the third term of its logits has no form that is stored
    if c.preset != "paper":
        c.vocabulary.max_context_tokens = 160  # KGSF's 128, and room for reviews
    if c.preset == "demo":
        c.corpus.reviews = "generated"


def check(config: Config) -> Broken:
    """KGSF's rules, reviews, and a teacher store that needs no head."""
    yield from kgsf.check(config)
    yield from ranges(config, RANGES)
    if not config.corpus.reviews:
        yield "corpus.reviews", f"{REVIEWS}, which backbone=revcore reads"
    if config.system == "student" and config.teacher_outputs.format == "features":
        why = "teacher with backbone=revcore, whose third term of the logits features lack"
        yield "teacher_outputs.format", f"dense or topk for a dialogue {why}"
