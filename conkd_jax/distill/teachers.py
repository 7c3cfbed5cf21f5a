"""The forms in which a dialogue teacher's outputs can be stored and given to the loss.

A teacher is frozen, so it runs once over the corpus and its outputs are stored. The forms differ in
size by a factor of about a hundred. The loss reads all of them in one way: it takes P_φ for a chunk
of tokens at a time and drops it before the next chunk. This file must not depend on where or how
the outputs are stored.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jax import lax

from conkd_jax.distill.columns import ALL, AllColumns
from conkd_jax.distill.head import Head, accumulation_dtype
from conkd_jax.typing import Array, Float, Int, Integer, Shaped


@runtime_checkable
class Teacher(Protocol):
    """What the loss needs of a dialogue teacher, in any form."""

    def chunk(self, start: Integer[Array, ""], size: int) -> "Teacher":
        """The same teacher at the tokens start … start + size - 1."""
        ...

    def gathered(self, columns: AllColumns) -> "Teacher":
        """The same teacher at the tokens of all devices, on this device's columns."""
        ...

    def probs(
        self, num_targets: int, columns: AllColumns = ALL
    ) -> tuple[Float[Array, "N Y"], Float[Array, " N"] | float]:
        """P_φ at each token, and its total mass: 1 unless the form is truncated.

        Args:
          num_targets: |Y|, or the number of this device's columns.
          columns: which targets these are.
        """
        ...


class TeacherFeatures(NamedTuple):
    """The features that enter the teacher's head; the smallest form, and an exact one.

    Attributes:
      features: aligned with the student's features by target; may be bfloat16.
      head: the teacher's own.
      log_normalizer: logsumexp of the teacher's logits, if stored. It saves the softmax two passes
        over the logits.
    """

    features: Float[Array, "N Ft"]
    head: Head
    log_normalizer: Float[Array, " N"] | None = None

    def chunk(self, start: Integer[Array, ""], size: int) -> "TeacherFeatures":
        """The same teacher at the tokens start … start + size - 1."""
        return self._replace(
            features=take_rows(self.features, start, size),
            log_normalizer=_take_rows_if_stored(self.log_normalizer, start, size),
        )

    def gathered(self, columns: AllColumns) -> "TeacherFeatures":
        """As in `Teacher`; the head has this device's columns already."""
        of_tokens = (self.features, self.log_normalizer)
        features, log_normalizer = columns.gathered(of_tokens)
        return self._replace(features=features, log_normalizer=log_normalizer)

    def probs(
        self, num_targets: int, columns: AllColumns = ALL
    ) -> tuple[Float[Array, "N Y"], float]:
        """P_φ at each token, recomputed by the head, and its mass, 1."""
        return _softmax(self.head.logits(self.features), self.log_normalizer, columns), 1.0


class TeacherLogits(NamedTuple):
    """The teacher's logits themselves: the literal form, about 70 times larger than features.

    Attributes:
      logits: aligned with the student's features by target.
      log_normalizer: as in `TeacherFeatures`.
    """

    logits: Float[Array, "N Y"]
    log_normalizer: Float[Array, " N"] | None = None

    def chunk(self, start: Integer[Array, ""], size: int) -> "TeacherLogits":
        """The same teacher at the tokens start … start + size - 1."""
        return self._replace(
            logits=take_rows(self.logits, start, size),
            log_normalizer=_take_rows_if_stored(self.log_normalizer, start, size),
        )

    def gathered(self, columns: AllColumns) -> "TeacherLogits":
        """As in `Teacher`."""
        log_normalizer = columns.gathered(self.log_normalizer)
        return TeacherLogits(columns.of_rows(self.logits), log_normalizer)

    def probs(
        self, num_targets: int, columns: AllColumns = ALL
    ) -> tuple[Float[Array, "N Y"], float]:
        """P_φ at each token, and its mass, 1."""
        logits = self.logits.astype(accumulation_dtype(self.logits.dtype))
        return _softmax(logits, self.log_normalizer, columns), 1.0


class TeacherTopK(NamedTuple):
    """The K most probable targets of each token; an approximation, whatever is done with the tail.

    The mass τ_t of all other targets is lost: it is given to no target, and the K are not
    renormalised. So |q_t| = 1 - γ(1 - λ_t)τ_t < 1, and the loss lacks one term of the whole one, a
    distillation from the tail,

        γ(1 - λ_t) τ_t CE(P_φ given the tail, P_θ),

    whose gradient, γ(1 - λ_t) τ_t (softmax(z_t) - P_φ given the tail), is missing at each token. A
    student of this teacher alone ends at P_φ renormalised on the K, with nothing on the tail, just
    like one of a renormalised teacher. But a token counts for less the more of it is lost, and the
    teacher's share never exceeds what it really says: renormalising would raise the K above P_φ and
    weigh them against the label and the recommender as if the teacher were certain.

    Attributes:
      token_ids: the K targets of each token.
      log_probs: their log-probabilities under the whole distribution; may be bfloat16.
    """

    token_ids: Int[Array, "N K"]
    log_probs: Float[Array, "N K"]

    def chunk(self, start: Integer[Array, ""], size: int) -> "TeacherTopK":
        """The same teacher at the tokens start … start + size - 1."""
        return self._replace(
            token_ids=take_rows(self.token_ids, start, size),
            log_probs=take_rows(self.log_probs, start, size),
        )

    def gathered(self, columns: AllColumns) -> "TeacherTopK":
        """As in `Teacher`."""
        return columns.gathered(self)

    def probs(
        self, num_targets: int, columns: AllColumns = ALL
    ) -> tuple[Float[Array, "N Y"], Float[Array, " N"]]:
        """P_φ at each token with zeros outside the K targets, and the mass of the K."""
        kept = jnp.exp(self.log_probs.astype(accumulation_dtype(self.log_probs.dtype)))
        rows = jnp.arange(kept.shape[0])[:, None]
        probs = jnp.zeros((kept.shape[0], num_targets), kept.dtype)
        places = columns.places(self.token_ids, num_targets)
        return probs.at[rows, places].set(kept, mode="drop"), jnp.sum(kept, axis=-1)


def take_rows(
    array: Shaped[Array, "N ..."], start: Integer[Array, ""], size: int
) -> Shaped[Array, "C ..."]:
    """Takes the rows start … start + size - 1."""
    return lax.dynamic_slice_in_dim(array, start, size, axis=0)


def _take_rows_if_stored(array, start, size):
    return None if array is None else take_rows(array, start, size)


def _softmax(logits, log_normalizer, columns):
    if log_normalizer is None:
        return columns.softmax(logits)
    return jnp.exp(logits - log_normalizer[:, None].astype(logits.dtype))
