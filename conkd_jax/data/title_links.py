"""Finds the items that a person typed: titles in free text, as people write them.

ReDial's speakers tag the items they mean, so the corpus has no typed titles, and a reader of typed
text has to find them: with or without the year, in any case, without articles, apostrophes and
hyphens, and misspelled. Half of all titles are everyday words ("It", "Saw", "Up"); how often a
training text says the words without meaning the item decides which of them are links.

This module is independent of graphs and of people's names (`stages.systems.free_text` adds them).
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from rapidfuzz import fuzz, process

from conkd_jax.eval.metrics.ranking import best_indices

# benchmarks/linking.py chose both on typed mentions of training dialogues, by F1.
MIN_LIKELIHOOD = 0.5  # least share of uses of the words that mean the item
MIN_SCORE = 83.0  # least similarity of a misspelled title, of 100

RARE = 5  # a word that training texts use less often than this may be a misspelling
MIN_LETTERS = 5  # of a title that may be misspelled: in a shorter one, most letters would be right
MAX_WORDS = 8  # of a misspelled title
MAX_RUNS = 1000  # of words in one text that are compared with all titles: a text of 500 words
NUM_RIVALS = 4  # other items that are kept for each link

_WORD = re.compile(r"@[0-9]+|[^\W_]+|&")
_YEAR = re.compile(r"\s*(?:\(\s*([12][0-9]{3})\s*\)|,?\s*([12][0-9]{3})\b)")
_LISTED = re.compile(r"^(.*?)\s*\(([12][0-9]{3})\)$")
_SUBTITLE = re.compile(r"\s*[:–]\s+|\s+-\s+")
_QUOTES = "\"'“”‘’«»*"
_ARTICLES = ("the", "a", "an")
_NUMERALS: dict[str, str] = {
    roman: str(number) for number, roman in enumerate("ii iii iv v vi vii viii ix x".split(), 2)
}


class Word(NamedTuple):
    """A word of a text: as it is compared, where it stands, and how it is written."""

    key: str
    start: int
    end: int
    is_capital: bool


@dataclasses.dataclass(frozen=True)
class TitleMatch:
    """A title in a text.

    Attributes:
      start: the first character of the title.
      end: the character after it, and after its year.
      item: the candidate index of the item.
      score: 100 for a title as listed, less for a misspelled one.
      rivals: other items with that title, or a similar one, the most likely first.
      is_certain: whether the title has its year, or stands in quotation marks.
    """

    start: int
    end: int
    item: int
    score: float
    rivals: tuple[int, ...] = ()
    is_certain: bool = False


def words_of(text: str) -> list[Word]:
    """Returns the words of a text, without case, accents and punctuation.

    >>> [word.key for word in words_of("Amélie & the Spider-Man, part II")]
    ['amelie', 'and', 'the', 'spider', 'man', 'part', '2']
    """
    found = []
    for match in _WORD.finditer(text):
        word = match[0]
        key = "and" if word == "&" else _folded(word)
        found.append(Word(_NUMERALS.get(key, key), *match.span(), word[0].isupper()))
    return found


def split_title(title: str) -> tuple[str, int | None]:
    """Splits a listed title into name and year.

    >>> split_title("Titanic  (1997)"), split_title("The Mummy")
    (('Titanic', 1997), ('The Mummy', None))
    """
    match = _LISTED.match(title.strip())
    return (match[1], int(match[2])) if match else (title.strip(), None)


class TitleUsage:
    """How training texts use the words of titles.

    Attributes:
      mentions: [M] how often each item is tagged.
      said: how often the words of a title occur without a tag, by (words, written in capitals).
      words: how often each word occurs.
    """

    def __init__(self, mentions: Int[np.ndarray, " M"], forms: Forms, texts: Iterable[str]):
        """Counts over the texts of the training dialogues."""
        self.mentions = mentions
        self.said: collections.Counter[tuple[str, bool]] = collections.Counter()
        self.words: collections.Counter[str] = collections.Counter()
        for text in texts:
            words = words_of(text)
            self.words.update(word.key for word in words)
            for first in range(len(words)):
                for last, key in forms.keys_from(words, first):
                    self.said[key, _is_capital(words, first, last)] += 1

    def likelihood(self, key: str, items: Sequence[int], is_capital: bool) -> float:
        """How likely these words mean one of the items with that title.

        The share of the tags in all uses of the words, tagged or not. Text with a capital is
        compared with text with a capital: "I saw Saw".
        """
        tagged = 1 + int(self.mentions[list(items)].sum())
        return tagged / (tagged + self.said[key, is_capital])


class Forms:
    """The ways in which titles may be written, as keys: the words without spaces.

    Full names come first; an alias counts where no item has that full name, and the name without
    its article and the name before a subtitle where no item has either.

    Args:
      titles: [M] "Name (year)".
      mentions: [M] how often each item is tagged in training, which orders items of one name.
      aliases: [M] further names of each item; None if there are none.
    """

    def __init__(
        self,
        titles: Sequence[str],
        mentions: Int[np.ndarray, " M"],
        aliases: Sequence[Sequence[str]] | None = None,
    ):
        self.years = [split_title(title)[1] for title in titles]
        ways: list[dict[str, list[int]]] = [{}, {}, {}]
        for item in sorted(range(len(titles)), key=lambda item: (-int(mentions[item]), item)):
            name, _ = split_title(titles[item])
            full = [word.key for word in words_of(name)]
            before = [word.key for word in words_of(_SUBTITLE.split(name)[0])]
            also = [
                [word.key for word in words_of(split_title(alias)[0])]
                for alias in (aliases[item] if aliases else ())
            ]
            bare = [_without_article(name) for name in (full, *also)]
            for way, parts in enumerate(([full], also, [*bare, before, _without_article(before)])):
                for key in dict.fromkeys("".join(part) for part in parts):
                    if key and item not in ways[way].setdefault(key, []):
                        ways[way][key].append(item)
        self.items = {**ways[2], **ways[1], **ways[0]}
        self.keys = [key for key in self.items if len(key) >= MIN_LETTERS]
        # A longer text can't be similar enough to any of them, and would take long to compare.
        self.longest = max(map(len, self.keys), default=0)
        self._prefixes = {key[:end] for key in self.items for end in range(1, len(key) + 1)}

    def keys_from(self, words: Sequence[Word], first: int) -> list[tuple[int, str]]:
        """The keys that begin at a word: (last word, key), the shortest first."""
        key, found = "", []
        for last in range(first, len(words)):
            key += words[last].key
            if key not in self._prefixes:
                break
            if key in self.items:
                found.append((last, key))
        return found


class TitleIndex:
    """Finds titles in texts.

    Args:
      titles: [M] the titles of all candidates, "Name (year)".
      mentions: [M] how often the training dialogues tag each.
      texts: the texts of the training dialogues, items as "@123".
      aliases: [M] further names of each; None if there are none.
      min_likelihood: of words that are a title, but not always.
      min_score: of a misspelled title.
      rare: a title may be misspelled where a word is less frequent than this.
    """

    def __init__(
        self,
        titles: Sequence[str],
        mentions: Int[np.ndarray, " M"],
        texts: Iterable[str],
        *,
        aliases: Sequence[Sequence[str]] | None = None,
        min_likelihood: float = MIN_LIKELIHOOD,
        min_score: float = MIN_SCORE,
        rare: int = RARE,
    ):
        self.forms = Forms(titles, mentions, aliases)
        self.usage = TitleUsage(mentions, self.forms, texts)
        self.min_likelihood, self.min_score, self.rare = min_likelihood, min_score, rare

    def find(self, text: str, taken: Collection[tuple[int, int]] = ()) -> list[TitleMatch]:
        """Returns the titles in a text, in order; they never overlap.

        From left to right, the longest title that is likely meant wins. A title with its own year
        or in quotation marks is always meant. What is left is compared with all titles where it
        has a rare word.

        Args:
          text: what a person typed.
          taken: spans (start, end) in which only titles as listed are looked for: people's names.
        """
        words = words_of(text)
        listed, first = [], 0
        while first < len(words):
            match, last = self._listed(text, words, first)
            if match is not None:
                listed.append(match)
            first = last + 1
            while match is not None and first < len(words) and words[first].start < match.end:
                first += 1  # the year
        names = [*taken, *((m.start, m.end) for m in listed if m.is_certain)]
        free = [
            not word.key.startswith("@")
            and not any(start <= word.start < end for start, end in names)
            for word in words
        ]
        near = self._misspelled(text, words, free)
        # "Forest Gump" is more similar to one title than "Forest" is to another.
        listed = [m for m in listed if not any(m.start < n.end and n.start < m.end for n in near)]
        return sorted([*listed, *near], key=lambda match: match.start)

    def alike(self, text: str, limit: int) -> list[int]:
        """Returns the items whose titles are most like a text, which may be their beginning.

        Titles that begin with the text come first, the shortest of them before the others; then
        titles in the order of similarity.
        """
        name, _ = split_title(text)
        typed = "".join(word.key for word in words_of(name))[: 2 * self.forms.longest]
        if not typed:
            return []
        starts = sorted((key for key in self.forms.items if key.startswith(typed)), key=len)
        near = process.extract(typed, list(self.forms.items), scorer=fuzz.ratio, limit=limit)
        keys = [*starts, *(key for key, *_ in near)]
        found = dict.fromkeys(item for key in keys for item in self.forms.items[key])
        return list(found)[:limit]

    def _listed(
        self, text: str, words: Sequence[Word], first: int
    ) -> tuple[TitleMatch | None, int]:
        for last, key in reversed(self.forms.keys_from(words, first)):
            items = self.forms.items[key]
            start, end = words[first].start, words[last].end
            if (of_year := self._with_year(text, end, items)) is not None:
                item, end = of_year
                rivals = [other for other in items if other != item]
                return TitleMatch(start, end, item, 100.0, tuple(rivals[:NUM_RIVALS]), True), last
            is_quoted = text[start - 1 : start] in _QUOTES and text[end : end + 1] in _QUOTES
            is_quoted &= 0 < start and end < len(text)
            is_capital = _is_capital(words, first, last)
            likelihood = self.usage.likelihood(key, items, is_capital)
            if is_quoted or likelihood >= self.min_likelihood:
                rivals = tuple(items[1 : NUM_RIVALS + 1])
                return TitleMatch(start, end, items[0], 100.0, rivals, bool(is_quoted)), last
        return None, first

    def _with_year(self, text: str, end: int, items: Sequence[int]) -> tuple[int, int] | None:
        """The item of the year that follows, and where the year ends."""
        if (match := _YEAR.match(text, end)) is None:
            return None
        year = int(match[1] or match[2])
        return next(((i, match.end()) for i in items if self.forms.years[i] == year), None)

    def _misspelled(
        self, text: str, words: Sequence[Word], free: Sequence[bool]
    ) -> list[TitleMatch]:
        spans = self._windows(words, free)
        if not spans:
            return []
        keys = ["".join(word.key for word in words[first : last + 1]) for first, last in spans]
        scores = process.cdist(
            keys, self.forms.keys, scorer=fuzz.ratio, score_cutoff=self.min_score, dtype=np.float32
        )
        best = scores.max(axis=1, initial=0)
        found: list[TitleMatch] = []
        used: set[int] = set()
        # The most similar first; of equally similar ones, the longest.
        for row in sorted(range(len(spans)), key=lambda row: (-best[row], -len(keys[row]))):
            first, last = spans[row]
            if best[row] == 0 or used & {*range(first, last + 1)}:
                continue
            used |= {*range(first, last + 1)}
            (order,) = best_indices(scores[row : row + 1], NUM_RIVALS + 1)
            names = [self.forms.keys[place] for place in order if scores[row, place] > 0]
            items = [*dict.fromkeys(item for name in names for item in self.forms.items[name])]
            item, end = items[0], words[last].end
            if (of_year := self._with_year(text, end, items)) is not None:
                item, end = of_year
            rivals = tuple(other for other in items if other != item)[:NUM_RIVALS]
            score = float(best[row])
            found.append(TitleMatch(words[first].start, end, item, score, rivals))
        return found

    def _windows(self, words: Sequence[Word], free: Sequence[bool]) -> list[tuple[int, int]]:
        """The runs of free words that may be a misspelled title: those with a rare word."""
        is_rare = [
            self.usage.words[word.key] < self.rare and len(word.key) > 2 and not word.key.isdigit()
            for word in words
        ]
        # The similarity of lengths m < n is at most 200 · m / (m + n).
        longest = self.forms.longest * (200 / self.min_score - 1)
        spans = []
        for first in range(len(words)):
            letters = 0
            for last in range(first, min(first + MAX_WORDS, len(words))):
                letters += len(words[last].key)
                if not free[last] or letters > longest:
                    break
                if any(is_rare[first : last + 1]) and letters >= MIN_LETTERS:
                    spans.append((first, last))
        return spans[:MAX_RUNS]


def _is_capital(words: Sequence[Word], first: int, last: int) -> bool:
    """Whether words are written as a title: a capital that doesn't only open the text."""
    run = words[first : last + 1]
    return run[0].is_capital and (first > 0 or any(word.is_capital for word in run[1:]))


def _without_article(words: Sequence[str]) -> Sequence[str]:
    return words[1:] if len(words) > 1 and words[0] in _ARTICLES else words


@functools.lru_cache(maxsize=1 << 16)
def _folded(word: str) -> str:
    if word.isascii():
        return word.lower()
    plain = unicodedata.normalize("NFKD", word)
    return "".join(c for c in plain if not unicodedata.combining(c)).casefold()
