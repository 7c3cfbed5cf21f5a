"""Mentions and tokens of a text, whatever people write around a movie."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conkd_jax.data.mentions import MENTION, mention_id, replace_mentions, tokens


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("seen @123?", ["seen", "@123", "?"]),
        ("me@10.com", ["me", "@10", ".", "com"]),
        ("@ 10 @x", ["@", "10", "@", "x"]),
        ("@12²", ["@12", "²"]),
        ("it's naïve 😀", ["it", "'", "s", "naïve", "😀"]),
        ("", []),
    ],
)
def test_tokens(text, found):
    assert tokens(text) == found


@given(st.text())
def test_tokens_hold_everything_but_white_space(text):
    assert "".join(tokens(text)) == "".join(text.split())


@pytest.mark.parametrize(
    ("digits", "movie"), [("007", 7), ("9" * 18, 10**18 - 1), ("9" * 19, None), ("9" * 5000, None)]
)
def test_a_number_of_too_many_digits_is_no_id(digits, movie):
    assert mention_id(digits) == movie


def test_replacing_leaves_what_has_no_other_form():
    huge = f"@{'9' * 30}"
    assert replace_mentions(f"@7, @8 and {huge}", {7: "Alien"}.get) == f"Alien, @8 and {huge}"
    assert MENTION.findall(f"@7 {huge}") == ["7", "9" * 30]
