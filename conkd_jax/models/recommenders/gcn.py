"""A graph convolution over an undirected graph, such as ConceptNet.

It is separate from the recommender so that tests can compare it with public implementations. This
file must not depend on files, corpora or the recommender.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
import jraph
import numpy as np

from conkd_jax.models.layers import Dense
from conkd_jax.models.recommenders.graphs import check_ids, check_outputs, keep_in_edges
from conkd_jax.typing import Array, Float, Int


@flax.struct.dataclass
class NormalizedGraph:
    """The in-edges of some output nodes under D̃^{-1/2} Ã D̃^{-1/2}.

    Attributes:
      graph: `nodes` [n], node ids in the whole graph, outputs first; `edges` [E], entries of the
        normalised adjacency; `senders` and `receivers` [E], local indices, sorted by receiver.
      num_outputs: number of outputs, which are the first local nodes.
    """

    graph: jraph.GraphsTuple
    num_outputs: int = flax.struct.field(pytree_node=False)


def build_normalized_graph(
    edges: Int[np.ndarray, "E 2"],
    *,
    num_nodes: int,
    outputs: Int[np.ndarray, " O"] | None = None,
    senders: Int[np.ndarray, " n"] | None = None,
) -> NormalizedGraph:
    """Adds self loops and both directions, normalises, and prunes to the in-edges of the outputs.

    Ã = A + I, where A is symmetric with entries 0 and 1, and D̃ holds the degrees of Ã. Degrees are
    those of the whole graph.

    Args:
      edges: undirected; an edge may be given in one or both directions. Repetitions and self loops
        count once.
      num_nodes: number of nodes of the whole graph.
      outputs: distinct ids of the nodes to compute vectors for, in the order of the result; None
        for all nodes.
      senders: distinct ids of the nodes that send messages, which become the local nodes; None for
        all. Degrees count the edges from other nodes nevertheless.

    Returns:
      The pruned graph as NumPy arrays: a pytree, to be passed to jitted code as an argument.

    Raises:
      ValueError: an id is out of range or an output is repeated.
    """
    edges = np.asarray(edges, np.int64).reshape(-1, 2)
    check_ids(edges.ravel(), num_nodes, "edge ends")
    outputs = check_outputs(outputs, num_nodes)

    loops = np.repeat(np.arange(num_nodes)[:, None], 2, axis=1)
    edges = np.unique(np.concatenate([edges, edges[:, ::-1], loops]), axis=0)
    # Counted before pruning: a pruned edge still belongs to the degree of its source.
    inverse_root_degree = np.bincount(edges[:, 1], minlength=num_nodes) ** -0.5
    kept = keep_in_edges(edges, outputs, num_nodes)
    if senders is not None:
        kept, _ = kept.only_from(np.asarray(senders, np.int64), num_nodes)
    weights = inverse_root_degree[kept.edges[:, 0]] * inverse_root_degree[kept.edges[:, 1]]
    graph = kept.graphs_tuple(weights.astype(np.float32))
    return NormalizedGraph(graph=graph, num_outputs=len(outputs))


class GCN(nn.Module):
    """One graph convolution (eq. 13): H = D̃^{-1/2} Ã D̃^{-1/2} X W + b, optionally with a ReLU.

    Eq. 13 has the ReLU; KGSF's public code, which the default follows, has none.

    Attributes:
      embed_dim: D, the size of a node vector.
      relu: whether to apply the ReLU of eq. 13.
      dtype: the type of the product with W; the sums over edges are float32, and so is the result.

    Source: Kipf and Welling 2017, eq. 2; the concept side of KGSF.
    """

    embed_dim: int
    relu: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, normalized_graph: NormalizedGraph, features: Float[Array, "N F"]
    ) -> Float[Array, "O D"]:
        """Computes the outputs' vectors from `features`, which has one row per local node."""
        graph = normalized_graph.graph
        messages = features[graph.senders] * graph.edges[:, None]  # [E, F]
        received = jraph.segment_sum(
            messages,
            graph.receivers,
            num_segments=normalized_graph.num_outputs,
            indices_are_sorted=True,
        )
        hidden = Dense(self.embed_dim, dtype=self.dtype, name="dense")(received)
        hidden = hidden.astype(jnp.float32)
        return jnp.maximum(hidden, 0.0) if self.relu else hidden
