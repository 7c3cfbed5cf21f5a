"""The two patterns by which texts are read: items, and the words around them."""

import pytest

from conkd_jax.data.mentions import MENTION, mention_id, replace_mentions, tokens


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Have you seen @123?", ["Have", "you", "seen", "@123", "?"]),
        ("@12@34 x@5", ["@12", "@34", "x", "@5"]),
        ("a @ b", ["a", "@", "b"]),
        ("naïve 映画 don't", ["naïve", "映画", "don", "'", "t"]),
        ("@١٢ @12٣", ["@١٢", "@12", "٣"]),  # an id is written in ASCII digits
        ("हिन्दी फ़िल्म", ["हिन्दी", "फ़िल्म"]),  # vowel signs are part of a word
        ("cafe\u0301 \u2764\ufe0f", ["cafe\u0301", "\u2764", "\ufe0f"]),
        ("\ud83d!", ["\ufffd", "!"]),  # half of a surrogate pair
        ("", []),
    ],
)
def test_items_stay_whole(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


@pytest.mark.parametrize("text", ["see @7 or @007, @ 8", "@@9", "mail@example.org"])
def test_both_patterns_find_the_same_items(text: str) -> None:
    found = [match.group() for match in MENTION.finditer(text)]
    assert found == [token for token in tokens(text) if token.startswith("@") and len(token) > 1]


def test_a_number_that_no_id_can_have_is_none() -> None:
    assert mention_id("0042") == 42
    assert mention_id("9" * 18) == 10**18 - 1
    assert mention_id("9" * 5000) is None


def test_mentions_are_replaced_where_there_is_a_text_for_them() -> None:
    text = f"@1, @2 and @{'9' * 30}"
    assert replace_mentions(text, {1: "Alien"}.get) == f"Alien, @2 and @{'9' * 30}"
