"""Pruning to in-edges: what is kept, and in which order, since trained parameters depend on it."""

import numpy as np
import pytest

from conkd_jax.models.recommenders.graphs import check_ids, check_outputs, keep_in_edges

EDGES = np.array([[5, 0], [1, 3], [4, 3], [3, 0], [2, 5], [1, 3], [0, 0]])  # (source, destination)


def test_in_edges_of_the_outputs_are_kept_in_the_order_of_the_contract():
    kept = keep_in_edges(EDGES, np.array([3, 0]), num_nodes=6)
    np.testing.assert_array_equal(kept.nodes, [3, 0, 1, 4, 5])  # outputs, then sources by id
    np.testing.assert_array_equal(kept.edges, [[1, 3], [4, 3], [1, 3], [5, 0], [3, 0], [0, 0]])
    np.testing.assert_array_equal(kept.senders, [2, 3, 2, 4, 0, 1])
    np.testing.assert_array_equal(kept.receivers, [0, 0, 0, 1, 1, 1])


def test_columns_between_source_and_destination_are_carried_along():
    edges = np.insert(EDGES, 1, np.arange(len(EDGES)), axis=1)
    kept = keep_in_edges(edges, np.array([3, 0]), num_nodes=6)
    np.testing.assert_array_equal(kept.edges[:, 1], [1, 2, 5, 0, 3, 6])
    graph = kept.graphs_tuple(kept.edges[:, 1])
    assert (graph.n_node.item(), graph.n_edge.item()) == (5, 6)
    assert {array.dtype for array in (graph.nodes, graph.senders, graph.receivers)} == {
        np.dtype(np.int32)
    }


def test_outputs_without_in_edges_stay():
    kept = keep_in_edges(EDGES, np.array([1, 2]), num_nodes=6)
    np.testing.assert_array_equal(kept.nodes, [1, 2])
    assert kept.edges.shape == (0, 2)


def test_all_nodes_are_the_default_outputs():
    np.testing.assert_array_equal(check_outputs(None, 4), [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("outputs", "message"), [([1, 1], "distinct output nodes"), ([4], "from 0 to below 4, got 4")]
)
def test_bad_outputs_are_refused(outputs, message):
    with pytest.raises(ValueError, match=message):
        check_outputs(np.array(outputs), 4)


@pytest.mark.parametrize("row", [[0, 3], [2, 0], [-1, 0]])
def test_each_column_has_its_bound(row):
    check_ids(np.array([[1, 2]]), np.array([2, 3]), "rows")
    with pytest.raises(ValueError, match="expected rows from 0 to below"):
        check_ids(np.array([row]), np.array([2, 3]), "rows")
