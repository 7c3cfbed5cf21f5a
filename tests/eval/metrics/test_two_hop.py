"""Two hops in a graph, against a search that is slow and plain."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.eval.metrics.two_hop import TwoHopItems

NODES = 8
graphs = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 2), st.integers(0, 7)), max_size=14)
nodes_of_items = st.lists(st.integers(0, NODES - 1), min_size=1, max_size=6)


@settings(deadline=None)
@given(graphs, nodes_of_items)
def test_neighbours_are_those_that_a_search_finds(edges, nodes):
    array = np.array(edges, np.int32).reshape(-1, 3)
    near = TwoHopItems(array, dict(enumerate(nodes, start=100)))
    adjacent = np.eye(NODES, dtype=int)
    for source, _, destination in edges:
        adjacent[source, destination] = adjacent[destination, source] = 1
    within_two = adjacent @ adjacent
    for (i, a), (j, b) in itertools.product(enumerate(nodes), repeat=2):
        assert (100 + j in near[100 + i]) == (i != j and within_two[a, b] > 0)
    assert len(near) == len(nodes) and set(near) == set(range(100, 100 + len(nodes)))


def test_an_item_that_the_graph_lacks_has_no_neighbours():
    near = TwoHopItems(np.array([[0, 0, 1]]), {5: 0, 6: 1})
    assert near.get(7, ()) == ()
    assert near[5] == {6}
