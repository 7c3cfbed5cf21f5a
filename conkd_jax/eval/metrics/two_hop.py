"""2-hop relevance (Table 4): items near the mentioned ones in the knowledge graph count as gold.

A path of two edges of any relation joins two items through one of their people, genres or series.
The graph is an array of edges; items without a node have no neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from conkd_jax.eval.metrics.items_in_responses import Item, ItemResponse


def two_hop_response(
    gold: Sequence[Item],
    tops: Sequence[Sequence[Item]],
    mentioned: Collection[Item],
    neighbours: Mapping[Any, Collection[Item]],
) -> ItemResponse:
    """The same response with G_r ∪ N_2(mentioned items) in place of the gold items.

    An item step is one hit if its top k meets that set; hits are capped at |G_r|, and N_g and N_p
    are unchanged. The result therefore holds each step's best rank |G_r| times, as if it were the
    rank of |G_r| interchangeable gold items: `hits(k, "one_to_one")` then counts min(steps that
    hit, |G_r|). Without mentioned items this is the gold set alone.

    Args:
      gold: gold items of the response.
      tops: the top items at each item step.
      mentioned: items mentioned earlier in the dialogue.
      neighbours: N_2, such as `TwoHopItems`.

    >>> response = two_hop_response("A", ["CX"], mentioned="M", neighbours={"M": {"X"}})
    >>> response.hits(1), response.hits(2), response.num_gold
    (0, 1, 1)

    Source: the paper's Table 4, which doesn't define the denominators; these are our reading.
    """
    relevant = two_hop_items(gold, mentioned, neighbours)
    best = (
        next((float(rank) for rank, item in enumerate(top, 1) if item in relevant), math.inf)
        for top in tops
    )
    return ItemResponse(tuple((rank,) * len(gold) for rank in best), len(gold))


def two_hop_items(
    gold: Sequence[Item], mentioned: Collection[Item], neighbours: Mapping[Any, Collection[Item]]
) -> set[Item]:
    """G_r ∪ N_2(mentioned items): what counts as relevant; arguments as of `two_hop_response`.

    >>> sorted(two_hop_items("A", "M", {"M": {"X", "Y"}}))
    ['A', 'X', 'Y']
    """
    return set(gold).union(*(neighbours.get(item, ()) for item in mentioned))


class TwoHopItems(Mapping[int, frozenset[int]]):
    """N_2(i): the items within two edges of item i, in either direction, without i itself.

    A mapping from every item that has a node. The neighbours of an item are computed when they are
    first looked up and then kept; in ReDial's graph an item has about two hundred.

    >>> edges = np.array([[0, 9, 5], [1, 9, 5], [2, 9, 6]])  # items 0 and 1 share node 5
    >>> near = TwoHopItems(edges, {10: 0, 11: 1, 12: 2})
    >>> sorted(near[10]), sorted(near[12])
    ([11], [])

    Source: the paper's Table 4 counts "2-hop relevant items"; that an item is not its own neighbour
      is our reading.
    """

    def __init__(self, edges: Int[np.ndarray, "E 3"], node_of_item: Mapping[int, int]):
        """Sorts the edges by source, so that a node's neighbours are one slice.

        Args:
          edges: (source, relation, destination).
          node_of_item: the node of each item; several items may share one.
        """
        self._node_of_item = node_of_item
        self._items_of_node: dict[int, list[int]] = {}
        for item, node in node_of_item.items():
            self._items_of_node.setdefault(node, []).append(item)
        ends = edges[:, ::2]
        both = np.unique(np.concatenate([ends, ends[:, ::-1]]), axis=0)  # sorted by source
        both = both[both[:, 0] != both[:, 1]]
        self._destinations = both[:, 1]
        num_nodes = 1 + max(int(both.max(initial=0)), *node_of_item.values(), 0)
        self._starts = np.searchsorted(both[:, 0], np.arange(num_nodes + 1))
        self._found: dict[int, frozenset[int]] = {}

    def __getitem__(self, item: int) -> frozenset[int]:
        if item not in self._found:
            node = self._node_of_item[item]
            first = self._next(node)
            near = {node, *first.tolist()}  # with `node`: other items may share it
            for neighbour in first.tolist():
                near.update(self._next(neighbour).tolist())
            items = (other for n in near for other in self._items_of_node.get(n, ()))
            self._found[item] = frozenset(items) - {item}
        return self._found[item]

    def __iter__(self) -> Iterator[int]:
        return iter(self._node_of_item)

    def __len__(self) -> int:
        return len(self._node_of_item)

    def _next(self, node: int) -> np.ndarray:
        return self._destinations[self._starts[node] : self._starts[node + 1]]
