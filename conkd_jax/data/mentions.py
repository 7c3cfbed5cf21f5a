"""The patterns of a text: how an item is mentioned, and how text is cut into words.

A mention is "@" and the digits of an item id; people who write files mark an item as "@[id]"
instead, where ids are texts. Linker, vocabularies, predictions, metrics and the
sheets of the human evaluation all use these patterns.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tokenizers import Regex, pre_tokenizers

MENTION = re.compile(r"@([0-9]+)")
MARK = re.compile(r"@\[([^\[\]]*)\]")  # an item with a text for an id
# Saved tokenizers of whole words hold this very string and are compared with it, so it must not
# change. It is a pattern of the tokenizers library, in which combining marks are part of a word
# (\w), as they are not in Python's `re`.
TOKEN = r"@\d+|\w+|[^\w\s]"

# `Split` takes its pattern for the separator; `invert` makes the matches the pieces instead.
TOKEN_SPLIT = pre_tokenizers.Split(Regex(TOKEN), behavior="removed", invert=True)

_MAX_DIGITS = 18  # they fit into an int64; int() would refuse a number of thousands of digits


def tokens(text: str) -> list[str]:
    """Returns the words, punctuation marks and mentions of a text.

    The same pattern in the same library cuts the texts that models of whole words read, so that
    links, metrics and models agree in every script.

    >>> tokens("Have you seen @123? It's great!")
    ['Have', 'you', 'seen', '@123', '?', 'It', "'", 's', 'great', '!']
    """
    text = encodable(text)
    return [text[start:end] for start, end in token_places(text)]


def token_places(text: str) -> list[tuple[int, int]]:
    """Returns where the `tokens` of a text begin and end; the text has no lone surrogates.

    >>> token_places("See @7!")
    [(0, 3), (4, 6), (6, 7)]
    """
    found: list[tuple[int, int]] = []
    end = 0
    for mention in MENTION.finditer(text):
        found += _word_places(text, end, mention.start())
        found.append(mention.span())
        end = mention.end()
    return found + _word_places(text, end, len(text))


def _word_places(text: str, start: int, end: int) -> list[tuple[int, int]]:
    pieces = TOKEN_SPLIT.pre_tokenize_str(text[start:end])
    return [(start + first, start + last) for _, (first, last) in pieces]


def encodable(text: str) -> str:
    """Returns the text with lone surrogates replaced: JSON may hold them, UTF-8 can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def mention_id(digits: str) -> int | None:
    """Returns the item id after an "@", or None if the number is too large to be one.

    Zeros before the number have no meaning: "@00105" mentions item 105.
    """
    return int(digits) if len(digits) <= _MAX_DIGITS else None


def replace_mentions(text: str, written: Callable[[int], str | None]) -> str:
    """Returns the text with its mentions replaced.

    Args:
      text: a text with items as "@123".
      written: maps an item id to its new text; None leaves the mention unchanged.

    >>> replace_mentions("Try @7 or @8", {7: "Alien (1979)"}.get)
    'Try Alien (1979) or @8'
    """

    def replaced(match: re.Match[str]) -> str:
        item_id = mention_id(match[1])
        found = None if item_id is None else written(item_id)
        return match[0] if found is None else found

    return MENTION.sub(replaced, text)


def marks_as_mentions(text: str, number_of: Callable[[str], int | None]) -> str:
    """Returns the text with "@[id]" written as the mention "@n".

    A mention before a digit gets a space after it, as "@12" and "3" would be another item.

    Args:
      text: a text in which items are marked.
      number_of: the number of an id; None leaves the mark unchanged.

    >>> marks_as_mentions("Try @[clank]2 or @[uno]", {"clank": 7}.get)
    'Try @7 2 or @[uno]'
    """

    def written(match: re.Match[str]) -> str:
        number = number_of(match[1])
        if number is None:
            return match[0]
        return f"@{number}{' ' if text[match.end() : match.end() + 1].isdigit() else ''}"

    return MARK.sub(written, text)
