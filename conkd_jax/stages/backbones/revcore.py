"""RevCore: KGSF, with reviews of the mentioned movies in its contexts.

Words and shape are KGSF's. The recommender is KGSF's as well, with the concepts of reviews in its
contexts (`rec_teacher.use_reviews`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from conkd_jax.artifacts.fingerprint import view
from conkd_jax.config import Config
from conkd_jax.data.corpus import Corpus, Dialogue
from conkd_jax.data.rows.reviewed import ReviewedRows
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.models.kgsf import KGSFSpec
from conkd_jax.models.revcore import RevCore
from conkd_jax.stages.backbones import kgsf

READS_RECOMMENDER = kgsf.READS_RECOMMENDER
word_settings, check_sources = kgsf.word_settings, kgsf.check_sources


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReviewedRowSettings(kgsf.ResponseRowSettings):
    """Settings of KGSF's rows with reviews.

    Attributes:
      max_review_tokens: the most tokens of a review, the first ones.
      max_retrieved_words: the most distinct words of a context's reviews.
    """

    max_review_tokens: int
    max_retrieved_words: int

    def rows_of(
        self, corpus: Corpus, vocabulary: Vocabulary, dialogues: Sequence[Dialogue]
    ) -> ReviewedRows:
        """KGSF's rows, with the review of a movie after each mention of it in a context."""
        return ReviewedRows.of(
            super().rows_of(corpus, vocabulary, dialogues),
            review_words(corpus, vocabulary, self.max_review_tokens),
            max_context_tokens=self.max_context_tokens,
            max_retrieved_words=self.max_retrieved_words,
            not_retrieved=[vocabulary.unk_id],  # it must not be generated
        )


class RevCoreSettings(kgsf.KGSFSettings):
    """Settings of a RevCore model: the shape of KGSF's."""

    ARCHITECTURE = RevCore


def row_settings(config: Config) -> ReviewedRowSettings:
    """KGSF's rows, and the lengths of reviews."""
    return ReviewedRowSettings(
        **vars(kgsf.row_settings(config)), **dataclasses.asdict(config.revcore)
    )


def model_settings(config: Config) -> RevCoreSettings:
    """The shape of the model."""
    return view(config.kgsf, RevCoreSettings)


def model_of(spec: Mapping[str, Any], vocabulary: Vocabulary) -> RevCore:
    """Rebuilds a RevCore model from its saved spec."""
    return RevCore(KGSFSpec(**spec), vocabulary.num_rows, vocabulary.num_targets)


def review_words(
    corpus: Corpus, vocabulary: Vocabulary, max_tokens: int
) -> Mapping[int, Sequence[int]]:
    """The first words of each movie's review, by the token of the movie.

    Movies that a review mentions by "@" and number are left out: what is retrieved are words.
    """
    token_of = {
        item: i for i, item in enumerate(vocabulary.item_candidates.tolist(), vocabulary.num_words)
    }
    reviews = {token_of[i]: review.text for i, review in corpus.reviews.items() if i in token_of}
    encoded = vocabulary.encode_batch(list(reviews.values()))
    return {
        token: [word for word in words if word < vocabulary.num_words][:max_tokens]
        for token, words in zip(reviews, encoded, strict=True)
    }
