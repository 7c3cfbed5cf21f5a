"""Groups of items: bands of training frequency, and cold items with and without facts."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from jaxtyping import Bool

from conkd_jax.data.corpus import Corpus
from conkd_jax.eval.metrics.pairs import Number

BANDS = ((0, 0), (1, 2), (3, 9), (10, 49), (50, math.inf))  # mentions in training text, inclusive
TRAINING_SPLITS = ("train", "inferred")  # those that a corpus has of them are training text
COLD, ALL = "0", "all"
COLD_WITH_FACTS, COLD_WITHOUT_FACTS = "0, with facts", "0, without facts"


@dataclasses.dataclass(frozen=True)
class Group:
    """Some items of the catalogue.

    Attributes:
      name: of the group.
      members: whether each item of the catalogue belongs to it.
    """

    name: str
    members: Bool[np.ndarray, " M"]

    @property
    def size(self) -> int:
        """The number of its items."""
        return int(self.members.sum())


def band_name(least: Number, most: Number) -> str:
    """The name of a band of mentions.

    >>> band_name(0, 0), band_name(1, 2), band_name(50, math.inf)
    ('0', '1–2', '50+')
    """
    if least == most:
        return f"{least}"
    return f"{least}+" if math.isinf(most) else f"{least}–{most}"


BAND_NAMES = tuple(band_name(*band) for band in BANDS)


def item_groups(corpus: Corpus) -> tuple[Group, ...]:
    """The bands, the whole catalogue, and the two kinds of cold items.

    An item has facts if an edge of the knowledge graph joins it to another node. Without one, its
    vector in the graph network depends on nothing that training has seen.
    """
    mentions = corpus.mention_counts(training_splits(corpus))
    groups = [
        Group(name, (mentions >= least) & (mentions <= most))
        for name, (least, most) in zip(BAND_NAMES, BANDS, strict=True)
    ]
    groups.append(Group(ALL, np.ones(len(mentions), bool)))
    has_facts, is_cold = _has_facts(corpus), mentions == 0
    groups.append(Group(COLD_WITH_FACTS, is_cold & has_facts))
    groups.append(Group(COLD_WITHOUT_FACTS, is_cold & ~has_facts))
    return tuple(groups)


def training_splits(corpus: Corpus) -> tuple[str, ...]:
    """The splits of a corpus that models are trained on."""
    return tuple(split for split in TRAINING_SPLITS if split in corpus.splits)


def _has_facts(corpus: Corpus) -> Bool[np.ndarray, " M"]:
    sources, _, destinations = corpus.graph.edges.T
    is_fact = sources != destinations
    joined = np.concatenate([sources[is_fact], destinations[is_fact]])
    return np.isin(corpus.items.entity_ids, joined)
