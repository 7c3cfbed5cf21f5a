"""KGSF's dialogue model, the paper's second backbone: an encoder-decoder that reads the graphs.

Like GPT-2 it ends in features and a `Head`, so that both share the loss, the teacher store, the
scorer and the decoder. The recommender's node vectors are a frozen part of the parameters. This
file must not depend on how they were trained, or on corpora, losses or decoding rules.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.distill.head import Head
from conkd_jax.models.attention_pooling import attention_pool
from conkd_jax.models.transformer import (
    DecoderLayer,
    EncoderLayer,
    LayerCache,
    sinusoidal_positions,
)
from conkd_jax.typing import Array, Bool, Float, Int, Params, PRNGKeyArray

GRAPH = "graph"  # the key, in the parameters, of what is read but not trained


@dataclasses.dataclass(frozen=True)
class KGSFSpec:
    """The shape of a KGSF dialogue model, without its vocabulary; defaults as published.

    Attributes:
      num_layers: layers of the encoder, and of the decoder.
      embed_dim: D, the width; features have F = 2D.
      num_heads: attention heads; divides `embed_dim`.
      mlp_dim: hidden width of every MLP.
      dropout: rate on embeddings, residual branches and ReLUs, but not on attention weights.
      node_dim: width of the recommender's node vectors.
    """

    num_layers: int = 2
    embed_dim: int = 300
    num_heads: int = 2
    mlp_dim: int = 300
    dropout: float = 0.1
    node_dim: int = 128


@flax.struct.dataclass
class KGSFCache:
    """What is kept while a batch is decoded; the contexts themselves are no longer needed.

    Attributes:
      layers: for each decoder layer, keys and values of the memories and of the tokens read.
      masks: for each memory, which places are real.
      pooled: the context's part of every copy state.
      position: number of tokens read.
    """

    layers: tuple[LayerCache, ...]
    masks: tuple[Bool[Array, "B _"], ...]
    pooled: Float[Array, "B _"]
    position: Int[Array, ""]


class MentionedNodes(NamedTuple):
    """The nodes of one graph that a context mentions.

    Attributes:
      nodes: their vectors; arbitrary where masked.
      mask: True at nodes, False at padding.
      pooled: the recommender's pooled vector; zeros if nothing is mentioned.
    """

    nodes: Float[Array, "B L node_dim"]
    mask: Bool[Array, "B L"]
    pooled: Float[Array, "B node_dim"]


@dataclasses.dataclass(frozen=True)
class KGSF:
    """A transformer whose decoder attends to entities, concepts and context, and can copy words.

    With s_t the decoder's state and c_t = W_c [W_v v(x); W_n n(x); s_t] + b_c its copy state,

      logits_t = E s_t + (W_V c_t + b_V) ⊙ copy_mask,

    where E is the embedding shared by context and response, and v(x) and n(x) are the recommender's
    pooled concept and entity vectors (eq. 3). Every decoder layer attends to the tokens so far, to
    the mentioned entities, to the mentioned concepts and to the encoded context, in this order.

    KGSF's public code trains on logits without the copy term (`decode_forced` returns E s_t alone)
    and adds the term, untrained, when it decodes. Here both use it.

    All methods are pure functions of `params`. These are the trained parameters and, under the key
    "graph", frozen arrays that no gradient reaches:

      entities [O, node_dim], entity_energies [O]: node vectors and their attention energies;
      entity_rows [E + 1] int32: the row in `entities` of each entity id of the corpus, -1 for ids
        without one. The additional last slot is -1, and the padding id -1 indexes it;
      concepts [C, node_dim], concept_energies [C], concept_rows [Cn + 1]: likewise;
      copy_mask [Y] float32: 1 at targets that the copy term may raise, 0 elsewhere.

    Attributes:
      spec: the network's shape.
      num_rows: rows of the token embedding: Y = V ∪ I first, then the input-only rows.
      num_targets: |Y|, the width of the copy term.

    Source: Zhou et al. 2020 (KGSF) and its public code.
    """

    EMBEDDING: ClassVar[str] = "tokens"

    spec: KGSFSpec
    num_rows: int
    num_targets: int

    def init(
        self,
        rng: PRNGKeyArray,
        word_vectors: Float[Array | np.ndarray, "rows D"] | None = None,
    ) -> Params:
        """Draws the trained parameters, that is, all but the graph.

        Flax's defaults are used throughout: weights of variance 1/fan-in (equal to KGSF's Xavier
        for square matrices), biases 0, layer norms 1.

        Args:
          rng: key of all draws.
          word_vectors: the embedding to start from; None draws it from N(0, 1/D).

        Raises:
          ValueError: the shape of `word_vectors` is not that of the embedding.
        """
        shape = (self.num_rows, self.spec.embed_dim)
        if word_vectors is not None and word_vectors.shape != shape:
            raise ValueError(
                f"word_vectors has shape {word_vectors.shape}; KGSF(num_rows = {shape[0]}) "
                f"with embed_dim = {shape[1]} needs {shape}, one vector for every row"
            )
        ids = jnp.zeros((1, 1), jnp.int32)
        inputs = {"context_ids": ids, "context_mask": ids == 0, "response_ids": ids}
        nothing = MentionedNodes(
            nodes=jnp.zeros((1, 1, self.spec.node_dim)),
            mask=jnp.zeros((1, 1), bool),
            pooled=jnp.zeros((1, self.spec.node_dim)),
        )
        params = jax.jit(self._network.init)(rng, inputs, nothing, nothing)["params"]
        if word_vectors is None:
            return params
        return {**params, "tokens": {"embedding": jnp.asarray(word_vectors, jnp.float32)}}

    def states(
        self, params: Params, inputs: Mapping[str, Any], rng: PRNGKeyArray | None = None
    ) -> Float[Array, "B T F"]:
        """Features s_t ⊕ c_t (decoder state, copy state) at every response token; t predicts y_t.

        Args:
          params: the trained parameters and the graph.
          inputs: "context_ids" [B, S], padded on the right, and "context_mask" [B, S], True at real
            tokens; "response_ids" [B, T], the opening token followed by y_1 … y_{T-1}, with
            arbitrary padding on the right, which no real token attends to; "entities" [B, Le] and
            "concepts" [B, Lc], ids of the corpus's graphs, -1 at padding. Contexts and lists may be
            empty.
          rng: key of the dropout masks; None turns dropout off.
        """
        return self._apply(
            params,
            inputs,
            *_mentioned(params[GRAPH], inputs),
            deterministic=rng is None,
            rngs=None if rng is None else {"dropout": rng},
        )

    def head(self, params: Params, num_targets: int) -> Head:
        """The output layer, with kernel [Eᵀ; W_Vᵀ ⊙ copy_mask] and bias b_V ⊙ copy_mask.

        The copy term is linear in c_t and the mask is constant, so its product with the mask can
        be taken once, in the kernel, and the logits become affine in the features.

        Raises:
          ValueError: `num_targets` is not the width of the copy term.
        """
        if num_targets != self.num_targets:
            raise ValueError(
                f"expected a head onto {self.num_targets} targets, the width of KGSF's copy term, "
                f"got {num_targets}; take both from the same vocabulary"
            )
        copy_mask = jax.lax.stop_gradient(params[GRAPH]["copy_mask"])
        words = params["tokens"]["embedding"][:num_targets].T  # [D, Y]
        copied = params["copy_kernel"] * copy_mask[None, :]  # [D, Y]
        return Head(kernel=jnp.concatenate([words, copied]), bias=params["copy_bias"] * copy_mask)

    def open_cache(
        self, params: Params, inputs: Mapping[str, Any], max_tokens: int
    ) -> tuple[Float[Array, "B F"], KGSFCache]:
        """Reads contexts and opening tokens, and opens a cache for responses of `max_tokens`.

        Args:
          params: the trained parameters and the graph.
          inputs: as in `states`, with "first_token" [B] instead of "response_ids".
          max_tokens: the longest response. Its last token is never read, so at most
            `max_tokens` - 1 calls of `step` may follow.

        Returns:
          The features that predict y_1, and the cache for `step`.
        """
        graph = params[GRAPH]
        return self._apply(
            params, inputs, *_mentioned(graph, inputs), max_tokens, method="open_cache"
        )

    def step(
        self, params: Params, token: Int[Array | np.ndarray, " B"], cache: KGSFCache
    ) -> tuple[Float[Array, "B F"], KGSFCache]:
        """Reads one more token of every row, at most as often as `open_cache` allows."""
        return self._apply(params, token, cache, method="step")

    def longest_prompt(self, max_tokens: int) -> None:
        """No limit, since positions are not learned."""

    @functools.cached_property
    def _network(self) -> _Network:
        if self.num_targets > self.num_rows:
            raise ValueError(
                f"KGSF.num_targets = {self.num_targets} exceeds num_rows = {self.num_rows}, but "
                "every target needs a row of the embedding"
            )
        return _Network(self.spec, self.num_rows, self.num_targets)

    def _apply(self, params: Params, *args, **settings) -> Any:
        trained = {name: leaf for name, leaf in params.items() if name != GRAPH}
        return self._network.apply({"params": trained}, *args, **settings)


class _Network(nn.Module):
    """The trained part of `KGSF`. It receives mentioned nodes; `KGSF` looks them up."""

    spec: KGSFSpec
    num_rows: int
    num_targets: int

    def setup(self) -> None:
        spec, width = self.spec, self.spec.embed_dim

        def linear():
            return nn.Dense(width)

        self.tokens = nn.Embed(
            self.num_rows, width, embedding_init=nn.initializers.normal(width**-0.5)
        )
        self.drop = nn.Dropout(spec.dropout)
        self.encoder = [
            EncoderLayer(spec.num_heads, spec.mlp_dim, spec.dropout) for _ in range(spec.num_layers)
        ]
        self.decoder = [
            DecoderLayer(width, 3, spec.num_heads, spec.mlp_dim, spec.dropout)
            for _ in range(spec.num_layers)
        ]
        self.entity_memory, self.concept_memory = linear(), linear()
        self.entity_pooled, self.concept_pooled = linear(), linear()
        self.copy_state = linear()
        # The head's part of the copy term. Only `KGSF.head` reads it; it is declared here to be
        # drawn and trained with the rest.
        kernel_init, bias_init = nn.initializers.lecun_normal(), nn.initializers.zeros
        self.copy_kernel = self.param("copy_kernel", kernel_init, (width, self.num_targets))
        self.copy_bias = self.param("copy_bias", bias_init, (self.num_targets,))

    def __call__(self, inputs, entities, concepts, *, deterministic=True) -> Array:
        positions = sinusoidal_positions(inputs["response_ids"].shape[1], self.spec.embed_dim)
        memories, masks = self._memories(inputs, entities, concepts, deterministic)
        states = self._embed(inputs["response_ids"], positions, deterministic)
        for layer in self.decoder:
            states = layer(states, memories, masks, deterministic=deterministic)
        return self._features(states, self._pooled(entities, concepts))

    def open_cache(self, inputs, entities, concepts, max_tokens) -> tuple[Array, KGSFCache]:
        memories, masks = self._memories(inputs, entities, concepts, True)
        layers = tuple(layer.open_cache(memories, max_tokens) for layer in self.decoder)
        cache = KGSFCache(layers, masks, self._pooled(entities, concepts), jnp.int32(0))
        return self.step(inputs["first_token"], cache)

    def step(self, token, cache) -> tuple[Array, KGSFCache]:
        max_tokens = cache.layers[0].own.keys.shape[1]
        positions = jnp.asarray(sinusoidal_positions(max_tokens, self.spec.embed_dim))
        position = jax.lax.dynamic_slice_in_dim(positions, cache.position, 1)  # [1, D]
        states = self._embed(token[:, None], position, True)  # [B, 1, D]
        layers = []
        for layer, layer_cache in zip(self.decoder, cache.layers, strict=True):
            states, layer_cache = layer.step(states, layer_cache, cache.position, cache.masks)
            layers.append(layer_cache)
        features = self._features(states, cache.pooled)[:, 0]
        return features, cache.replace(layers=tuple(layers), position=cache.position + 1)

    def _memories(self, inputs, entities, concepts, deterministic):
        """The memories that a decoder layer attends to, in order, and masks of real places."""
        mask = jnp.asarray(inputs["context_mask"])
        positions = sinusoidal_positions(mask.shape[1], self.spec.embed_dim)
        context = self._embed(inputs["context_ids"], positions, deterministic)
        for layer in self.encoder:
            context = layer(context, mask, deterministic=deterministic)
        memories = (
            self.entity_memory(entities.nodes),
            self.concept_memory(concepts.nodes),
            context,
        )
        return memories, (entities.mask, concepts.mask, mask)

    def _embed(self, ids, positions, deterministic):
        scaled = self.tokens(ids) * self.spec.embed_dim**0.5
        states = scaled + jnp.asarray(positions, scaled.dtype)[None]
        return self.drop(states, deterministic=deterministic)

    def _pooled(self, entities, concepts):
        """[W_v v(x); W_n n(x)], [B, 2D]."""
        return jnp.concatenate(
            [self.concept_pooled(concepts.pooled), self.entity_pooled(entities.pooled)], axis=-1
        )

    def _features(self, states, pooled):
        """s_t ⊕ c_t, [B, T, F]."""
        batch_size, length, _ = states.shape
        pooled = jnp.broadcast_to(pooled[:, None], (batch_size, length, pooled.shape[-1]))
        copied = self.copy_state(jnp.concatenate([pooled, states], axis=-1))
        return jnp.concatenate([states, copied], axis=-1)


def _mentioned(graph: Params, inputs: Mapping[str, Any]) -> tuple[MentionedNodes, MentionedNodes]:
    """Looks up the entities and concepts that each context mentions; no gradient passes."""
    graph = jax.lax.stop_gradient(graph)

    def one(nodes, energies, rows, ids):
        found = jnp.asarray(rows)[ids]  # [B, L]; the padding id -1 indexes the last slot, also -1
        # Padding and ids without a node are masked alike. Row 0 stands in for them, so that the
        # gathers below stay within the arrays.
        mask, members = found >= 0, jnp.maximum(found, 0)
        nodes = jnp.asarray(nodes)
        pooled = attention_pool(nodes, jnp.asarray(energies), members, mask)
        return MentionedNodes(nodes[members], mask, pooled)

    return (
        one(graph["entities"], graph["entity_energies"], graph["entity_rows"], inputs["entities"]),
        one(
            graph["concepts"], graph["concept_energies"], graph["concept_rows"], inputs["concepts"]
        ),
    )
