"""Rows of one response each whose contexts hold reviews of the items that they mention.

`ResponseRows` for RevCore: in what the encoder reads, the review of an item follows each mention of
it. Responses have no reviews, and neither has the history that a turn classifier reads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, Shaped

from conkd_jax.data.recommender_inputs import PADDING, last_distinct
from conkd_jax.data.rows.contract import FILL, Inputs
from conkd_jax.data.rows.response import ResponseRows


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReviewedRows(ResponseRows):
    """Response rows with reviews in their contexts.

    Attributes:
      with_reviews: [N] arrays [L], each of `context_tokens` with reviews.
      is_review: [N] arrays [L], True at the tokens of `with_reviews` that belong to a review.
      retrieved: [N, Lr] the distinct words of each context's reviews, most recent last, -1 for
        padding.
    """

    with_reviews: list[np.ndarray]
    is_review: list[np.ndarray]
    retrieved: Int32[np.ndarray, "N Lr"]

    @classmethod
    def of(
        cls,
        rows: ResponseRows,
        reviews: Mapping[int, Sequence[int]],
        *,
        max_context_tokens: int,
        max_retrieved_words: int,
        not_retrieved: Collection[int | None] = (),
    ) -> ReviewedRows:
        """Returns rows with reviews.

        Args:
          rows: the rows without reviews, with at least the last `max_context_tokens` of a context.
          reviews: the words of an item's review, by the token of the item.
          max_context_tokens: the most tokens of a context with its reviews, the last ones.
          max_retrieved_words: the most retrieved words of a context, the most recent ones.
          not_retrieved: words that are not retrieved, such as the one for unknown words.
        """
        with_reviews, is_review = [], []
        retrieved = np.full((rows.num_rows, max_retrieved_words), PADDING, np.int32)
        for row, tokens in enumerate(rows.context_tokens):
            context, mark = _with_reviews(tokens, reviews)
            context, mark = context[-max_context_tokens:], mark[-max_context_tokens:]
            words = (word for word in context[mark].tolist() if word not in not_retrieved)
            words = last_distinct(words, max_retrieved_words)
            retrieved[row, : len(words)] = words
            with_reviews.append(context)
            is_review.append(mark)
        fields = {field.name: getattr(rows, field.name) for field in dataclasses.fields(rows)}
        return cls(**fields, with_reviews=with_reviews, is_review=is_review, retrieved=retrieved)

    @property
    def encoder_tokens(self) -> list[np.ndarray]:
        """[N] arrays [L], the contexts with reviews."""
        return self.with_reviews

    def context_inputs(
        self, row_ids: Shaped[np.ndarray, " b"], bucket_length: int, pad_id: int
    ) -> Inputs:
        """Returns the inputs of `ResponseRows`, with `review_mask` and `retrieved_ids` [b, Lr]."""
        mask = np.zeros((len(row_ids), bucket_length), bool)
        for slot, row in enumerate(row_ids):
            if row != FILL:
                tail = self.is_review[row][-bucket_length:]
                mask[slot, : len(tail)] = tail
        kept = (np.asarray(row_ids) != FILL)[:, None]
        return {
            **super().context_inputs(row_ids, bucket_length, pad_id),
            "review_mask": mask,
            "retrieved_ids": np.where(kept, self.retrieved[row_ids], PADDING).astype(np.int32),
        }

    def _reopened_fields(self, responses: Sequence[int], opening: Sequence[int]) -> dict[str, Any]:
        return {
            **super()._reopened_fields(responses, opening),
            "with_reviews": [self.with_reviews[response] for response in responses],
            "is_review": [self.is_review[response] for response in responses],
            "retrieved": self.retrieved[np.array(responses, np.int64)],
        }


def _with_reviews(
    tokens: Int32[np.ndarray, " L"], reviews: Mapping[int, Sequence[int]]
) -> tuple[Int32[np.ndarray, " Lr"], Bool[np.ndarray, " Lr"]]:
    """Returns the tokens with each item's review after it, and where the reviews are."""
    context, mark = [], []
    for token in tokens.tolist():
        review = reviews.get(token, ())
        context += [token, *review]
        mark += [False, *[True] * len(review)]
    return np.array(context, np.int32), np.array(mark, bool)
