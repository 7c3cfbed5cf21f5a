"""The turn classifier, which chooses between [REC] and [GEN] at inference: should we recommend now?

It is a small encoder over the token ids of the dialogue so far, in the backbone's own vocabulary.
The response is not an input, since it does not exist yet at inference.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from conkd_jax.models.layers import Dense
from conkd_jax.models.transformer import EncoderLayer
from conkd_jax.typing import Array, Bool, Float, Int

GEN, REC = 0, 1  # the two labels
EMBEDDING_INIT = nn.initializers.normal(0.02)


class TurnClassifier(nn.Module):
    """P(k | x) over k in {[GEN], [REC]}, trained by cross-entropy (eq. 12).

    The network has token and position embeddings, encoder layers, a mean over the states of the
    real tokens, and a linear layer. Positions count backwards from the last token. The latest turn,
    which matters most, therefore has the same positions in long and short dialogues, and padding on
    either side changes nothing.

    Attributes:
      vocab: number of rows of the token embedding.
      num_layers: number of encoder layers.
      num_heads: attention heads; divides `embed_dim`.
      embed_dim: width of embeddings and states.
      mlp_dim: hidden width of every MLP.
      num_positions: the longest context in tokens; of a longer one the caller keeps the end.
      dropout: rate on embeddings, residual branches and attention weights.
      dtype: the type of the products and of the states between layers; embeddings, their sum, the
        mean over tokens and the logits are float32.

    Source: eq. 12 of the paper, which says "standard transformer layers" and gives no sizes; those
    here are this project's.
    """

    vocab: int
    num_layers: int = 2
    num_heads: int = 2
    embed_dim: int = 300
    mlp_dim: int = 300
    num_positions: int = 512
    dropout: float = 0.1
    dtype: Any = "float32"

    @nn.compact
    def __call__(
        self,
        ids: Int[Array | np.ndarray, "B S"],
        mask: Bool[Array | np.ndarray, "B S"],
        deterministic: bool = True,
    ) -> Float[Array, "B 2"]:
        """Computes the logits of [GEN] (0) and [REC] (1).

        Args:
          ids: token ids of the dialogue so far.
          mask: True at real tokens. A context may be empty; its mean state is zero.
          deterministic: whether dropout is off; if not, apply with `rngs={"dropout": key}`.

        Raises:
          ValueError: the context is longer than `num_positions`.
        """
        if ids.shape[1] > self.num_positions:
            raise ValueError(
                f"a context of {ids.shape[1]} tokens is longer than the classifier's "
                f"{self.num_positions} positions; keep the last tokens only"
            )
        mask = jnp.asarray(mask)
        from_end = jnp.flip(jnp.cumsum(jnp.flip(mask, 1), axis=1, dtype=jnp.int32), 1) - 1
        states = nn.Embed(self.vocab, self.embed_dim, embedding_init=EMBEDDING_INIT, name="tokens")(
            ids
        )
        states += nn.Embed(
            self.num_positions, self.embed_dim, embedding_init=EMBEDDING_INIT, name="positions"
        )(jnp.maximum(from_end, 0))
        dtype = jnp.dtype(self.dtype)
        states = nn.Dropout(self.dropout)(states, deterministic=deterministic).astype(dtype)
        for layer in range(self.num_layers):
            shape = (self.num_heads, self.mlp_dim, self.dropout, self.dropout, dtype)
            states = EncoderLayer(*shape, name=f"layer_{layer}")(
                states, mask, deterministic=deterministic
            )
        weights = mask.astype(jnp.float32)  # [B, S]
        total = jnp.einsum("bs,bsd->bd", weights, states.astype(jnp.float32))
        count = jnp.maximum(weights.sum(axis=1, keepdims=True), 1.0)
        mean = total / jnp.broadcast_to(count, total.shape)
        return Dense(2, dtype=dtype, name="classifier")(mean).astype(jnp.float32)
