"""Word vectors: the initial token embedding of KGSF, word2vec trained on the corpus itself.

The only module that uses gensim, which the extra `kgsf` installs. It handles token ids only, and
does not distinguish words, items and tags.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float32


def has_word2vec() -> bool:
    """Whether gensim is installed."""
    return importlib.util.find_spec("gensim") is not None


def train_word_vectors(
    sentences: Iterable[Sequence[int]], num_rows: int, embed_dim: int, seed: int
) -> Float32[np.ndarray, "num_rows embed_dim"]:
    """Trains a token embedding with word2vec: seen tokens get rows of length one, others noise.

    Continuous bag of words: the average of the tokens within 5 places of a token has to tell it
    from 5 random ones. There are 5 epochs, no minimum count, and frequent tokens are subsampled
    (1e-3). All of this is gensim's default except the minimum count, and it is what KGSF uses; KGSF
    trains on merged turns too.

    KGSF's table holds the raw vectors, and zeros for special tokens. This one differs in two ways:

    * A seen row is w / |w|. Raw lengths depend on the counts: on ReDial, the row of a token that
      occurs once has a tenth of the root mean square length, those of the hundred most frequent
      tokens have eight times that root mean square. In a tied embedding these lengths become the
      spread of the initial logits, and as inputs the rows, scaled by √D, are added to positions of
      length √(D/2).
    * An unseen row (tags, padding, an item that no training turn mentions) is N(0, 1/D), as in the
      model's own initialisation, so its length is also about one. With a zero row, a tied
      embedding would give all such items the same logit, 0, at every step.

    With one thread and a seeded start, the same sentences in the same order give the same bits on
    the same machine, in any process.

    Args:
      sentences: token ids, one sequence per merged turn, items included.
      num_rows: rows of the table; every id is below it.
      embed_dim: D.
      seed: the seed of word2vec's initial vectors, of its draws, and of the noise.

    Raises:
      ValueError: an id has no row, or there are no ids at all.

    Source: Mikolov et al. 2013; KGSF's public code, `dataset.py` (vector_size 300, min_count 1).
    """
    from gensim.models import (
        Word2Vec,
    )  # takes 2 s to import, and one stage of one backbone needs it

    turns = [[str(token) for token in sentence] for sentence in sentences]  # gensim's keys are text
    if not any(turns):
        raise ValueError(
            f"expected sentences of token ids to learn from, got {len(turns)} sentences, all empty"
        )
    vectors = Word2Vec(turns, vector_size=embed_dim, min_count=1, workers=1, seed=seed).wv
    seen = np.array(vectors.index_to_key, np.int64)  # the keys as numbers
    if not 0 <= seen.min() <= seen.max() < num_rows:
        raise ValueError(
            f"expected token ids from 0 to {num_rows - 1}, the rows of the table; got ids "
            f"from {seen.min()} to {seen.max()}"
        )
    noise = np.random.default_rng(seed).standard_normal((num_rows, embed_dim), np.float32)
    table = noise / np.sqrt(embed_dim, dtype=np.float32)  # [num_rows, D]
    table[seen] = vectors.get_normed_vectors()
    return table
