"""What the metrics need besides predictions: cut-offs, and facts about the corpus.

One answer for every run that is scored, whether by its own evaluation or from a file.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from conkd_jax.data.corpus import Corpus
from conkd_jax.eval.metrics.two_hop import TwoHopItems
from conkd_jax.eval.predictions import TOP_ITEMS

KS = (1, 10, 50)


@dataclasses.dataclass(frozen=True)
class MetricOptions:
    """What the metrics need and predictions do not hold. A None leaves its metrics out.

    Attributes:
      ks: cut-offs, at most 50: the length of the stored rankings.
      num_items: size of the catalogue; for `coverage` and `gini`.
      catalogue: its items. Other generated items are counted apart; None takes all as part of it.
      popularity: mentions of each item of the catalogue in the training split; for
        `popularity_bias` and, with `num_items`, for the trivial systems.
      neighbours: items within two hops of an item in the graph, any relation; for `…_2hop`.
      linked_items: items with an entity; for `recall@k_linked`, which KGSF reports.
      max_response_tokens: a reference with at least this many scored tokens was truncated, so not
        all of its words and characters are scored: it is left out of `ppl_per_word` and
        `bits_per_character`, and the run says how many were.
    """

    ks: Sequence[int] = KS
    num_items: int | None = None
    catalogue: Collection[int] | None = None
    popularity: Mapping[int, int] | None = None
    neighbours: Mapping[int, Collection[int]] | None = None
    linked_items: Collection[int] | None = None
    max_response_tokens: int = 30

    def __post_init__(self):
        if not self.ks or min(self.ks) < 1 or max(self.ks) > TOP_ITEMS:
            raise ValueError(
                f"ks: expected cut-offs from 1 to {TOP_ITEMS}, the length of the rankings that "
                f"predictions hold, got {tuple(self.ks)}"
            )

    @functools.cached_property
    def by_popularity(self) -> tuple[int, ...]:
        """Every item, those with the most mentions first; ties in the order of `popularity`."""
        counts = self.popularity or {}
        return tuple(sorted(counts, key=lambda item: -counts[item]))


def options_from_corpus(corpus: Corpus, **others: Any) -> MetricOptions:
    """Options with everything that a corpus provides.

    Args:
      corpus: its item table, its graph and its training dialogues are read.
      **others: the remaining fields of `MetricOptions`.
    """
    items = corpus.items
    item_ids = items.item_ids.tolist()
    mentions = corpus.mention_counts()
    node_of_item = dict(zip(item_ids, items.entity_ids.tolist(), strict=True))
    return MetricOptions(
        num_items=len(items),
        catalogue=frozenset(item_ids),
        popularity=dict(zip(item_ids, mentions.tolist(), strict=True)),
        neighbours=TwoHopItems(corpus.graph.edges, node_of_item),
        linked_items=set(items.item_ids[items.is_linked].tolist()),
        **others,
    )
