"""The two patterns of a text: how a movie is mentioned, and how text is cut into words.

A mention is "@" and the digits of a movie id. Linker, vocabularies, predictions, metrics and the
sheets of the human evaluation all use these patterns.
"""

from __future__ import annotations

import re
from collections.abc import Callable

MENTION = re.compile(r"@([0-9]+)")
TOKEN = re.compile(r"@[0-9]+|\w+|[^\w\s]")

_MAX_DIGITS = 18  # they fit into an int64; int() would refuse a number of thousands of digits


def tokens(text: str) -> list[str]:
    """Returns the words, punctuation marks and mentions of a text.

    >>> tokens("Have you seen @123? It's great!")
    ['Have', 'you', 'seen', '@123', '?', 'It', "'", 's', 'great', '!']
    """
    return TOKEN.findall(text)


def mention_id(digits: str) -> int | None:
    """Returns the movie id after an "@", or None if the number is too large to be one."""
    return int(digits) if len(digits) <= _MAX_DIGITS else None


def replace_mentions(text: str, written: Callable[[int], str | None]) -> str:
    """Returns the text with its mentions replaced.

    Args:
      text: a text with movies as "@123".
      written: maps a movie id to its new text; None leaves the mention unchanged.

    >>> replace_mentions("Try @7 or @8", {7: "Alien (1979)"}.get)
    'Try Alien (1979) or @8'
    """

    def replaced(match: re.Match[str]) -> str:
        movie = mention_id(match[1])
        found = None if movie is None else written(movie)
        return match[0] if found is None else found

    return MENTION.sub(replaced, text)
