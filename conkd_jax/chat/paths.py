"""Short paths in the knowledge graph of a corpus."""

from __future__ import annotations

import collections
from collections.abc import Iterable

import numpy as np

from conkd_jax.data.corpus import Corpus

Path = tuple[str, ...]


class Paths:
    """The paths of up to two edges between the nodes of a corpus' graph."""

    def __init__(self, corpus: Corpus):
        self._corpus = corpus
        ends = corpus.graph.edges[:, ::2]
        both = np.unique(np.concatenate([ends, ends[:, ::-1]]), axis=0)
        both = both[both[:, 0] != both[:, 1]]
        self._next = both[:, 1]
        self._starts = np.searchsorted(both[:, 0], np.arange(corpus.graph.num_entities + 1))

    def between(self, nodes: Iterable[int], item: int, limit: int) -> tuple[Path, ...]:
        """The paths of up to two edges from some nodes to an item, as names.

        Direct edges come first, then those through the nodes with the fewest neighbours, which say
        the most: two books share an author rather than a language.
        """
        goal = int(self._corpus.items.entity_ids[item])
        near, found = set(self._of(goal)), []
        for node in nodes:
            if node == goal:
                continue
            if node in near:
                found.append((0, (node, goal)))
            for middle in near.intersection(self._of(node)) - {node, goal}:
                found.append((len(self._of(middle)), (node, middle, goal)))
        names = collections.OrderedDict(
            (tuple(map(self._name, path)), None) for _, path in sorted(found)
        )
        return tuple(names)[:limit]

    def _of(self, node: int) -> list[int]:
        return self._next[self._starts[node] : self._starts[node + 1]].tolist()

    def _name(self, node: int) -> str:
        name = self._corpus.entity_names[node]
        return name.rstrip("/").rsplit("/", 1)[-1] or f"node {node}"
