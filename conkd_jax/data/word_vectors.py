"""Word vectors: what KGSF's token embedding starts from, word2vec trained on the corpus itself.

This file exists so that the one use of gensim has one home. It knows token ids; it must not know
text, turns or which ids are words, items or tags.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float32


def train_word_vectors(
    sentences: Iterable[Sequence[int]], num_rows: int, embed_dim: int, seed: int
) -> Float32[np.ndarray, "num_rows embed_dim"]:
    """A token embedding from word2vec: rows of length one, noise where a token is never seen.

    Continuous bag of words: the tokens within 5 places of a token, averaged, tell it from 5 drawn
    ones; 5 epochs, every token counts however rare, and frequent ones are thinned (1e-3). All are
    gensim's defaults but the last count, and so are KGSF's; KGSF too trains on merged turns.

    Two things differ from KGSF, whose table is the raw vectors and zero rows for special tokens:

    * A seen row is w / |w|. Raw lengths follow the counts: on ReDial, a token said once has a
      tenth of the root mean square, the hundred most frequent have eight times it. In a tied
      embedding those lengths are the spread of the logits at the start, and times √D they are read
      beside positions of length √(D/2).
    * An unseen row (tags, padding, a movie that no training turn names) is N(0, 1/D), of length one
      on average too, as the model's own initialisation is. From a zero row a tied embedding gives
      logit 0 at every step, the same for all such movies.

    One thread and a seeded start: the same sentences in the same order give the same bits on the
    same machine, in any process.

    Args:
        sentences: token ids, one sequence for each merged turn, items included.
        num_rows: rows of the table; every id is below.
        embed_dim: D.
        seed: of the start of word2vec, of its draws and of the noise.

    Raises:
        ValueError: if an id has no row, or there is no id at all.

    Source: Mikolov et al. 2013; KGSF's public code, `dataset.py` (vector_size 300, min_count 1).
    """
    from gensim.models import Word2Vec  # 2 s to import, needed by one stage of one backbone alone

    turns = [[str(token) for token in sentence] for sentence in sentences]  # gensim's keys are text
    if not any(turns):
        raise ValueError(
            f"expected sentences of token ids to learn from, got {len(turns)}, all empty"
        )
    vectors = Word2Vec(turns, vector_size=embed_dim, min_count=1, workers=1, seed=seed).wv
    seen = np.array(vectors.index_to_key, np.int64)  # the keys as numbers
    if not 0 <= seen.min() <= seen.max() < num_rows:
        raise ValueError(
            f"expected token ids from 0 to {num_rows - 1}, one for each row of the table; got ids "
            f"from {seen.min()} to {seen.max()}"
        )
    noise = np.random.default_rng(seed).standard_normal((num_rows, embed_dim), np.float32)
    table = noise / np.sqrt(embed_dim, dtype=np.float32)  # [num_rows, D]
    table[seen] = vectors.get_normed_vectors()
    return table
