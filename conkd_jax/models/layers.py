"""Layers that multiply in bfloat16 and add up in float32.

With `dtype` float32 they are Flax's, operation by operation. In bfloat16 Flax rounds more than
products: it adds the bias in bfloat16, so that its gradient, a sum over all tokens, is summed there
and wrong by several percent; and with a softmax in float32 it multiplies by the values in float32.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from conkd_jax.typing import Array, Bool, Float


def attend(
    query: Float[Array, "B Q H d"],
    key: Float[Array, "B L H d"],
    value: Float[Array, "B L H d"],
    mask: Bool[Array, "*mask"],
    *,
    dropout_rng: jax.Array | None = None,
    dropout_rate: float = 0.0,
    broadcast_dropout: bool = True,
) -> Float[Array, "B Q H d"]:
    """Attention with a softmax in float32, and both products in the type of the values.

    Args:
      query: one per place that attends.
      key: one per place of the memory.
      value: likewise.
      mask: True where a query may attend; of a shape that broadcasts to [B, H, Q, L].
      dropout_rng: key of the dropout on attention weights; None turns it off.
      dropout_rate: its rate.
      broadcast_dropout: whether all rows and heads share a mask.
    """
    weights = nn.attention.dot_product_attention_weights(
        query,
        key,
        mask=mask,
        broadcast_dropout=broadcast_dropout,
        dropout_rng=dropout_rng,
        dropout_rate=dropout_rate,
        deterministic=dropout_rng is None,
        force_fp32_for_softmax=True,
    )  # [B, H, Q, L]
    return jnp.einsum("bhql,blhd->bqhd", weights.astype(value.dtype), value)


def repeated(vectors: Float[Array, "B F"], length: int) -> Float[Array, "B T F"]:
    """Repeats one vector per row at every token; gradients are summed over tokens in float32."""
    wide = vectors.astype(jnp.float32)[:, None]
    shape = (vectors.shape[0], length, vectors.shape[1])
    return jnp.broadcast_to(wide, shape).astype(vectors.dtype)


def product(
    inputs: Float[Array, "*N F"], kernel: Float[Array, "F Y"], dtype: Any
) -> Float[Array, "*N Y"]:
    """`inputs` · `kernel` with both rounded to a type, and the sums in float32, not rounded.

    Its gradient is rounded to the type as well, so that the products of the backward pass have it.

    Args:
      inputs: of any number of rows.
      kernel: one column for each result.
      dtype: float32, for the plain product, or bfloat16.
    """
    if jnp.dtype(dtype) == jnp.float32:
        return inputs @ kernel
    return _summed_in_float32(inputs.astype(dtype), kernel.astype(dtype))


@jax.custom_vjp
def _summed_in_float32(inputs, kernel):
    return jnp.dot(inputs, kernel, preferred_element_type=jnp.float32)


def _summed_forward(inputs, kernel):
    return _summed_in_float32(inputs, kernel), (inputs, kernel)


def _summed_backward(operands, gradient):
    inputs, kernel = operands
    gradient = gradient.astype(inputs.dtype)
    rows, of_rows = (array.reshape(-1, array.shape[-1]) for array in (inputs, gradient))
    return jnp.dot(gradient, kernel.T), jnp.dot(rows.T, of_rows)


_summed_in_float32.defvjp(_summed_forward, _summed_backward)


def _without_bias(inputs: Any, kernel: Any, bias: Any, *, dtype: Any) -> tuple:
    """Flax's promotion of a layer's arrays, which leaves the bias in float32."""
    return *promote_dtype(inputs, kernel, dtype=dtype), bias


class Dense(nn.Dense):
    """Flax's Dense whose bias is added in float32, where its gradient is then summed as well.

    That gradient is a sum over all tokens; in bfloat16 it was wrong by several percent.
    """

    promote_dtype: Any = _without_bias

    def __call__(self, inputs: Any) -> Any:
        """The product in `dtype`, and the sum rounded to it."""
        return super().__call__(inputs).astype(self.dtype)


class DenseGeneral(nn.DenseGeneral):
    """Flax's DenseGeneral with the bias of `Dense`."""

    promote_dtype: Any = _without_bias

    def __call__(self, inputs: Any) -> Any:
        """The product in `dtype`, and the sum rounded to it."""
        return super().__call__(inputs).astype(self.dtype)
