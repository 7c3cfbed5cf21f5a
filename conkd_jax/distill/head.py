"""The output layer that every language model here ends in: features [F] to logits over Y = V + I.

Teachers, students and baselines share its form, so that one loss, one teacher store, one decoder
and one scorer serve them all. This file must not depend on how the features were computed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from conkd_jax.typing import Array, Float


class Head(NamedTuple):
    """An affine map onto the targets: logits = features · kernel + bias.

    Attributes:
      kernel: one column per target. For GPT-2 these are rows of the tied embedding, transposed.
      bias: zeros where the model has none; -1e9 at columns that exist only as padding.
    """

    kernel: Float[Array, "F Y"]
    bias: Float[Array, " Y"]

    @property
    def num_targets(self) -> int:
        """|Y|, the number of targets."""
        return self.kernel.shape[-1]

    def logits(self, features: Float[Array, "*N F"]) -> Float[Array, "*N Y"]:
        """Computes logits, accumulated in float32 or wider.

        The product uses the wider of the two types. For a float32 head that means float32 even
        where the features were stored as bfloat16, so a stored teacher is rebuilt exactly.
        """
        dtype = wider_dtype(features.dtype, self.kernel.dtype)
        logits = jnp.dot(
            features.astype(dtype),
            self.kernel.astype(dtype),
            preferred_element_type=accumulation_dtype(dtype),
        )  # [*N, Y]
        return logits + jnp.broadcast_to(self.bias.astype(logits.dtype), logits.shape)


def wider_dtype(dtype: jnp.dtype, other: jnp.dtype) -> jnp.dtype:
    """The narrowest type that holds the values of both."""
    # JAX's strict promotion mode, in which the tests run, forbids implicit mixing only.
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(dtype, other)


def accumulation_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """The type in which sums are kept: float32, or float64 where the operands are float64."""
    return wider_dtype(dtype, jnp.dtype(jnp.float32))


def spread_over_targets(
    pairs: Float[Array, "*N 2"], num_words: int, num_targets: int
) -> Float[Array, "*N Y"]:
    """Spreads pairs (value of every word, value of every item) over the targets Y."""
    is_item = jnp.arange(num_targets) >= num_words
    is_item = jnp.broadcast_to(is_item, (*pairs.shape[:-1], num_targets))
    return jnp.where(is_item, pairs[..., 1:], pairs[..., :1])  # [*N, Y]
