"""Typed titles: every way to write one, everyday words, and misspellings."""

import numpy as np
import pytest

from conkd_jax.data.title_links import TitleIndex

TITLES = [
    "The Matrix (1999)",
    "It (2017)",
    "It (1990)",
    "Saw (2004)",
    "Spider-Man 2 (2004)",
    "Star Wars: Episode IV – A New Hope (1977)",
    "Finding Nemo (2003)",
    "It's a Wonderful Life (1946)",
    "Rocky II (1979)",
    "Amélie (2001)",
]
MENTIONS = np.array([50, 30, 5, 20, 10, 10, 40, 10, 10, 5])
TEXTS = ["I saw it and it was good", "have you seen it? I saw it twice", "@3 is a good movie"] * 30


@pytest.fixture(scope="module")
def index():
    return TitleIndex(TITLES, MENTIONS, TEXTS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Have you seen The Matrix (1999)?", ["The Matrix (1999)"]),
        ("matrix was great", ["The Matrix (1999)"]),
        ("MATRIX, spiderman 2 and spider man 2", [TITLES[0], TITLES[4], TITLES[4]]),
        ("its a wonderful life", [TITLES[7]]),
        ("star wars", [TITLES[5]]),
        ("rocky 2 or Rocky II", [TITLES[8], TITLES[8]]),
        ("amelie", [TITLES[9]]),
        ("I saw it", []),
        ('I liked "It"', ["It (2017)"]),
        ("it (1990) was scary", ["It (1990)"]),
        ("It 2017", ["It (2017)"]),
        ("findng nemo", [TITLES[6]]),
        ("Finding Memmo and the matirx", [TITLES[6], TITLES[0]]),
        ("@3 and @12345", []),
        ("", []),
        ("\u0301 \ud800 İ", []),
    ],
)
def test_titles_as_people_write_them(index, text, expected):
    assert [TITLES[match.item] for match in index.find(text)] == expected


def test_a_match_stands_where_the_title_stands(index):
    text = "Hm, the matirx! It (1990)?"
    assert [text[m.start : m.end] for m in index.find(text)] == ["the matirx", "It (1990)"]
    assert [m.score == 100 for m in index.find(text)] == [False, True]


def test_aliases_are_names_where_no_item_has_the_full_name():
    aliases = [["Neo's film", "It"], *([[]] * 5), ["The Clownfish"], *([[]] * 3)]
    index = TitleIndex(TITLES, MENTIONS, TEXTS, aliases=aliases)
    found = index.find('neos film, "it", the clownfish and clownfish')
    assert [match.item for match in found] == [0, 1, 6, 6]
    assert index.alike("clown", 1) == [6]
    assert not TitleIndex(TITLES, MENTIONS, TEXTS).find("the clownfish")


def test_movies_of_one_title_are_rivals_and_the_known_one_leads(index):
    (match,) = index.find('"it"')
    assert (match.item, match.rivals) == (1, (2,))


def test_words_of_a_name_are_no_misspelled_title(index):
    text = "with Nemmo Findings"
    assert not index.find(text, taken=[(5, len(text))])


def test_thresholds_decide(index):
    strict = TitleIndex(TITLES, MENTIONS, TEXTS, min_score=99.0)
    assert index.find("findng nemo") and not strict.find("findng nemo")
    loose = TitleIndex(TITLES, MENTIONS, TEXTS, min_likelihood=0.0)
    assert [TITLES[m.item] for m in loose.find("i saw it")] == ["Saw (2004)", "It (2017)"]
