"""How a language model computes: the type of its products, and what its backward pass keeps.

Parameters are float32 whatever the type is, and so is what the optimizer does with them. In
bfloat16 each layer rounds its weights and its input to 8 significant bits, and the products of
these are summed in float32 by accelerators. Softmaxes, layer norms, recurrent states, the sums of
embedding gradients and those of the loss stay in float32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Compute:
    """How a language model computes.

    Attributes:
      dtype: the type of weights and activations in products, one of `DTYPES`; features have it too.
      remat: True keeps only the inputs of each layer for the backward pass, which computes the
        layer again. Less memory for a third more arithmetic; the gradients are the same.
    """

    dtype: str = "float32"
    remat: bool = False

    @property
    def array_dtype(self) -> jnp.dtype:
        """The type of arrays."""
        return jnp.dtype(self.dtype)

    def layer(self, call: Callable) -> Callable:
        """Wraps `call(layer, *arrays)`, for a layer of Flax, so that `remat` applies to it.

        The dropout masks are those of the layer without `remat`.
        """
        return nn.remat(call) if self.remat else call
