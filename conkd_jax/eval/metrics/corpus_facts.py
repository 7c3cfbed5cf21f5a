"""What predictions can't hold and a corpus knows, in the form that `metrics` asks for.

One answer for every run that is scored: ours in their evaluation, anybody's from a file.
"""

from __future__ import annotations

import numpy as np

from conkd_jax.data.corpus import Corpus
from conkd_jax.eval.metrics.two_hop import TwoHopItems


def options(corpus: Corpus) -> dict:
    """The fields of `metrics.Options` that a corpus knows."""
    items = corpus.items
    movie_ids = items.movie_ids.tolist()
    mentions = np.zeros(len(items), np.int64)
    for dialogue in corpus.dialogues("train"):
        for turn in dialogue.turns:
            np.add.at(mentions, list(turn.items), 1)
    return {
        "num_items": len(items),
        "popularity": dict(zip(movie_ids, mentions.tolist(), strict=True)),
        "neighbours": TwoHopItems(
            corpus.graph.edges, dict(zip(movie_ids, items.entity_ids.tolist(), strict=True))
        ),
        "linked_items": set(items.movie_ids[items.is_linked].tolist()),
    }
