"""Which items are near which in the knowledge graph: the neighbours behind Table 4.

A path of two edges of any relation joins two films by one of their people, genres or series. Knows
a graph as an array of edges, and no file; items without a node have no neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Int


class TwoHopItems(Mapping[int, frozenset[int]]):
    """N_2(i): the items at one or two edges from item i, edges in both directions, i left out.

    A mapping from every item that has a node. The neighbours of an item are found when they are
    first asked for and kept; of ReDial's graph that is about two hundred items each.

    >>> edges = np.array([[0, 9, 5], [1, 9, 5], [2, 9, 6]])  # films 0 and 1 share node 5
    >>> near = TwoHopItems(edges, {10: 0, 11: 1, 12: 2})
    >>> sorted(near[10]), sorted(near[12])
    ([11], [])

    Source: the paper's Table 4 counts "2-hop relevant items"; that an item isn't its own neighbour
      is our reading.
    """

    def __init__(self, edges: Int[np.ndarray, "E 3"], node_of_item: Mapping[int, int]):
        """Args:
        edges: (source, relation, destination).
        node_of_item: the node of each item; several items may share one.
        """
        self._node_of_item = node_of_item
        self._items_of_node: dict[int, list[int]] = {}
        for item, node in node_of_item.items():
            self._items_of_node.setdefault(node, []).append(item)
        ends = edges[:, ::2]
        both = np.unique(np.concatenate([ends, ends[:, ::-1]]), axis=0)
        both = both[both[:, 0] != both[:, 1]]
        self._destinations = both[:, 1]
        num_nodes = 1 + max(int(both.max(initial=0)), *node_of_item.values(), 0)
        self._starts = np.searchsorted(both[:, 0], np.arange(num_nodes + 1))
        self._found: dict[int, frozenset[int]] = {}

    def __getitem__(self, item: int) -> frozenset[int]:
        if item not in self._found:
            node = self._node_of_item[item]
            first = self._next(node)
            near = {node, *first.tolist()}  # items that share this one's node are near too
            for one in first.tolist():
                near.update(self._next(one).tolist())
            items = (other for n in near for other in self._items_of_node.get(n, ()))
            self._found[item] = frozenset(items) - {item}
        return self._found[item]

    def __iter__(self) -> Iterator[int]:
        return iter(self._node_of_item)

    def __len__(self) -> int:
        return len(self._node_of_item)

    def _next(self, node: int) -> np.ndarray:
        return self._destinations[self._starts[node] : self._starts[node + 1]]
