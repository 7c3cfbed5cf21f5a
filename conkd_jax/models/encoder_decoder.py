"""What the dialogue models of KGSF and KBRD share: a transformer from a context to a response.

Encoder and decoder read one embedding, scaled by √D, with sinusoidal positions; response and
context may be conditioned on nodes of the recommender's graphs, which are frozen. A model adds what
its decoder attends to besides the context, and how its states become features. This file must not
depend on how a recommender was trained, or on corpora, losses or decoding rules.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.models.compute import Compute
from conkd_jax.models.recommenders.attention_pooling import attention_pool
from conkd_jax.models.transformer import (
    DecoderLayer,
    EncoderLayer,
    LayerCache,
    sinusoidal_positions,
)
from conkd_jax.typing import Array, Bool, Float, Int, Params, PRNGKeyArray

GRAPH = "graph"  # the key, in the parameters, of what is read but not trained


@dataclasses.dataclass(frozen=True)
class TransformerSpec:
    """The shape of a transformer, without its vocabulary; the defaults are KBRD's and KGSF's.

    Attributes:
      num_layers: layers of the encoder, and of the decoder.
      embed_dim: D, the width.
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


def mentioned_nodes(
    graph: Params, inputs: Mapping[str, Any], side: str, one: str
) -> MentionedNodes:
    """Looks up the nodes that each context mentions; no gradient passes.

    Args:
      graph: frozen arrays. `{side}` [O, node_dim] and `{one}_energies` [O] are node vectors and
        their attention energies; `{one}_rows` [E + 1] int32 is the row of each id of the corpus's
        graph, -1 for ids without one. The additional last slot is -1, and the padding id -1 indexes
        it.
      inputs: `side` [B, L], ids of the corpus's graph, -1 at padding.
      side: "entities" or "concepts".
      one: "entity" or "concept".
    """
    graph = jax.lax.stop_gradient(graph)
    found = jnp.asarray(graph[f"{one}_rows"])[inputs[side]]  # [B, L]
    # Padding and ids without a node are masked alike. Row 0 stands in for them, so that the gathers
    # below stay within the arrays.
    mask, members = found >= 0, jnp.maximum(found, 0)
    nodes = jnp.asarray(graph[side])
    pooled = attention_pool(nodes, jnp.asarray(graph[f"{one}_energies"]), members, mask)
    return MentionedNodes(nodes[members], mask, pooled)


@flax.struct.dataclass
class DecoderCache:
    """What is kept while a batch is decoded; the contexts themselves are no longer needed.

    Attributes:
      layers: for each decoder layer, keys and values of the memories and of the tokens read.
      masks: for each memory, which places are real.
      of_context: the context's part of the features, which no step changes.
      position: number of tokens read.
    """

    layers: tuple[LayerCache, ...]
    masks: tuple[Bool[Array, "B _"], ...]
    of_context: Float[Array, "B _"]
    position: Int[Array, ""]


class EncoderDecoderNetwork(nn.Module):
    """The trained part of a model. It receives mentioned nodes; the model looks them up.

    A subclass adds its layers to `setup` and defines `of_context` and `features`; it may define
    `memories`.

    Attributes:
      spec: the shape.
      num_rows: rows of the token embedding.
      num_targets: |Y|.
      compute: the type of its products, and what the backward pass keeps.
      num_memories: what a decoder layer attends to, the context included.
    """

    spec: Any
    num_rows: int
    num_targets: int
    compute: Compute = Compute()
    num_memories: ClassVar[int] = 1

    def setup(self) -> None:
        """Creates the layers of encoder and decoder."""
        spec, width = self.spec, self.spec.embed_dim
        self.tokens = nn.Embed(
            self.num_rows, width, embedding_init=nn.initializers.normal(width**-0.5)
        )
        self.drop = nn.Dropout(spec.dropout)
        self.encoder = [
            EncoderLayer(spec.num_heads, spec.mlp_dim, spec.dropout, dtype=self.dtype)
            for _ in range(spec.num_layers)
        ]
        self.decoder = [
            DecoderLayer(
                width, self.num_memories, spec.num_heads, spec.mlp_dim, spec.dropout, self.dtype
            )
            for _ in range(spec.num_layers)
        ]

    @property
    def dtype(self) -> jnp.dtype:
        """The type of products, states and features."""
        return self.compute.array_dtype

    def memories(self, *mentioned: MentionedNodes) -> tuple[Float[Array, "B L _"], ...]:
        """What a decoder layer attends to before the context, in order."""
        del mentioned
        return ()

    def of_context(self, *mentioned: MentionedNodes) -> Float[Array, "B _"]:
        """The context's part of the features."""
        raise NotImplementedError

    def features(
        self, states: Float[Array, "B T D"], of_context: Float[Array, "B _"]
    ) -> Float[Array, "B T F"]:
        """The features of decoder states, given `of_context`."""
        raise NotImplementedError

    def __call__(
        self, inputs: Mapping[str, Any], *mentioned: MentionedNodes, deterministic: bool = True
    ) -> Float[Array, "B T F"]:
        """Features under teacher forcing."""
        positions = sinusoidal_positions(inputs["response_ids"].shape[1], self.spec.embed_dim)
        memories, masks = self._read(inputs, mentioned, deterministic)
        states = self._embed(inputs["response_ids"], positions, deterministic)

        def decode(layer, states, memories):
            return layer(states, memories, masks, deterministic=deterministic)

        for layer in self.decoder:
            states = self.compute.layer(decode)(layer, states, memories)
        return self.features(states, self.of_context(*mentioned))

    def open_cache(
        self, inputs: Mapping[str, Any], *mentioned: MentionedNodes, max_tokens: int
    ) -> tuple[Float[Array, "B F"], DecoderCache]:
        """Reads contexts and opening tokens."""
        memories, masks = self._read(inputs, mentioned, True)
        layers = tuple(layer.open_cache(memories, max_tokens) for layer in self.decoder)
        cache = DecoderCache(layers, masks, self.of_context(*mentioned), jnp.int32(0))
        return self.step(inputs["first_token"], cache)

    def step(
        self, token: Int[Array | np.ndarray, " B"], cache: DecoderCache
    ) -> tuple[Float[Array, "B F"], DecoderCache]:
        """Reads one more token of every row."""
        max_tokens = cache.layers[0].own.keys.shape[1]
        positions = jnp.asarray(sinusoidal_positions(max_tokens, self.spec.embed_dim))
        position = jax.lax.dynamic_slice_in_dim(positions, cache.position, 1)  # [1, D]
        states = self._embed(token[:, None], position, True)  # [B, 1, D]
        layers = []
        for layer, layer_cache in zip(self.decoder, cache.layers, strict=True):
            states, layer_cache = layer.step(states, layer_cache, cache.position, cache.masks)
            layers.append(layer_cache)
        features = self.features(states, cache.of_context)[:, 0]
        position = cache.position + 1
        return features, dataclasses.replace(cache, layers=tuple(layers), position=position)

    def encode(
        self,
        ids: Int[Array | np.ndarray, "B S"],
        mask: Bool[Array | np.ndarray, "B S"],
        deterministic: bool,
    ) -> Float[Array, "B S D"]:
        """Encodes tokens; none attends to a masked one."""
        positions = sinusoidal_positions(mask.shape[1], self.spec.embed_dim)
        states = self._embed(ids, positions, deterministic)

        def encode(layer, states):
            return layer(states, mask, deterministic=deterministic)

        for layer in self.encoder:
            states = self.compute.layer(encode)(layer, states)
        return states

    def _read(self, inputs, mentioned, deterministic):
        """The memories that a decoder layer attends to, and masks of real places."""
        mask = jnp.asarray(inputs["context_mask"])
        context = self.encode(inputs["context_ids"], mask, deterministic)
        beside = self.memories(*mentioned)
        masks = tuple(nodes.mask for nodes in mentioned[: len(beside)])
        return (*beside, context), (*masks, mask)

    def _embed(self, ids, positions, deterministic):
        scaled = self.tokens(ids) * self.spec.embed_dim**0.5
        states = scaled + jnp.asarray(positions, scaled.dtype)[None]
        # Not before: the gradient of an embedding row is a sum over all tokens that read it.
        return self.drop(states, deterministic=deterministic).astype(self.dtype)


@dataclasses.dataclass(frozen=True)
class EncoderDecoder(abc.ABC):
    """A model over an `EncoderDecoderNetwork`; all methods are pure functions of `params`.

    `params` are the trained parameters and, under the key "graph", frozen arrays that no gradient
    reaches. A subclass names its `NETWORK` and adds `mentioned`, `init` and `head`.

    Attributes:
      spec: the network's shape.
      num_rows: rows of the token embedding: Y = V ∪ I first, then the input-only rows.
      num_targets: |Y|.
      compute: the type of its products, and what the backward pass keeps.
    """

    EMBEDDING: ClassVar[str] = "tokens"
    NETWORK: ClassVar[type[EncoderDecoderNetwork]]  # its trained part

    spec: Any
    num_rows: int
    num_targets: int
    compute: Compute = Compute()

    def __post_init__(self) -> None:
        """Checks that the embedding has a row for every target.

        Raises:
          ValueError: it has not.
        """
        if self.num_targets > self.num_rows:
            raise ValueError(
                f"{type(self).__name__}.num_targets = {self.num_targets} exceeds num_rows = "
                f"{self.num_rows}, but every target needs a row of the embedding"
            )

    def computing(self, compute: Compute) -> EncoderDecoder:
        """The same model, with another `compute`."""
        return dataclasses.replace(self, compute=compute)

    @abc.abstractmethod
    def mentioned(self, graph: Params, inputs: Mapping[str, Any]) -> tuple[MentionedNodes, ...]:
        """The nodes that each context mentions, graph by graph (`mentioned_nodes`)."""

    def states(
        self, params: Params, inputs: Mapping[str, Any], rng: PRNGKeyArray | None = None
    ) -> Float[Array, "B T F"]:
        """Features at every response token; those at t predict y_t.

        Args:
          params: the trained parameters and the graph.
          inputs: "context_ids" [B, S], padded on the right, and "context_mask" [B, S], True at real
            tokens; "response_ids" [B, T], the opening token followed by y_1 … y_{T-1}, with
            arbitrary padding on the right, which no real token attends to; "entities" [B, Le] and,
            where the model reads them, "concepts" [B, Lc], ids of the corpus's graphs, -1 at
            padding. Contexts and lists may be empty.
          rng: key of the dropout masks; None turns dropout off.
        """
        return self._apply(
            params,
            inputs,
            *self.mentioned(params[GRAPH], inputs),
            deterministic=rng is None,
            rngs=None if rng is None else {"dropout": rng},
        )

    def open_cache(
        self, params: Params, inputs: Mapping[str, Any], max_tokens: int
    ) -> tuple[Float[Array, "B F"], DecoderCache]:
        """Reads contexts and opening tokens, and opens a cache for responses of `max_tokens`.

        Args:
          params: the trained parameters and the graph.
          inputs: as in `states`, with "first_token" [B] instead of "response_ids".
          max_tokens: the longest response. Its last token is never read, so at most
            `max_tokens` - 1 calls of `step` may follow.

        Returns:
          The features that predict y_1, and the cache for `step`.
        """
        mentioned = self.mentioned(params[GRAPH], inputs)
        return self._apply(params, inputs, *mentioned, max_tokens=max_tokens, method="open_cache")

    def step(
        self, params: Params, token: Int[Array | np.ndarray, " B"], cache: DecoderCache
    ) -> tuple[Float[Array, "B F"], DecoderCache]:
        """Reads one more token of every row, at most as often as `open_cache` allows."""
        return self._apply(params, token, cache, method="step")

    def encode(
        self,
        params: Params,
        ids: Int[Array | np.ndarray, "B S"],
        mask: Bool[Array | np.ndarray, "B S"],
        rng: PRNGKeyArray | None = None,
    ) -> Float[Array, "B S D"]:
        """Encodes tokens as the context is encoded; no token attends to a masked one."""
        return self._apply(
            params,
            ids,
            jnp.asarray(mask),
            rng is None,
            method="encode",
            rngs=None if rng is None else {"dropout": rng},
        )

    def longest_prompt(self, max_tokens: int) -> None:
        """No limit, since positions are not learned."""
        return None

    def _check_targets(self, num_targets: int) -> None:
        if num_targets != self.num_targets:
            raise ValueError(
                f"expected a head onto {self.num_targets} targets, the width of "
                f"{type(self).__name__}'s output layer, got {num_targets}; take both from the same "
                "vocabulary"
            )

    def _initial(self, rng: PRNGKeyArray, num_graphs: int) -> Params:
        """Draws the trained parameters of a network that reads `num_graphs` graphs."""
        ids = jnp.zeros((1, 1), jnp.int32)
        inputs = {"context_ids": ids, "context_mask": ids == 0, "response_ids": ids}
        nothing = MentionedNodes(
            nodes=jnp.zeros((1, 1, self.spec.node_dim)),
            mask=jnp.zeros((1, 1), bool),
            pooled=jnp.zeros((1, self.spec.node_dim)),
        )
        return jax.jit(self._network.init)(rng, inputs, *[nothing] * num_graphs)["params"]

    @functools.cached_property
    def _network(self) -> EncoderDecoderNetwork:
        return self.NETWORK(self.spec, self.num_rows, self.num_targets, self.compute)

    def _apply(self, params: Params, *args, **settings) -> Any:
        trained = {name: leaf for name, leaf in params.items() if name != GRAPH}
        return self._network.apply({"params": trained}, *args, **settings)
