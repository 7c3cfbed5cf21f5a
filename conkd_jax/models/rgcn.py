"""A relational graph convolution over one-hot nodes, for a graph of which few nodes are read.

A recommender reads the vectors of movies and of the entities that people mention. The layer works
on a pruned graph: those output nodes, the sources of their in-edges, and nothing else. Every
in-edge of an output is kept, so the normaliser Z_{e,r} and the output are the whole graph's.

It knows no file, no corpus and no recommender.
"""

from __future__ import annotations

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Float, Int

NORMS = ("mean", "sum")


@flax.struct.dataclass
class RelationalGraph:
    """Messages into some output nodes of a multi-relational graph, as `RGCN` reads them.

    Local node indices put the outputs first, in the caller's order, then the sources that are not
    outputs. A *pair* is a distinct (relation, source): its message W_u is the same along every edge
    that carries it, so it is computed once.

    Axes in front (*devices) are those of devices that the graph is replicated over.

    Attributes:
      graph: `nodes` [n] the node ids in the whole graph; `edges` {"pair": [E] index of the edge's
        pair, "inverse_normalizer": [E] 1/Z_{e,r}}; `senders`, `receivers` [E] local indices. Edges
        are sorted by receiver.
      pair_senders: [U] local index of the pair's source, ascending.
      pair_relations: [U] relation of the pair.
      num_outputs: how many leading local nodes are outputs.
      num_relations: how many relations the whole graph has.
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
    norm: str = "mean",
) -> RelationalGraph:
    """Prunes a graph to the in-edges of its output nodes and prepares it for `RGCN`.

    Args:
      edges: rows (source, relation, destination); a repeated row is a repeated message.
      num_nodes: how many nodes the whole graph has.
      num_relations: how many relations it has.
      outputs: distinct node ids whose vectors are wanted, in the order wanted; None = all nodes.
      norm: "mean" divides by the number of r-neighbours of the destination, Z_{e,r} = |E_e^r| of
        the whole graph; "sum" divides by nothing.

    Returns:
      The pruned graph, as NumPy arrays: a pytree to be passed to jitted code as an argument.

    Raises:
      ValueError: if `norm` is not known, an id is out of range, or an output is repeated.
    """
    if norm not in NORMS:
        raise ValueError(f"R-GCN norm: expected one of {', '.join(NORMS)}, got {norm!r}")
    edges = np.asarray(edges, np.int64).reshape(-1, 3)
    outputs = np.arange(num_nodes) if outputs is None else np.asarray(outputs, np.int64)
    bounds = np.array([num_nodes, num_relations, num_nodes])
    _require_below(edges, bounds, "edges (source, relation, destination)")
    _require_below(outputs, num_nodes, "output nodes")
    if len(np.unique(outputs)) != len(outputs):
        raise ValueError("R-GCN output nodes: expected distinct ids, got repeated ones")

    is_output = np.zeros(num_nodes, bool)
    is_output[outputs] = True
    edges = edges[is_output[edges[:, 2]]]  # all in-edges of a kept node: Z is the whole graph's
    sources = np.unique(edges[:, 0])
    nodes = np.concatenate([outputs, sources[~is_output[sources]]])
    local = np.full(num_nodes, -1)
    local[nodes] = np.arange(len(nodes))

    edges = edges[np.argsort(local[edges[:, 2]], kind="stable")]
    senders, relations, receivers = local[edges[:, 0]], edges[:, 1], local[edges[:, 2]]
    _, group, group_size = np.unique(
        receivers * num_relations + relations, return_inverse=True, return_counts=True
    )
    normalizer = group_size[group] if norm == "mean" else np.ones(len(edges))
    pairs, pair = np.unique(senders * num_relations + relations, return_inverse=True)
    graph = jraph.GraphsTuple(
        nodes=nodes.astype(np.int32),
        edges={
            "pair": pair.astype(np.int32),
            "inverse_normalizer": (1.0 / normalizer).astype(np.float32),
        },
        senders=senders.astype(np.int32),
        receivers=receivers.astype(np.int32),
        n_node=np.array([len(nodes)], np.int32),
        n_edge=np.array([len(edges)], np.int32),
        globals=None,
    )
    return RelationalGraph(
        graph=graph,
        pair_senders=(pairs // num_relations).astype(np.int32),
        pair_relations=(pairs % num_relations).astype(np.int32),
        num_outputs=len(outputs),
        num_relations=num_relations,
    )


class RGCN(nn.Module):
    r"""One R-GCN layer on one-hot nodes with basis decomposition and no activation (eq. 2).

    h_e = root_e + bias + Σ_r Σ_{e'∈E_e^r} (1/Z_{e,r}) Σ_b a_{r,b} V_{e',b}

    With one-hot inputs, W_r h_{e'} is a row of W_r = Σ_b a_{r,b} V_b and W h_e is a row of the root
    matrix. The message of a (relation, source) pair is formed once and sent along its edges in one
    segment sum; no [relations, nodes, dim] tensor exists.

    Parameters: `basis` [n, bases, D] over the local nodes, `coefficients` [relations, bases],
    `root` [O, D], `bias` [D].

    Source: Schlichtkrull et al. 2018, eqs. 2-3; the recommender of KGSF.

    Attributes:
      embed_dim: D, the size of a node vector.
      num_bases: the number of bases b.
      init_scale: standard deviation of the initial messages and roots.
    """

    embed_dim: int
    num_bases: int = 8
    init_scale: float = 0.05

    @nn.compact
    def __call__(self, relational_graph: RelationalGraph) -> Float[Array, "O D"]:
        """Vectors of the output nodes, in the order in which the graph was built for them."""
        graph = relational_graph.graph
        num_local, num_outputs = graph.nodes.shape[0], relational_graph.num_outputs
        normal = nn.initializers.normal
        basis = self.param(
            "basis", normal(self.init_scale), (num_local, self.num_bases, self.embed_dim)
        )
        coefficients = self.param(
            "coefficients",
            normal(self.num_bases**-0.5),
            (relational_graph.num_relations, self.num_bases),
        )
        root = self.param("root", normal(self.init_scale), (num_outputs, self.embed_dim))
        bias = self.param("bias", nn.initializers.zeros, (self.embed_dim,))

        source_basis = jnp.take(
            basis, relational_graph.pair_senders, axis=0, indices_are_sorted=True
        )  # [U, bases, D]
        weights = coefficients[relational_graph.pair_relations]  # [U, bases]
        pair_messages = jnp.einsum("ub,ubd->ud", weights, source_basis)
        messages = (
            pair_messages[graph.edges["pair"]] * graph.edges["inverse_normalizer"][:, None]
        )  # [E, D]
        received = jraph.segment_sum(
            messages, graph.receivers, num_segments=num_outputs, indices_are_sorted=True
        )
        return received + root + bias[None, :]


def _require_below(ids: np.ndarray, bound: int | np.ndarray, what: str) -> None:
    if ids.size and (ids.min() < 0 or np.any(ids >= bound)):
        raise ValueError(
            f"graph: expected {what} from 0 to below {bound}, got {ids.min(0)} to {ids.max(0)}"
        )
