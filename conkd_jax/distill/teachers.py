"""The forms in which a dialogue teacher's outputs reach the loss.

The teacher is frozen, so it is run once and its outputs are kept. What is kept differs by a factor
of a hundred in size; what the loss reads is the same: P_phi for a chunk of tokens, made when the
chunk is visited and gone with it. This file must not know where or how the outputs were stored.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax

from conkd_jax.distill.head import Head, accumulation_dtype
from conkd_jax.typing import Array, Float, Int, Integer, Shaped


@runtime_checkable
class Teacher(Protocol):
    """What the loss asks of a dialogue teacher, whichever form its outputs were kept in."""

    def chunk(self, start: Integer[Array, ""], size: int) -> "Teacher":
        """The teacher of the tokens start ... start + size - 1."""
        ...

    def probs(self, num_targets: int) -> tuple[Float[Array, "N Y"], Float[Array, " N"] | float]:
        """P_phi, and how much of its mass was kept (1 but for a truncated teacher)."""
        ...


class TeacherFeatures(NamedTuple):
    """A dialogue teacher kept as the features under its head; the smallest form, and exact.

    Args:
        features: of the teacher, for the same targets as the student's; bfloat16 is welcome.
        head: of the teacher.
        log_normalizer: logsumexp of the teacher's logits where it was kept (saves two passes).
    """

    features: Float[Array, "N Ft"]
    head: Head
    log_normalizer: Float[Array, " N"] | None = None

    def chunk(self, start: Integer[Array, ""], size: int) -> "TeacherFeatures":
        return self._replace(
            features=take_rows(self.features, start, size),
            log_normalizer=_rows_if_kept(self.log_normalizer, start, size),
        )

    def probs(self, num_targets: int) -> tuple[Float[Array, "N Y"], float]:
        return _probs(self.head.logits(self.features), self.log_normalizer), 1.0


class TeacherLogits(NamedTuple):
    """A dialogue teacher kept as its logits, whole: the literal form, 70 times larger."""

    logits: Float[Array, "N Y"]
    log_normalizer: Float[Array, " N"] | None = None

    def chunk(self, start: Integer[Array, ""], size: int) -> "TeacherLogits":
        return self._replace(
            logits=take_rows(self.logits, start, size),
            log_normalizer=_rows_if_kept(self.log_normalizer, start, size),
        )

    def probs(self, num_targets: int) -> tuple[Float[Array, "N Y"], float]:
        logits = self.logits.astype(accumulation_dtype(self.logits.dtype))
        return _probs(logits, self.log_normalizer), 1.0


class TeacherTopK(NamedTuple):
    """A dialogue teacher kept as its K best targets; an approximation.

    The mass of the tail stays with neither teacher and is not renormalised: |q_t| < 1.
    """

    token_ids: Int[Array, "N K"]
    log_probs: Float[Array, "N K"]

    def chunk(self, start: Integer[Array, ""], size: int) -> "TeacherTopK":
        return self._replace(
            token_ids=take_rows(self.token_ids, start, size),
            log_probs=take_rows(self.log_probs, start, size),
        )

    def probs(self, num_targets: int) -> tuple[Float[Array, "N Y"], Float[Array, " N"]]:
        kept = jnp.exp(self.log_probs.astype(accumulation_dtype(self.log_probs.dtype)))
        rows = jnp.arange(kept.shape[0])[:, None]
        probs = jnp.zeros((kept.shape[0], num_targets), kept.dtype)
        return probs.at[rows, self.token_ids].set(kept), jnp.sum(kept, axis=-1)


def take_rows(
    array: Shaped[Array, "N ..."], start: Integer[Array, ""], size: int
) -> Shaped[Array, "C ..."]:
    """Rows start ... start + size - 1."""
    return lax.dynamic_slice_in_dim(array, start, size, axis=0)


def _rows_if_kept(array, start, size):
    return None if array is None else take_rows(array, start, size)


def _probs(logits, log_normalizer):
    if log_normalizer is None:
        return jax.nn.softmax(logits, axis=-1)
    return jnp.exp(logits - log_normalizer[:, None].astype(logits.dtype))
