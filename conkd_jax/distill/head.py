"""The last layer that every language model here shares: features [F] to logits over Y = V + I.

Teachers, students and baselines end alike, so one loss, one teacher store, one decoder and one
scorer serve them all. This file must not know how the features were made.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from conkd_jax.typing import Array, Float


class Head(NamedTuple):
    """An affine map onto the targets: logits = features . kernel + bias.

    Args:
        kernel: GPT-2: the transposed rows of the tied embedding that are targets.
        bias: zeros where the model has none. Columns that exist only as padding carry -1e9.
    """

    kernel: Float[Array, "F Y"]
    bias: Float[Array, " Y"]

    @property
    def num_targets(self) -> int:
        return self.kernel.shape[-1]

    def logits(
        self, features: Float[Array, "*N F"], logit_bias: Float[Array, "*N Y"] | None = None
    ) -> Float[Array, "*N Y"]:
        """Logits, accumulated in float32 or wider.

        The product runs in the wider type of features and kernel: bfloat16 features of a float32
        head are widened, which is how a stored teacher is rebuilt exactly.

        Args:
            features: the states that predict the targets.
            logit_bias: added to the logits, for models that are affine but for a mask or a pointer.
        """
        dtype = wider(features.dtype, self.kernel.dtype)
        logits = jnp.dot(
            features.astype(dtype),
            self.kernel.astype(dtype),
            preferred_element_type=accumulation_dtype(dtype),
        )  # [*N, Y]
        logits = logits + jnp.broadcast_to(self.bias.astype(logits.dtype), logits.shape)
        if logit_bias is not None:
            logits = logits + logit_bias.astype(logits.dtype)
        return logits


def wider(dtype: jnp.dtype, other: jnp.dtype) -> jnp.dtype:
    """The type that holds the numbers of both; asked for by name, so strict promotion may stay."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(dtype, other)


def accumulation_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """The type sums are kept in: float32, or float64 where the operands are."""
    return wider(dtype, jnp.dtype(jnp.float32))


def spread_over_targets(
    bias: Float[Array, "*N 2"], num_words: int, num_targets: int
) -> Float[Array, "*N Y"]:
    """A bias of two values a step, (one for every word, one for every item), laid over Y."""
    is_item = jnp.arange(num_targets) >= num_words
    is_item = jnp.broadcast_to(is_item, (*bias.shape[:-1], num_targets))
    return jnp.where(is_item, bias[..., 1:], bias[..., :1])  # [*N, Y]
