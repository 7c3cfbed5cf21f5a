"""Pruning a graph to the edges that its output nodes receive, shared by both graph networks.

The vector of an output node after one layer depends on the node's in-edges and on nothing else, so
a layer that keeps all in-edges of its outputs computes exactly what it would on the whole graph.

The order of nodes and edges is part of the contract: trained parameters are stored by local index.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jraph
import numpy as np

from conkd_jax.typing import Bool, Int


class InEdges(NamedTuple):
    """The in-edges of some output nodes.

    A local index counts the kept nodes: first the outputs, in the caller's order, then the sources
    that are not outputs, by ascending id.

    Attributes:
      nodes: ids in the whole graph, by local index.
      edges: the kept rows, sorted by the receiver's local index; rows of one receiver keep the
        order in which they were given.
      senders: local index of every row's source.
      receivers: local index of every row's destination, an output.
    """

    nodes: Int[np.ndarray, " n"]
    edges: Int[np.ndarray, "E columns"]
    senders: Int[np.ndarray, " E"]
    receivers: Int[np.ndarray, " E"]

    def only(self, edges: Int[np.ndarray, " S"] | Bool[np.ndarray, " E"]) -> InEdges:
        """Keeps some of the edges, given by position or by a mask, and all nodes."""
        return InEdges(self.nodes, self.edges[edges], self.senders[edges], self.receivers[edges])

    def only_from(
        self, nodes: Int[np.ndarray, " n"], num_nodes: int
    ) -> tuple[InEdges, Bool[np.ndarray, " E"]]:
        """Drops the edges from nodes other than the given ones.

        Args:
          nodes: distinct ids, which become the local index of the senders. Receivers stay positions
            among the outputs.
          num_nodes: number of nodes of the whole graph.

        Returns:
          The edges that are left, and which of the edges they are.
        """
        local = np.full(num_nodes, -1)
        local[nodes] = np.arange(len(nodes))
        senders = local[self.edges[:, 0]]
        left = senders >= 0
        return self._replace(nodes=nodes, senders=senders).only(left), left

    def graphs_tuple(self, edge_features: Any) -> jraph.GraphsTuple:
        """The pruned graph in jraph's form, with these features of its edges."""
        return jraph.GraphsTuple(
            nodes=self.nodes.astype(np.int32),
            edges=edge_features,
            senders=self.senders.astype(np.int32),
            receivers=self.receivers.astype(np.int32),
            n_node=np.array([len(self.nodes)], np.int32),
            n_edge=np.array([len(self.edges)], np.int32),
            globals=None,
        )


def keep_in_edges(
    edges: Int[np.ndarray, "E columns"], outputs: Int[np.ndarray, " O"], num_nodes: int
) -> InEdges:
    """Prunes a graph to the in-edges of its output nodes.

    Args:
      edges: rows (source, …, destination).
      outputs: as `check_outputs` returns them.
      num_nodes: number of nodes of the whole graph.
    """
    is_output = np.zeros(num_nodes, bool)
    is_output[outputs] = True
    edges = edges[is_output[edges[:, -1]]]
    sources = np.unique(edges[:, 0])
    nodes = np.concatenate([outputs, sources[~is_output[sources]]])
    local = np.full(num_nodes, -1)
    local[nodes] = np.arange(len(nodes))
    edges = edges[np.argsort(local[edges[:, -1]], kind="stable")]
    return InEdges(nodes, edges, local[edges[:, 0]], local[edges[:, -1]])


def check_outputs(outputs: Int[np.ndarray, " O"] | None, num_nodes: int) -> Int[np.ndarray, " O"]:
    """The output nodes as int64; all nodes for None.

    Raises:
      ValueError: an id is out of range or repeated.
    """
    outputs = np.arange(num_nodes) if outputs is None else np.asarray(outputs, np.int64)
    check_ids(outputs, num_nodes, "output nodes")
    if len(np.unique(outputs)) != len(outputs):
        raise ValueError("graph: expected distinct output nodes, got repeated ones")
    return outputs


def check_ids(
    ids: Int[np.ndarray, "*shape"], bound: int | Int[np.ndarray, " columns"], what: str
) -> None:
    """Refuses ids that are negative or reach their bound.

    Args:
      ids: one column, or several columns with a bound each.
      bound: the smallest number that is too large.
      what: what the ids are of, for the message.

    Raises:
      ValueError: an id is out of range.
    """
    if ids.size and (ids.min() < 0 or np.any(ids >= bound)):
        raise ValueError(
            f"graph: expected {what} from 0 to below {bound}, got {ids.min(0)} to {ids.max(0)}"
        )
