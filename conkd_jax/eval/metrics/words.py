"""How varied the words of generated responses are, and how close to the reference: DIST-n, BLEU-n.

Responses are lists of tokens (`data.mentions.tokens`). The field uses these names for several
quantities; each function says which one it computes.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Iterator, Sequence

from conkd_jax.eval.metrics.pairs import Pair

NGRAMS = (1, 2, 3, 4)


def ngrams(tokens: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """The n-grams of one response, in order.

    >>> list(ngrams(["a", "b", "c"], 2))
    [('a', 'b'), ('b', 'c')]
    """
    return zip(*(tokens[start:] for start in range(n)), strict=False)


class DistinctNgrams:
    """DIST-n over all responses together, one response at a time, none of which is kept.

    N-grams are of word tokens, never of characters.

    >>> outputs = DistinctNgrams(n=2)
    >>> outputs.add(["a", "b", "c"]); outputs.add(["a", "b"])
    >>> round(outputs.refined, 3), outputs.original
    (0.667, 1.0)

    Source: `refined`, the paper's Table 3, as its ratio to Table 8 shows; `original`, Table 8 and
      the public code of KGSF and NTRD (UniCRS leaves empty responses out of the denominator).
    """

    def __init__(self, n: int):
        self.n = n
        self.num_ngrams = 0
        self.num_responses = 0
        self._distinct: set[tuple[str, ...]] = set()

    def add(self, tokens: Sequence[str]) -> None:
        """Counts one response."""
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


def character_dist(responses: Iterable[str], n: int) -> float:
    """DIST-n as CRSLab counts it: *character* n-grams over the responses that are not empty.

    No run reports it; it is here to recognise numbers that were made so. Iterating over a Python
    string yields characters, so what is meant to count different words counts letters, and the
    result is far from everybody else's.

    >>> character_dist(["a b c", "a b"], 2)  # "a ", " b", "b ", " c": four, over two responses
    2.0

    Source: CRSLab's `StandardEvaluator.gen_evaluate`, which passes a string to `nltk.ngrams`
      (reported in RUCAIBox/CRSLab issues 42 and 67).
    """
    counter = DistinctNgrams(n)
    for response in responses:
        if response:
            counter.add(tuple(response))
    return counter.original


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
