"""How an item is written in a text, and how a text is cut into words: the only two patterns.

An item is "@" and the digits of its movie id. Linker, vocabulary, predictions, metrics and the
sheets of the human evaluation all read texts by these patterns.
"""

from __future__ import annotations

import re
from collections.abc import Callable

MENTION = re.compile(r"@([0-9]+)")
TOKEN = re.compile(r"@[0-9]+|\w+|[^\w\s]")

_MAX_DIGITS = 18  # of an int64; a longer number is no id, and int() would refuse thousands of them


def tokens(text: str) -> list[str]:
    """The words, marks and items of a text.

    >>> tokens("Have you seen @123? It's great!")
    ['Have', 'you', 'seen', '@123', '?', 'It', "'", 's', 'great', '!']
    """
    return TOKEN.findall(text)


def mention_id(digits: str) -> int | None:
    """The movie id after an "@", or None where the number is too large to be an id."""
    return int(digits) if len(digits) <= _MAX_DIGITS else None


def replace_mentions(text: str, written: Callable[[int], str | None]) -> str:
    """The text with every item written otherwise.

    Args:
      text: with items as "@123".
      written: from a movie id to its new text; None leaves the mention as it is.

    >>> replace_mentions("Try @7 or @8", {7: "Alien (1979)"}.get)
    'Try Alien (1979) or @8'
    """

    def replaced(match: re.Match[str]) -> str:
        movie = mention_id(match[1])
        found = None if movie is None else written(movie)
        return match[0] if found is None else found

    return MENTION.sub(replaced, text)
