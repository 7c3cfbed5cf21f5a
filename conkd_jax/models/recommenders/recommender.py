"""KGSF's recommender: two graph networks, attentive pooling, a gate, and an inner product.

Without concepts it is KBRD's recommender: one graph network, attentive pooling, an inner product.

A prediction has three parts, each a method: node vectors (once per step or per checkpoint), user
vectors of contexts, and the item head. A teacher store keeps the last two, one user vector per
response and one head; together they are a complete prediction.

Contexts and graphs are passed as arrays. This file must not depend on files, corpora or configs.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from conkd_jax.models.layers import Dense, product
from conkd_jax.models.recommenders.attention_pooling import AttentionEnergies, attention_pool
from conkd_jax.models.recommenders.gcn import GCN, NormalizedGraph
from conkd_jax.models.recommenders.rgcn import RGCN, RelationalGraph
from conkd_jax.typing import Array, Bool, Float, Int

_XAVIER = nn.initializers.xavier_uniform()


@flax.struct.dataclass
class RecommenderGraphs:
    """Both graphs, and which nodes are scored: a pytree, to be passed to jitted code as argument.

    Leading axes (*devices) are those of graphs that are replicated over devices.

    Attributes:
      entities: the knowledge graph; its outputs are the nodes that can be scored or mentioned.
      concepts: the concept graph; its outputs are the concepts that can be mentioned. None for a
        recommender without concepts.
      scored_nodes: [S] output node of each score.
      item_scores: [M] index of each item's score.
      node_scores: [O] index of each output node's score, -1 where it has none.
    """

    entities: RelationalGraph
    concepts: NormalizedGraph | None
    scored_nodes: Int[Array | np.ndarray, "*devices S"]
    item_scores: Int[Array | np.ndarray, "*devices M"]
    node_scores: Int[Array | np.ndarray, "*devices O"]


@flax.struct.dataclass
class Contexts:
    """What was mentioned before each response, as indices of the graphs' outputs; -1 is padding."""

    entities: Int[Array | np.ndarray, "*devices B Le"]
    concepts: Int[Array | np.ndarray, "*devices B Lc"]


@flax.struct.dataclass
class NodeVectors:
    """Vectors of the graphs' outputs and their attention energies; no concepts without concepts."""

    entities: Float[Array, "*devices O D"]
    entity_energies: Float[Array, "*devices O"]
    concepts: Float[Array, "*devices C D"] | None
    concept_energies: Float[Array, "*devices C"] | None


@flax.struct.dataclass
class UserState:
    """Vectors of contexts: p_u (`user_vectors`), and v(x), the concept side of it, if any."""

    user_vectors: Float[Array, "*devices B D"]
    concept_vectors: Float[Array, "*devices B D"] | None


class Recommender(nn.Module):
    """P_ψ(i|x) = softmax_i(p_uᵀ n_i + b_i) (eq. 4), with p_u of eq. 3.

    The gate has the form of KGSF's public code: β = σ(w₂ᵀ(W₁[v; n] + b₁) + b₂) and
    p_u = β n(x) + (1-β) v(x), so β weighs the entity side. Eq. 3 prints β v(x) + (1-β) n(x) with a
    single matrix, which is the same up to the sign of the gate's argument and one linear layer.

    Graphs without a concept graph make p_u = n(x), as in KBRD, with neither a gate nor MIM.

    Attributes:
      embed_dim: D, the size of every vector.
      num_bases: number of bases of the R-GCN.
      gcn_relu: whether the concept side has the ReLU of eq. 13.
      user_dropout: rate on p_u, in training.
      context_dropout: probability that a mentioned entity or concept is left out, in training.
      attention_init: of the attentive pooling, see `AttentionEnergies`.
      dtype: the type of the products. Vectors, pooling, sums over edges and scores are float32.
    """

    embed_dim: int = 128
    num_bases: int = 8
    gcn_relu: bool = False
    user_dropout: float = 0.0
    context_dropout: float = 0.0
    attention_init: str = "xavier_normal"
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Creates the submodules; only those that are used, or called, have parameters."""
        width, dtype = self.embed_dim, self.dtype
        self.rgcn = RGCN(width, self.num_bases, dtype)
        self.concept_encoder = ConceptEncoder(width, self.gcn_relu, dtype)
        self.entity_attention = AttentionEnergies(width, self.attention_init, dtype)
        self.concept_attention = AttentionEnergies(width, self.attention_init, dtype)
        self.gate_hidden = Dense(width, kernel_init=_XAVIER, dtype=dtype)
        self.gate_output = Dense(1, kernel_init=_XAVIER, dtype=dtype)
        self.dropout = nn.Dropout(self.user_dropout)
        self.head = ScoreHead()
        self.mim_query = Dense(width, kernel_init=_XAVIER, dtype=dtype)
        self.mim_head = ScoreHead()

    def node_vectors(self, graphs: RecommenderGraphs) -> NodeVectors:
        """Computes vectors and energies of all output nodes, once per step or per checkpoint."""
        entities = self.rgcn(graphs.entities)
        energies = self.entity_attention(entities)
        if graphs.concepts is None:
            return NodeVectors(entities, energies, None, None)
        concepts = self.concept_encoder(graphs.concepts)
        return NodeVectors(entities, energies, concepts, self.concept_attention(concepts))

    def user_state(
        self, nodes: NodeVectors, contexts: Contexts, *, deterministic: bool = True
    ) -> UserState:
        """Computes p_u of eq. 3 for every context; an empty context gives zeros."""
        entity_mask = self._kept(contexts.entities, deterministic)
        n = attention_pool(
            nodes.entities,
            nodes.entity_energies,
            jnp.maximum(contexts.entities, 0),
            entity_mask,
        )
        if nodes.concepts is None or nodes.concept_energies is None:
            return UserState(self.dropout(n, deterministic=deterministic), None)
        concept_mask = self._kept(contexts.concepts, deterministic)
        v = attention_pool(
            nodes.concepts,
            nodes.concept_energies,
            jnp.maximum(contexts.concepts, 0),
            concept_mask,
        )
        opened = self.gate_output(self.gate_hidden(jnp.concatenate([v, n], axis=-1)))
        beta = nn.sigmoid(opened.astype(jnp.float32))
        user = beta * n + (1.0 - beta) * v
        return UserState(self.dropout(user, deterministic=deterministic), v)

    def scores(
        self, nodes: NodeVectors, user_vectors: Float[Array, "B D"], graphs: RecommenderGraphs
    ) -> Float[Array, "B S"]:
        """Logits over all scored nodes."""
        kernel, bias = self.head(nodes.entities[graphs.scored_nodes])
        return product(user_vectors, kernel, self.dtype) + bias[None, :]

    def item_head(
        self, nodes: NodeVectors, graphs: RecommenderGraphs
    ) -> tuple[Float[Array, "D M"], Float[Array, " M"]]:
        """(kernel, bias), such that user_vectors @ kernel + bias are the items' logits of eq. 4."""
        kernel, bias = self.head(nodes.entities[graphs.scored_nodes])
        return kernel[:, graphs.item_scores], bias[graphs.item_scores]

    def mim_scores(
        self, nodes: NodeVectors, concept_vectors: Float[Array, "B D"], graphs: RecommenderGraphs
    ) -> Float[Array, "B S"]:
        """Scores that predict a context's entities from its concepts: (W v + c)ᵀ n_e + b_e."""
        kernel, bias = self.mim_head(nodes.entities[graphs.scored_nodes])
        return product(self.mim_query(concept_vectors), kernel, self.dtype) + bias[None, :]

    def __call__(
        self, graphs: RecommenderGraphs, contexts: Contexts, *, deterministic: bool = True
    ) -> tuple[Float[Array, "B S"], Float[Array, "B S"] | None]:
        """(recommendation logits, MIM scores) of a batch: the forward pass of a training step.

        There are no MIM scores without concepts.
        """
        nodes = self.node_vectors(graphs)
        state = self.user_state(nodes, contexts, deterministic=deterministic)
        logits, concepts = self.scores(nodes, state.user_vectors, graphs), state.concept_vectors
        return logits, None if concepts is None else self.mim_scores(nodes, concepts, graphs)

    def _kept(self, ids: Int[Array | np.ndarray, "B L"], deterministic: bool) -> Bool[Array, "B L"]:
        mask = jnp.asarray(ids) >= 0
        if deterministic or self.context_dropout == 0.0:
            return mask
        rng = self.make_rng("dropout")
        return mask & jax.random.bernoulli(rng, 1.0 - self.context_dropout, ids.shape)


class ConceptEncoder(nn.Module):
    """Learned concept embeddings and one graph convolution over them (eq. 13)."""

    embed_dim: int
    relu: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, normalized_graph: NormalizedGraph) -> Float[Array, "C D"]:
        """Computes the vectors of the graph's output concepts."""
        num_local = normalized_graph.graph.nodes.shape[0]
        embedding = self.param(
            "embedding", nn.initializers.normal(0.05), (num_local, self.embed_dim)
        )
        return GCN(self.embed_dim, self.relu, self.dtype, name="gcn")(normalized_graph, embedding)


class ScoreHead(nn.Module):
    """A head with the node vectors as its kernel, and a learned bias per scored node."""

    @nn.compact
    def __call__(
        self, nodes: Float[Array, "S D"]
    ) -> tuple[Float[Array, "D S"], Float[Array, " S"]]:
        """(kernel, bias) of the affine map from user vectors to scores."""
        return nodes.T, self.param("bias", nn.initializers.zeros, (nodes.shape[0],))


def recommendation_loss(
    logits: Float[Array, "B S"], targets: Int[Array | np.ndarray, " B"]
) -> Float[Array, " B"]:
    """Cross-entropy of eq. 4, one value per context: -log softmax(logits)[target]."""
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, targets)


def mim_loss(
    scores: Float[Array, "B S"], members: Int[Array | np.ndarray, "B L"]
) -> Float[Array, " B"]:
    """KGSF's mutual information maximisation: Σ_e (ŷ_e - y_e)², y the multi-hot of the context.

    The squared error is on raw scores, as in KGSF's public code. It is expanded to
    Σ_e ŷ_e² + Σ_{e∈context} (1 - 2ŷ_e), so that no array of labels is built.

    Args:
      scores: ŷ, from `Recommender.mim_scores`.
      members: indices of the distinct scores of the context's entities; -1 is padding.

    Returns:
      One value per context, 0 where no scored entity is mentioned; the caller reduces.
    """
    mask = members >= 0
    named = jnp.take_along_axis(scores, jnp.maximum(members, 0), axis=1)
    squared = jnp.sum(scores**2, axis=1) + jnp.sum(jnp.where(mask, 1.0 - 2.0 * named, 0.0), axis=1)
    return jnp.where(mask.any(axis=1), squared, 0.0)
