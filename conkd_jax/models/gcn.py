"""A graph convolution over an undirected graph (ConceptNet), on jraph.

It exists apart from the recommender so that it can be held to public implementations. It knows no
file, no corpus and no recommender.
"""

from __future__ import annotations

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Float, Int


@flax.struct.dataclass
class NormalizedGraph:
    """The in-edges of some output nodes under D̃^{-1/2} Ã D̃^{-1/2}.

    Attributes:
      graph: `nodes` [n] the node ids in the whole graph, outputs first; `edges` [E] the entries of
        the normalised adjacency; `senders`, `receivers` [E] local indices, sorted by receiver.
      num_outputs: how many leading local nodes are outputs.
    """

    graph: jraph.GraphsTuple
    num_outputs: int = flax.struct.field(pytree_node=False)


def build_normalized_graph(
    edges: Int[np.ndarray, "E 2"], *, num_nodes: int, outputs: Int[np.ndarray, " O"] | None = None
) -> NormalizedGraph:
    """Adds self loops and both directions, normalises, and keeps the in-edges of the output nodes.

    Ã = A + I with A symmetric and 0/1, D̃ its degrees; degrees are those of the whole graph.

    Args:
      edges: undirected, each named once or twice; self loops and repetitions count once.
      num_nodes: how many nodes the whole graph has.
      outputs: distinct node ids whose vectors are wanted, in the order wanted; None = all nodes.

    Returns:
      The pruned graph, as NumPy arrays: a pytree to be passed to jitted code as an argument.

    Raises:
      ValueError: if an id is out of range or an output is repeated.
    """
    edges = np.asarray(edges, np.int64).reshape(-1, 2)
    outputs = np.arange(num_nodes) if outputs is None else np.asarray(outputs, np.int64)
    for ids, what in ((edges, "edge ends"), (outputs, "output nodes")):
        if ids.size and (ids.min() < 0 or ids.max() >= num_nodes):
            raise ValueError(
                f"graph: expected {what} from 0 to below {num_nodes}, "
                f"got {ids.min()} to {ids.max()}"
            )
    if len(np.unique(outputs)) != len(outputs):
        raise ValueError("GCN output nodes: expected distinct ids, got repeated ones")

    loops = np.repeat(np.arange(num_nodes)[:, None], 2, axis=1)
    edges = np.unique(np.concatenate([edges, edges[:, ::-1], loops]), axis=0)
    inverse_root_degree = np.bincount(edges[:, 1], minlength=num_nodes) ** -0.5

    is_output = np.zeros(num_nodes, bool)
    is_output[outputs] = True
    edges = edges[is_output[edges[:, 1]]]
    sources = np.unique(edges[:, 0])
    nodes = np.concatenate([outputs, sources[~is_output[sources]]])
    local = np.full(num_nodes, -1)
    local[nodes] = np.arange(len(nodes))
    edges = edges[np.argsort(local[edges[:, 1]], kind="stable")]
    weights = inverse_root_degree[edges[:, 0]] * inverse_root_degree[edges[:, 1]]
    graph = jraph.GraphsTuple(
        nodes=nodes.astype(np.int32),
        edges=weights.astype(np.float32),
        senders=local[edges[:, 0]].astype(np.int32),
        receivers=local[edges[:, 1]].astype(np.int32),
        n_node=np.array([len(nodes)], np.int32),
        n_edge=np.array([len(edges)], np.int32),
        globals=None,
    )
    return NormalizedGraph(graph=graph, num_outputs=len(outputs))


class GCN(nn.Module):
    r"""One graph convolution (eq. 13): H = D̃^{-1/2} Ã D̃^{-1/2} X W + b, then ReLU where asked.

    Eq. 13 prints a ReLU; KGSF's public code has none, the default here too: `relu` chooses.

    Source: Kipf and Welling 2017, eq. 2; the concept side of KGSF.

    Attributes:
      embed_dim: D, the size of a node vector.
      relu: whether eq. 13's ReLU is applied.
    """

    embed_dim: int
    relu: bool = False

    @nn.compact
    def __call__(
        self, normalized_graph: NormalizedGraph, features: Float[Array, "N F"]
    ) -> Float[Array, "O D"]:
        """Vectors of the output nodes from `features`, one row per local node of the graph."""
        graph = normalized_graph.graph
        messages = features[graph.senders] * graph.edges[:, None]  # [E, F]
        received = jraph.segment_sum(
            messages,
            graph.receivers,
            num_segments=normalized_graph.num_outputs,
            indices_are_sorted=True,
        )
        hidden = nn.Dense(self.embed_dim, name="dense")(received)
        return jnp.maximum(hidden, 0.0) if self.relu else hidden
