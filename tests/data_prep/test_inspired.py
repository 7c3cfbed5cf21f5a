"""INSPIRED's two layouts, and its movies in another catalogue."""

import json

import pytest

from data_prep.inspired import (
    NEAR_YEAR,
    NO_YEAR,
    SAME,
    InspiredError,
    MarkedDialogue,
    MarkedMessage,
    MovieMatcher,
    find_part,
    read_part,
    with_mentions,
)
from data_prep.raw_dialogues import Problems
from data_prep.sources import MissingDataError

COLUMNS = ("dialog_id", "utt_id", "speaker", "turn_id", "text", "movies", "genres")


def turn(role: str, text: str, *movies: str, names=()) -> dict:
    """A turn of UniCRS' file."""
    links = {"entity_link": [], "entity_name": [], "movie_link": list(names)}
    return {"text": text, "role": role, "movie": list(movies), "movie_name": list(names), **links}


def write_jsonl(folder, *dialogues, part="dev"):
    folder.mkdir(exist_ok=True)
    texts = [each if isinstance(each, str) else json.dumps(each) for each in dialogues]
    (folder / f"{part}.jsonl").write_text("\n".join(texts) + "\n")


def write_tsv(folder, *rows, header=COLUMNS):
    folder.mkdir(exist_ok=True)
    lines = ["\t".join(row) for row in (header, *rows)]
    (folder / "dev.tsv").write_text("\n".join(lines) + "\n")


def read(folder, part="dev"):
    return read_part(find_part(part, folder), Problems())


# --- files -------------------------------------------------------------------------------------


def test_a_dialogue_a_line(tmp_path):
    alpha = turn("RECOMMENDER", "Try  alfa!", "Alpha (1990)", names=["alfa"])
    both = turn("SEEKER", "Alpha or Beta", "Alpha (1990)", "Beta (1991)", names=["Alpha"])
    write_jsonl(tmp_path / "inspired", [alpha, both])
    (dialogue,) = read(tmp_path)
    assert dialogue.messages == (
        MarkedMessage(True, "Try alfa!", (("Alpha (1990)", "alfa"),)),
        # It is not known which of the movies the one name is of.
        MarkedMessage(False, "Alpha or Beta", (("Alpha (1990)", ""), ("Beta (1991)", ""))),
    )


def test_an_utterance_a_line(tmp_path):
    quoted = '"Alpha and QUOTATION_MARKBetaQUOTATION_MARK'  # the official files don't quote
    write_tsv(
        tmp_path,
        ("a.pkl", "1", "RECOMMENDER", "1", 'Say "hi"', "", ""),
        ("a.pkl", "2", "SEEKER", "1", quoted, "Alpha (1990); Beta (1991)"),
        ("b.pkl", "1", "SEEKER", "1", "Hi", "", "drama"),
    )
    first, second = read(tmp_path)
    assert (first.conversation_id, second.conversation_id) == ("a.pkl", "b.pkl")
    assert first.messages == (
        MarkedMessage(True, 'Say "hi"', ()),
        MarkedMessage(False, '"Alpha and "Beta"', (("Alpha (1990)", ""), ("Beta (1991)", ""))),
    )


BAD_LINES = [
    ("{", "Expecting property name"),
    ({}, "expected a list of turns, got dict"),
    ([turn("SEEKER", "Hi"), {}], "turn 2: expected an object with a text"),
    ([turn("USER", "Hi")], "turn 1: role: expected RECOMMENDER or SEEKER"),
    ([{**turn("SEEKER", "Hi"), "movie": [1]}], "turn 1: movie: expected a list of texts"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_LINES, ids=[m for _, m in BAD_LINES])
def test_a_bad_line_is_an_error_that_names_it(tmp_path, bad, message):
    write_jsonl(tmp_path / "inspired", [turn("SEEKER", "Hi")], bad)
    with pytest.raises(InspiredError, match=rf"dev.jsonl, line 2: {message}"):
        read(tmp_path)


def test_bad_tables_are_errors_that_name_the_line(tmp_path):
    write_tsv(tmp_path, ("a.pkl", "1", "BOTH", "1", "Hi"))
    with pytest.raises(InspiredError, match=r"dev.tsv, line 2: .* got 'a.pkl' and 'BOTH'"):
        read(tmp_path)
    write_tsv(tmp_path, ("a.pkl", "SEEKER"), header=("dialog_id", "speaker"))
    with pytest.raises(InspiredError, match="line 1: expected the columns text, movies"):
        read(tmp_path)
    write_tsv(tmp_path)
    with pytest.raises(InspiredError, match="expected dialogues, found none"):
        read(tmp_path)


def test_the_test_part_has_a_file_of_its_own(tmp_path):
    write_jsonl(tmp_path / "inspired", [turn("SEEKER", "Hi")])
    with pytest.raises(MissingDataError, match=r"INSPIRED's test part .* test.jsonl or test.tsv"):
        read(tmp_path, "test")
    write_jsonl(tmp_path / "inspired", [turn("SEEKER", "Bye")], part="test")
    assert read(tmp_path, "test")[0].messages[0].text == "Bye"


# --- movies ------------------------------------------------------------------------------------

CATALOGUE = ["The Alpha (1990)", "Beta (1991)", "Beta (2001)", "Gamma", "Amélie: Part II (2003)"]
MATCHES = [
    ("Alpha (1990)", (0, SAME)),
    ("alpha (1991)", (0, NEAR_YEAR)),
    ("Alpha (1992)", None),
    ("Alpha", None),  # which of many, without a year?
    ("Beta (2001)", (2, SAME)),
    ("Beta (2002)", None),  # two have the name
    ("Gamma (1980)", (3, NO_YEAR)),
    ("Amelie, part 2 (2003)", (4, SAME)),
    ("Delta (1990)", None),
    ("", None),
]


@pytest.mark.parametrize(("title", "expected"), MATCHES)
def test_movies_are_found_by_title_and_year(title, expected):
    assert MovieMatcher(CATALOGUE).find(title) == expected


WRITTEN = [
    ("Try the alpha, or Beta!", [("The Alpha (1990)", ""), ("Beta (1991)", "")], "Try @7, or @8!"),
    ("Alpha? ALPHA!", [("The Alpha (1990)", "")], "@7? @7!"),
    ("Try alfa", [("The Alpha (1990)", "alfa")], "Try @7"),
    ("Try alfa", [("The Alpha (1990)", "")], "Try alfa"),
    ("Beta and Delta", [("Delta (1990)", "")], "Beta and Delta"),
    ("Beta Beta 2", [("Beta 2 (1993)", ""), ("Beta (1991)", "")], "@8 @9"),
]


@pytest.mark.parametrize(("text", "movies", "expected"), WRITTEN)
def test_marked_movies_of_the_catalogue_become_mentions(text, movies, expected):
    items = {"The Alpha (1990)": 7, "Beta (1991)": 8, "Beta 2 (1993)": 9}
    one = MarkedDialogue("1", (MarkedMessage(True, text, tuple(movies)),))
    raw, (titles,) = with_mentions(one, items)
    assert raw.messages == ((True, expected),)
    assert [f"@{items[title]}" for title in titles] == [
        word.strip(",.!?") for word in expected.split() if word.startswith("@")
    ]
