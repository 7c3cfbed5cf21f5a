"""RevCore's dialogue model: KGSF's, with reviews of the mentioned movies in its context.

It is composed of KGSF's model and a small network of its own for the reviews. This file must not
depend on where reviews come from.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.distill.head import Head, Retrieved
from conkd_jax.models.compute import Compute
from conkd_jax.models.encoder_decoder import DecoderCache
from conkd_jax.models.kgsf import KGSF, KGSFSpec
from conkd_jax.models.layers import Dense, repeated
from conkd_jax.models.recommenders.attention_pooling import AttentionEnergies, attention_pool
from conkd_jax.typing import Array, Float, Int, Params, PRNGKeyArray

REVIEWS = "reviews"  # the key, in the parameters, of the network that reads reviews


@flax.struct.dataclass
class RevCoreCache:
    """What is kept while a batch is decoded: KGSF's cache, and r, the context's pooled reviews."""

    kgsf: DecoderCache
    reviews: Float[Array, "B D"]


@dataclasses.dataclass(frozen=True)
class RevCore:
    """KGSF, with a third term in its logits for the words of the retrieved reviews.

    A context holds the reviews of the movies that it mentions, each after its movie. With x the
    context's tokens, s_t the decoder's state and c_t KGSF's copy state,

      S = Encoder(x ⊙ review_mask),   r = Σ_j α_j S_j,   α = softmax_j(bᵀ tanh(A S_j)),
      c'_t = W_r [r; s_t] + b_r,
      logits_t = E s_t + (W_V c_t + b_V) ⊙ copy_mask + (W_R c'_t + b_R) ⊙ retrieved,

    where `retrieved` is 1 at the words of the context's reviews. The encoder is that of the
    context: reviews are read once with the context, and once alone, at the same positions. r is
    zero without reviews.

    In RevCore's public code the third term is inert. Review words are recognised by a mark that
    nothing sets, so the mask is zero, S encodes padding, and `retrieved` is the padding token. Its
    training also returns E s_t alone, as KGSF's does. Here all three terms are trained and decoded.

    Parameters are KGSF's (see `KGSF`) and, under the key "reviews", those of α, W_r, b_r, W_R, b_R.

    Attributes:
      spec: the shape, which is KGSF's.
      num_rows: rows of the token embedding: Y = V ∪ I first, then the input-only rows.
      num_targets: |Y|.
      compute: the type of its products, and what the backward pass keeps. Reviews are pooled in
        float32.

    Source: Lu et al. 2021 (RevCore) and its public code.
    """

    EMBEDDING: ClassVar[str] = KGSF.EMBEDDING

    spec: KGSFSpec
    num_rows: int
    num_targets: int
    compute: Compute = Compute()

    def computing(self, compute: Compute) -> RevCore:
        """The same model, with another `compute`."""
        return dataclasses.replace(self, compute=compute)

    def init(
        self,
        rng: PRNGKeyArray,
        word_vectors: Float[Array | np.ndarray, "rows D"] | None = None,
    ) -> Params:
        """Draws the trained parameters; arguments and errors are `KGSF.init`'s."""
        params = self._kgsf.init(rng, word_vectors)
        width = self.spec.embed_dim
        states, mask = jnp.zeros((1, 1, width)), jnp.zeros((1, 1), bool)
        own = self._network.init(jax.random.fold_in(rng, 1), states, mask, states)["params"]
        return {**params, REVIEWS: own}

    def states(
        self, params: Params, inputs: Mapping[str, Any], rng: PRNGKeyArray | None = None
    ) -> Float[Array, "B T F"]:
        """Features s_t ⊕ c_t ⊕ c'_t, F = 3D.

        Args:
          params: the trained parameters and the graph.
          inputs: those of `KGSF.states`, and "review_mask" [B, S], True at the context's tokens
            that belong to a review.
          rng: key of the dropout masks; None turns dropout off.
        """
        features = self._kgsf.states(_without_reviews(params), inputs, rng)
        rng = None if rng is None else jax.random.fold_in(rng, 1)
        return self._with_review_state(params, features, self._pooled(params, inputs, rng))

    def head(self, params: Params, num_targets: int) -> Head:
        """KGSF's output layer, with the third term on the retrieved words.

        Raises:
          ValueError: `num_targets` is not the width of the copy terms.
        """
        own = params[REVIEWS]
        head = self._kgsf.head(_without_reviews(params), num_targets)
        return head._replace(retrieved=Retrieved(own["copy_kernel"], own["copy_bias"]))

    def open_cache(
        self, params: Params, inputs: Mapping[str, Any], max_tokens: int
    ) -> tuple[Float[Array, "B F"], RevCoreCache]:
        """Reads contexts, reviews and opening tokens, as `KGSF.open_cache` does."""
        features, cache = self._kgsf.open_cache(_without_reviews(params), inputs, max_tokens)
        pooled = self._pooled(params, inputs, None)
        return self._next(params, features, pooled), RevCoreCache(cache, pooled)

    def step(
        self, params: Params, token: Int[Array | np.ndarray, " B"], cache: RevCoreCache
    ) -> tuple[Float[Array, "B F"], RevCoreCache]:
        """Reads one more token of every row, at most as often as `open_cache` allows."""
        features, kgsf = self._kgsf.step(_without_reviews(params), token, cache.kgsf)
        return self._next(params, features, cache.reviews), RevCoreCache(kgsf, cache.reviews)

    def longest_prompt(self, max_tokens: int) -> None:
        """No limit, since positions are not learned."""

    @functools.cached_property
    def _kgsf(self) -> KGSF:
        return KGSF(self.spec, self.num_rows, self.num_targets, self.compute)

    @functools.cached_property
    def _network(self) -> _ReviewNetwork:
        return _ReviewNetwork(self.spec.embed_dim, self.num_targets, self.compute.array_dtype)

    def _pooled(self, params, inputs, rng) -> Float[Array, "B D"]:
        """The pooled reviews r of every context."""
        mask = jnp.asarray(inputs["review_mask"])
        encoded = self._kgsf.encode(_without_reviews(params), inputs["context_ids"], mask, rng)
        return self._apply(params, encoded, mask, method="pool")

    def _with_review_state(self, params, features, pooled) -> Float[Array, "B T F"]:
        states = features[..., : self.spec.embed_dim]
        copied = self._apply(params, pooled, states, method="copy")
        return jnp.concatenate([features, copied], axis=-1)

    def _apply(self, params: Params, *args, **settings) -> Any:
        return self._network.apply({"params": params[REVIEWS]}, *args, **settings)

    def _next(self, params, features, pooled) -> Float[Array, "B F"]:
        return self._with_review_state(params, features[:, None], pooled)[:, 0]


class _ReviewNetwork(nn.Module):
    """The parameters that RevCore adds to KGSF's."""

    embed_dim: int
    num_targets: int
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.attention = AttentionEnergies(self.embed_dim)
        self.copy_state = Dense(self.embed_dim, dtype=self.dtype)
        # Read by `RevCore.head` only, as in KGSF.
        shape, kernel_init = (self.embed_dim, self.num_targets), nn.initializers.lecun_normal()
        self.copy_kernel = self.param("copy_kernel", kernel_init, shape)
        self.copy_bias = self.param("copy_bias", nn.initializers.zeros, (self.num_targets,))

    def __call__(self, encoded, mask, states) -> Array:
        return self.copy(self.pool(encoded, mask), states)

    def pool(self, encoded, mask) -> Array:
        """r, [B, D], of encoded tokens [B, S, D]; zeros where a row is masked whole."""
        batch_size, length, width = encoded.shape
        flat = encoded.reshape(-1, width).astype(jnp.float32)  # [B S, D]
        members = jnp.arange(batch_size * length, dtype=jnp.int32).reshape(batch_size, length)
        return attention_pool(flat, self.attention(flat), members, mask)

    def copy(self, pooled, states) -> Array:
        """c'_t, [B, T, D], of decoder states [B, T, D]."""
        pooled = repeated(pooled, states.shape[1])
        return self.copy_state(jnp.concatenate([pooled, states], axis=-1))


def _without_reviews(params: Params) -> Params:
    return {name: leaf for name, leaf in params.items() if name != REVIEWS}
