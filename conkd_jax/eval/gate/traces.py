"""λ along one response, token by token: what the trace figures draw."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.eval.metrics.pairs import Number

END_LABEL, SPACE_LABEL = "END", "␣"


@dataclasses.dataclass(frozen=True)
class GateTrace:
    """λ_t along one response.

    Attributes:
      title: of the panel.
      tokens: the response's tokens, readable, items as titles.
      gate: λ_t at each token.
      is_item: whether the token is an item.
      student: another model's own item mass at each token, drawn beside λ; None draws none.
      student_name: the label of that model.
    """

    title: str
    tokens: Sequence[str]
    gate: Sequence[Number]
    is_item: Sequence[bool]
    student: Sequence[Number] | None = None
    student_name: str = ""

    def __post_init__(self):
        if not 0 < len(self.tokens) == len(self.gate) == len(self.is_item):
            raise ValueError(
                f"gate trace {self.title!r}: expected as many tokens, λ and item marks, at least "
                f"one each, got {len(self.tokens)}, {len(self.gate)} and {len(self.is_item)}"
            )
        if self.student is not None and len(self.student) != len(self.tokens):
            raise ValueError(
                f"gate trace {self.title!r}: expected {len(self.tokens)} values of "
                f"{self.student_name or 'the student'}, got {len(self.student)}"
            )


def trace_of_response(
    scored_tokens: Mapping[str, np.ndarray],
    vocabulary: Vocabulary,
    response: int,
    *,
    title: str,
    student: str = "",
) -> GateTrace:
    """The trace of a gold response that an evaluation scored.

    Args:
      scored_tokens: the arrays of the evaluation's `tokens.npz`.
      vocabulary: of the scored models.
      response: its index in the split.
      title: of its panel.
      student: label of the scored system, drawn beside the teacher; "" leaves it out.
    """
    of = scored_tokens["response_index"] == response
    return GateTrace(
        title=title,
        tokens=token_labels(scored_tokens["targets"][of], vocabulary),
        gate=scored_tokens["teacher_item_mass"][of].tolist(),
        is_item=scored_tokens["is_item"][of].tolist(),
        student=scored_tokens["item_mass"][of].tolist() if student else None,
        student_name=student,
    )


def token_labels(targets: np.ndarray, vocabulary: Vocabulary) -> list[str]:
    """The text of each token; a name for the end token and for blanks, which show nothing."""
    texts = [vocabulary.render([token]) for token in targets.tolist()]
    return [
        END_LABEL if token == vocabulary.end_id else text if text.strip() else SPACE_LABEL
        for token, text in zip(targets.tolist(), texts, strict=True)
    ]
