"""The turn classifier: will the next turn recommend? It chooses [REC] or [GEN] at inference.

A small encoder over the token ids of the dialogue so far, with the backbone's own vocabulary. It
knows no response: at inference there is none.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from conkd_jax.models.transformer import EncoderLayer
from conkd_jax.typing import Array, Bool, Float, Int

GEN, REC = 0, 1  # the two labels
EMBEDDING_INIT = nn.initializers.normal(0.02)


class TurnClassifier(nn.Module):
    """P(k | x) over k in {[GEN], [REC]}, trained by the cross-entropy that eq. 12 stands for.

    Token and position embeddings, encoder layers, the mean of the real tokens' states, and a linear
    layer. Positions count back from the last token, so that the latest turn, which decides most,
    stands at the same positions in a long dialogue and in a short one; padding on either side
    changes nothing.

    Attributes:
      vocab: rows of the token embedding.
      num_positions: the longest context in tokens; the caller keeps a longer one's tail.

    Source: the paper's §3.3 and App. D ("standard transformer layers"); sizes are this project's.
    """

    vocab: int
    num_layers: int = 2
    num_heads: int = 2
    embed_dim: int = 300
    mlp_dim: int = 300
    num_positions: int = 512
    dropout: float = 0.1

    @nn.compact
    def __call__(
        self,
        ids: Int[Array | np.ndarray, "B S"],
        mask: Bool[Array | np.ndarray, "B S"],
        deterministic: bool = True,
    ) -> Float[Array, "B 2"]:
        """Logits of [GEN] (0) and [REC] (1).

        Args:
          ids: token ids of the dialogue so far.
          mask: True at real tokens. An empty context is allowed: its mean is zero.
          deterministic: no dropout; otherwise `rngs={"dropout": key}` is needed.

        Raises:
          ValueError: the context is longer than `num_positions`.
        """
        if ids.shape[1] > self.num_positions:
            raise ValueError(
                f"a context of {ids.shape[1]} tokens is longer than the classifier's "
                f"{self.num_positions} positions; keep its tail"
            )
        mask = jnp.asarray(mask)
        from_end = jnp.flip(jnp.cumsum(jnp.flip(mask, 1), axis=1, dtype=jnp.int32), 1) - 1
        states = nn.Embed(self.vocab, self.embed_dim, embedding_init=EMBEDDING_INIT, name="tokens")(
            ids
        )
        states += nn.Embed(
            self.num_positions, self.embed_dim, embedding_init=EMBEDDING_INIT, name="positions"
        )(jnp.maximum(from_end, 0))
        states = nn.Dropout(self.dropout)(states, deterministic=deterministic)
        for layer in range(self.num_layers):
            states = EncoderLayer(
                self.num_heads, self.mlp_dim, self.dropout, self.dropout, name=f"layer_{layer}"
            )(states, mask, deterministic=deterministic)
        weights = mask.astype(states.dtype)  # [B, S]
        total = jnp.einsum("bs,bsd->bd", weights, states)
        count = jnp.maximum(weights.sum(axis=1, keepdims=True), 1.0)
        return nn.Dense(2, name="classifier")(total / jnp.broadcast_to(count, total.shape))
