"""The contract of a trained recommender, whichever its architecture.

The teacher store, the evaluation and item rows that start from a recommender depend on this alone.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from conkd_jax.distill.head import Head


@runtime_checkable
class AnyRecommender(Protocol):
    """What every recommender is, KGSF's or AutoRec: user vectors of contexts, and a head."""

    @property
    def spec(self) -> Any:
        """Its shape: `embed_dim`, and `contexts(dialogues, corpus)`, one for every response."""
        ...

    @property
    def head(self) -> Head:
        """Onto the candidates, in the corpus' order of items."""
        ...

    def user_vectors(self, contexts: Any) -> Float[np.ndarray, "N D"]:
        """The user vector of every context, float32."""
        ...

    def scores(self, user_vectors: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N M"]:
        """Logits of P_ψ over the candidates."""
        ...
