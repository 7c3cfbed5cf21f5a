"""A relational graph convolution over one-hot nodes, for a graph of which only few nodes are read.

The recommender reads the vectors of items and of the entities that people mention. The layer
therefore works on a graph pruned to these output nodes and the sources of their in-edges. Every
in-edge of an output is kept, so the normaliser Z_{e,r} and the output equal those of the whole
graph. Where that is too much for a device, `max_neighbors` keeps a sample of them.

This file must not depend on files, corpora or the recommender.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import jraph
import numpy as np

from conkd_jax.models.recommenders.graphs import InEdges, check_ids, check_outputs, keep_in_edges
from conkd_jax.typing import Array, Float, Int

NORMS = ("mean", "sum")
INIT_STDDEV = 0.05  # of the initial bases and roots
SAMPLE_SEED = 0  # of the neighbours that are kept with `max_neighbors`
CHUNK_SIZE = 16_384  # pairs whose basis rows are in memory at a time


@flax.struct.dataclass
class RelationalGraph:
    """Messages into some output nodes of a multi-relational graph, as `RGCN` reads them.

    Local node indices start with the outputs, in the caller's order; the sources that are not
    outputs follow. A *pair* is a distinct (relation, source). Its message is the same along every
    edge that carries it, so it is computed once per pair instead of once per edge.

    Leading axes (*devices) are those of a graph that is replicated over devices.

    Attributes:
      graph: `nodes` [n], node ids in the whole graph; `edges`, {"pair": [E] index of the edge's
        pair, "inverse_normalizer": [E] 1/Z_{e,r}}; `senders` and `receivers` [E], local indices.
        Edges are sorted by receiver.
      pair_senders: [U] local index of the pair's source, ascending.
      pair_relations: [U] relation of the pair.
      num_outputs: number of outputs, which are the first local nodes.
      num_relations: number of relations of the whole graph.
    """

    graph: jraph.GraphsTuple
    pair_senders: Int[Array | np.ndarray, "*devices U"]
    pair_relations: Int[Array | np.ndarray, "*devices U"]
    num_outputs: int = flax.struct.field(pytree_node=False)
    num_relations: int = flax.struct.field(pytree_node=False)


def build_relational_graph(
    edges: Int[np.ndarray, "E 3"],
    *,
    num_nodes: int,
    num_relations: int,
    outputs: Int[np.ndarray, " O"] | None = None,
    senders: Int[np.ndarray, " n"] | None = None,
    norm: str = "mean",
    max_neighbors: int = 0,
) -> RelationalGraph:
    """Prunes a graph to the in-edges of its output nodes and prepares it for `RGCN`.

    Args:
      edges: rows (source, relation, destination); a repeated row is a repeated message.
      num_nodes: number of nodes of the whole graph.
      num_relations: number of its relations.
      outputs: distinct ids of the nodes to compute vectors for, in the order of the result; None
        for all nodes.
      senders: distinct ids of the nodes that send messages, which become the local nodes; None for
        all. Normalisers count the edges from other nodes nevertheless.
      norm: "mean" divides by the number of the destination's r-neighbours, Z_{e,r} = |E_e^r|; "sum"
        does not divide.
      max_neighbors: K > 0 keeps at most K in-edges of each destination and relation, drawn without
        replacement, the same ones for the same graph. What is left of L edges is multiplied by
        L / K, so that the expected output is that of all edges. 0 keeps all of them.

    Returns:
      The pruned graph as NumPy arrays: a pytree, to be passed to jitted code as an argument.

    Raises:
      ValueError: `norm` is unknown, an id is out of range, or an output is repeated.
    """
    if norm not in NORMS:
        raise ValueError(f"R-GCN norm: expected one of {', '.join(NORMS)}, got {norm!r}")
    edges = np.asarray(edges, np.int64).reshape(-1, 3)
    bounds = np.array([num_nodes, num_relations, num_nodes])
    check_ids(edges, bounds, "edges (source, relation, destination)")
    outputs = check_outputs(outputs, num_nodes)
    kept, weight = _weighted_in_edges(
        edges, num_nodes, num_relations, outputs, senders, norm, max_neighbors
    )
    # One number per (source, relation). `unique` sorts by it, hence by source, so that the layer
    # gathers basis rows in ascending order.
    pairs, pair = np.unique(kept.senders * num_relations + kept.edges[:, 1], return_inverse=True)
    graph = kept.graphs_tuple(
        {
            "pair": pair.astype(np.int32),
            "inverse_normalizer": weight.astype(np.float32),
        }
    )
    return RelationalGraph(
        graph=graph,
        pair_senders=(pairs // num_relations).astype(np.int32),
        pair_relations=(pairs % num_relations).astype(np.int32),
        num_outputs=len(outputs),
        num_relations=num_relations,
    )


def _weighted_in_edges(
    edges: Int[np.ndarray, "E 3"],
    num_nodes: int,
    num_relations: int,
    outputs: Int[np.ndarray, " O"],
    senders: Int[np.ndarray, " n"] | None,
    norm: str,
    max_neighbors: int,
) -> tuple[InEdges, Float[np.ndarray, " K"]]:
    """The in-edges that are kept, and the factor of each edge's message: 1/Z_{e,r} unless sampled.

    The arguments are those of `build_relational_graph`, once they are checked.
    """
    kept = keep_in_edges(edges, outputs, num_nodes)
    relations = kept.edges[:, 1]
    # Every in-edge of a receiver was kept, so counting them after pruning gives |E_e^r|.
    _, group, group_size = np.unique(
        kept.receivers * num_relations + relations, return_inverse=True, return_counts=True
    )
    normalizer = group_size[group] if norm == "mean" else np.ones(len(kept.edges))
    if senders is not None:
        kept, left = kept.only_from(np.asarray(senders, np.int64), num_nodes)
        normalizer, group = normalizer[left], group[left]
    weight = 1.0 / normalizer
    if max_neighbors:
        sample = _sample(group, max_neighbors)
        weight = weight[sample.edges] * sample.scale
        kept = kept.only(sample.edges)
        if senders is None:  # sources of which no edge is left have no parameters
            kept = keep_in_edges(kept.edges, outputs, num_nodes)
    return kept, weight


class _Sample(NamedTuple):
    """Edges that were drawn from each group.

    Attributes:
      edges: their positions, ascending.
      scale: the size of the edge's group over the number that was drawn from it.
    """

    edges: Int[np.ndarray, " S"]
    scale: Float[np.ndarray, " S"]


def _sample(group: Int[np.ndarray, " E"], most: int) -> _Sample:
    """Draws up to `most` edges of every group, which depends on the groups alone."""
    shuffled = np.lexsort((np.random.default_rng(SAMPLE_SEED).random(len(group)), group))
    _, starts, sizes = np.unique(group[shuffled], return_index=True, return_counts=True)
    place = np.arange(len(group)) - np.repeat(starts, sizes)  # within the group
    scale = np.repeat(sizes / np.minimum(sizes, most), sizes)
    edges = shuffled[place < most]
    order = np.argsort(edges)
    return _Sample(edges[order], scale[place < most][order])


class RGCN(nn.Module):
    """One R-GCN layer on one-hot nodes with basis decomposition and no activation (eq. 2).

    h_e = root_e + bias + Σ_r Σ_{e'∈E_e^r} (1/Z_{e,r}) Σ_b a_{r,b} V_{e',b}

    With one-hot inputs, W_r h_{e'} is a row of W_r = Σ_b a_{r,b} V_b, and W h_e is a row of the
    root matrix. The message of a (relation, source) pair is computed once, and one segment sum
    sends it along all edges. A tensor of shape [relations, nodes, D] never exists.

    Parameters: `basis` [n, bases, D] over the local nodes, `coefficients` [relations, bases],
    `root` [O, D], `bias` [D].

    Attributes:
      embed_dim: D, the size of a node vector.
      num_bases: number of bases b.
      dtype: the type of the products over bases; the sums over edges are float32.

    Source: Schlichtkrull et al. 2018, eqs. 2-3; the recommender of KGSF.
    """

    embed_dim: int
    num_bases: int = 8
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, relational_graph: RelationalGraph) -> Float[Array, "O D"]:
        """Computes the vectors of the output nodes, in the order given to the graph's builder."""
        graph = relational_graph.graph
        num_local, num_outputs = graph.nodes.shape[0], relational_graph.num_outputs
        normal = nn.initializers.normal
        # Local nodes only: basis rows of other nodes would never get a gradient.
        basis = self.param(
            "basis", normal(INIT_STDDEV), (num_local, self.num_bases, self.embed_dim)
        )
        coefficients = self.param(
            "coefficients",
            normal(self.num_bases**-0.5),
            (relational_graph.num_relations, self.num_bases),
        )
        root = self.param("root", normal(INIT_STDDEV), (num_outputs, self.embed_dim))
        bias = self.param("bias", nn.initializers.zeros, (self.embed_dim,))

        pair_messages = self._pair_messages(
            basis,
            relational_graph.pair_senders,
            coefficients[relational_graph.pair_relations],
        )
        messages = (
            pair_messages[graph.edges["pair"]] * graph.edges["inverse_normalizer"][:, None]
        )  # [E, D]
        received = jraph.segment_sum(
            messages, graph.receivers, num_segments=num_outputs, indices_are_sorted=True
        )
        return received + root + bias[None, :]

    def _pair_messages(
        self,
        basis: Float[Array, "n b D"],
        senders: Int[Array | np.ndarray, " U"],
        weights: Float[Array, "U b"],
    ) -> Float[Array, "U D"]:
        """Σ_b a_{r,b} V_{e',b} of each pair, a chunk of pairs at a time.

        The basis rows of all pairs are larger than the basis table itself. They are gathered again
        in the backward pass, chunk by chunk, and never exist at once.
        """
        num_pairs, num_chunks = len(senders), max(1, -(-len(senders) // CHUNK_SIZE))
        size = -(-num_pairs // num_chunks)
        padding = num_chunks * size - num_pairs
        # The last node, with zero weights, keeps the senders in ascending order.
        senders = jnp.pad(senders, (0, padding), constant_values=basis.shape[0] - 1)
        weights = jnp.pad(weights, ((0, padding), (0, 0)))

        @jax.checkpoint
        def messages_of(chunk):
            senders, weights = chunk
            rows = jnp.take(basis, senders, axis=0, indices_are_sorted=True)  # [C, b, D]
            # Cast after the gathers, whose gradients sum over the pairs of a node or a relation.
            summed = jnp.einsum("ub,ubd->ud", weights.astype(self.dtype), rows.astype(self.dtype))
            return summed.astype(jnp.float32)

        # No -1: without any edge, size is 0.
        weights = weights.reshape(num_chunks, size, self.num_bases)
        chunks = senders.reshape(num_chunks, size), weights
        return jax.lax.map(messages_of, chunks).reshape(-1, self.embed_dim)[:num_pairs]
