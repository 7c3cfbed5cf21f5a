"""How likely the gold responses are: the forms of perplexity, from the NLL of gold tokens.

PPL = exp(Σ NLL / Σ tokens), one mean over the tokens of the corpus. That is not the mean of the
perplexities of batches, which KGSF's and NTRD's `run.py` print: it depends on the batches. Each
function returns (Σ NLL, number of tokens) of one response; `pairs.divide_pairs` takes the
exponential.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float

from conkd_jax.eval.metrics.pairs import Pair


def nll_pairs(
    token_nll: Float[np.ndarray, " tokens"], token_is_item: Bool[np.ndarray, " tokens"]
) -> dict[str, Pair]:
    """One response's (sum of NLL, number of tokens) for three perplexities.

    * `ppl`: every gold token, items and end token included, turn prefix excluded;
    * `ppl_words`: the words and the end token alone, under the same softmax over V ∪ I;
    * `ppl_item`: the items alone.

    >>> nll_pairs(np.array([1.0, 3.0, 2.0]), np.array([False, True, False]))
    {'ppl': (6.0, 3), 'ppl_words': (3.0, 2), 'ppl_item': (3.0, 1)}

    Source: ours; the paper's Table 3 says "perplexity" and not over which tokens.
    """
    items, words = token_nll[token_is_item], token_nll[~token_is_item]
    parts = {"ppl": token_nll, "ppl_words": words, "ppl_item": items}
    return {name: (float(part.sum()), part.size) for name, part in parts.items()}


def per_word_pairs(
    token_nll: Float[np.ndarray, " tokens"], num_words: int, num_characters: int
) -> dict[str, Pair]:
    """(sum, count) of the two forms that do not depend on the tokeniser.

    * `ppl_per_word` = exp(Σ NLL / Σ (words + 1)): the end of a response counts as a word, so that
      it equals `ppl` for a system with word tokens;
    * `bits_per_character` = Σ NLL / (ln 2 · Σ (characters + 1)).

    Args:
      token_nll: NLL of every gold token of the response, in nats.
      num_words: words of the reference; an item is one word, `@id`.
      num_characters: characters of the reference.

    >>> per_word_pairs(np.log([2.0, 2.0, 4.0]), num_words=1, num_characters=3)["bits_per_character"]
    (4.0, 4)

    Source: Mielke, 2019 ("Can you compare perplexity across different segmentations?").
    """
    total = float(token_nll.sum())
    return {
        "ppl_per_word": (total, num_words + 1),
        "bits_per_character": (total / math.log(2), num_characters + 1),
    }


def words_renormalised(
    token_nll: Float[np.ndarray, " words"], item_mass: Float[np.ndarray, " words"]
) -> Float[np.ndarray, " words"]:
    """NLL of gold words under the softmax over V alone: -log[P(y) / (1 - Σ_{y'∈I} P(y'))].

    >>> np.exp(words_renormalised(np.log([4.0]), np.array([0.5]))).round(6).tolist()
    [2.0]

    Source: the chain rule; it is the perplexity of a model that has no items to say.
    """
    return token_nll + np.log1p(-item_mass)
