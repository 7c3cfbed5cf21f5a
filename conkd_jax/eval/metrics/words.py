"""How varied and how likely the words are: DIST-n, BLEU and the forms of perplexity.

DIST and BLEU read tokens, perplexity reads the teacher-forced negative log-likelihood of gold
tokens. The names keep apart what the field mixes: see each function. Knows no model and no
vocabulary.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float

from conkd_jax.eval.metrics.items import Pair


def ngrams(tokens: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """The n-grams of one response, in order.

    >>> list(ngrams(["a", "b", "c"], 2))
    [('a', 'b'), ('b', 'c')]
    """
    return zip(*(tokens[start:] for start in range(n)), strict=False)


class DistinctNgrams:
    """Counts the n-grams of generated responses as they come, so that none has to be kept.

    >>> outputs = DistinctNgrams(n=2)
    >>> outputs.add(["a", "b", "c"]); outputs.add(["a", "b"])
    >>> round(outputs.refined, 3), outputs.original
    (0.667, 1.0)
    """

    def __init__(self, n: int):
        self.n = n
        self.num_ngrams = 0
        self.num_responses = 0
        self._distinct: set[tuple[str, ...]] = set()

    def add(self, tokens: Sequence[str]) -> None:
        """Takes in one response."""
        self._distinct.update(ngrams(tokens, self.n))
        self.num_ngrams += max(0, len(tokens) - self.n + 1)
        self.num_responses += 1

    @property
    def refined(self) -> float:
        """DIST-n = #distinct n-grams / #n-grams of all responses (the paper's); nan without any."""
        return len(self._distinct) / self.num_ngrams if self.num_ngrams else math.nan

    @property
    def original(self) -> float:
        """DIST-n = #distinct n-grams / #responses (KGSF, NTRD); may exceed 1."""
        return len(self._distinct) / self.num_responses if self.num_responses else math.nan


def dist(responses: Iterable[Sequence[str]], n: int, form: str = "refined") -> float:
    """DIST-n of tokenised responses, `refined` (per n-gram) or `original` (per response).

    Both count n-grams of word tokens, never of characters, and over all responses together.

    >>> dist([["a", "b", "c"], ["a", "b"]], 2), dist([["a", "b", "c"], ["a", "b"]], 2, "original")
    (0.6666666666666666, 1.0)

    Source: `refined`, the paper's Table 3, as its ratio to Table 8 tells; `original`, Table 8 and
      the public code of KGSF and NTRD (UniCRS leaves empty responses out of the denominator).
    """
    if form not in ("refined", "original"):
        raise ValueError(f"form: expected refined or original, got {form!r}")
    counter = DistinctNgrams(n)
    for tokens in responses:
        counter.add(tokens)
    return getattr(counter, form)


def character_dist(responses: Iterable[str], n: int) -> float:
    """DIST-n as CRSLab counts it: *character* n-grams over the responses that are not empty.

    A warning, not a metric of ours: a Python string is iterated over by its characters, so the
    count of "different words" is one of letters, and the number is far from everybody else's. Use
    it to recognise a number that was made so.

    >>> character_dist(["a b c", "a b"], 2)  # "a ", " b", "b ", " c": four, over two responses
    2.0
    >>> dist([["a", "b", "c"], ["a", "b"]], 2, "original")
    1.0

    Source: CRSLab's `StandardEvaluator.gen_evaluate`, which passes a string to `nltk.ngrams`
      (reported in RUCAIBox/CRSLab issues 42 and 67).
    """
    return dist((tuple(response) for response in responses if response), n, "original")


def bleu(generated: Sequence[str], reference: Sequence[str], n: int) -> Pair:
    """BLEU-n as KGSF and CRSLab report it, for one response: (BP · p_n, 1).

    p_n is the clipped n-gram precision of that one n (weights (0, 1, 0, 0) and so on, not the usual
    geometric mean over 1…n) and BP = min(1, exp(1 - |reference| / |generated|)).

    >>> bleu(["a", "b", "c"], ["a", "b", "d"], 2)
    (0.5, 1.0)

    Source: the calls of nltk's `sentence_bleu` in the public code of KGSF, NTRD, CRSLab and UniCRS.
    """
    of_generated = collections.Counter(ngrams(generated, n))
    matched = of_generated & collections.Counter(ngrams(reference, n))
    if not matched:
        return 0.0, 1.0
    brevity = math.exp(min(0.0, 1 - len(reference) / len(generated)))
    return brevity * matched.total() / of_generated.total(), 1.0


def nll_pairs(
    token_nll: Float[np.ndarray, " tokens"], token_is_item: Bool[np.ndarray, " tokens"]
) -> dict[str, Pair]:
    """One response's (sum of NLL, number of tokens) for three perplexities.

    * `ppl`: every gold token, items and end token included, turn prefix excluded;
    * `ppl_words`: the words and the end token alone, under the same softmax over V ∪ I;
    * `ppl_item`: the items alone.

    A fourth, `ppl_predprefix`, is `ppl` of other numbers: the NLL under the predicted turn prefix.

    >>> nll_pairs(np.array([1.0, 3.0, 2.0]), np.array([False, True, False]))
    {'ppl': (6.0, 3), 'ppl_words': (3.0, 2), 'ppl_item': (3.0, 1)}

    Source: ours; the paper's Table 3 says "perplexity" and not of which tokens.
    """
    items, words = token_nll[token_is_item], token_nll[~token_is_item]
    parts = {"ppl": token_nll, "ppl_words": words, "ppl_item": items}
    return {name: (float(part.sum()), part.size) for name, part in parts.items()}


def perplexity(pair: Pair) -> float:
    """PPL = exp(Σ NLL / Σ tokens), one mean over the corpus' tokens; nan without any.

    Not the mean of batches' perplexities, which KGSF and NTRD print: it depends on the batches.

    >>> round(perplexity((6.0, 3)), 3)
    7.389

    Source: the definition; KGSF's and NTRD's `run.py` for the other.
    """
    total, count = pair
    return math.exp(total / count) if count else math.nan


def per_word_pairs(
    token_nll: Float[np.ndarray, " tokens"], num_words: int, num_characters: int
) -> dict[str, Pair]:
    """(sum, count) of the two forms that do not depend on the tokeniser.

    * `ppl_per_word` = exp(Σ NLL / Σ (words + 1)): the end of a response counts as a word, so a
      system whose tokens are words has this equal to its `ppl`;
    * `bits_per_character` = Σ NLL / (ln 2 · Σ (characters + 1)).

    An item is one word, `@id`.

    >>> pairs = per_word_pairs(np.log([2.0, 2.0, 4.0]), num_words=1, num_characters=3)
    >>> round(perplexity(pairs["ppl_per_word"]), 6), pairs["bits_per_character"]
    (4.0, (4.0, 4))

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
