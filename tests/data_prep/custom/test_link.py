"""Names in plain text become marks; names that may be everyday words don't."""

import pytest

from data_prep.custom.lines import OwnDataError
from data_prep.custom.link import ItemFinder, link_folder
from data_prep.custom.schema import Item
from data_prep.custom.template import FolderExistsError
from tests.fixtures.own_data import games, lines_of, without_marks, write_lines

ITEMS = [
    Item("risk", "Risk (1959)"),
    Item("azul", "Azul (2017)"),
    Item("ttr", "Ticket to Ride", aliases=("TTR",)),
    Item("clank", "Clank! (2016)", aliases=("Clank",)),
]
TEXTS = [
    "no risk no fun, i take the risk and risk it all",
    "we played Risk",
    "and Azul, and ticket to ride",
    "also Clank! and TTR",
]


def marked(text, **options):
    found, end = "", 0
    for start, stop, item in ItemFinder(ITEMS, TEXTS, **options).find(text):
        found, end = f"{found}{text[end:start]}<{item.id}>", stop
    return found + text[end:]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I like azul and Azul (2017).", "I like <azul> and <azul>."),
        ("TICKET TO RIDE or TTR?", "<ttr> or <ttr>?"),
        ("Clank! is fun, clank is not", "<clank> is fun, <clank> is not"),
        ("there is a risk", "there is a risk"),
        ("Risk (1959)", "<risk>"),  # the year says so
        ("@[azul] is not Azul", "@[azul] is not <azul>"),
        ("Azzul", "Azzul"),
    ],
)
def test_names_in_a_text(text, expected):
    assert marked(text) == expected


def test_names_that_a_person_decides_on():
    finder = ItemFinder(ITEMS, TEXTS)
    assert finder.doubtful("the risk of Azul and @[risk]") == ["Risk (1959)"]
    assert marked("there is a risk", accept=["Risk"]) == "there is a <risk>"
    assert marked("Azul", skip=["Azul"]) == "Azul"
    assert marked("ticket to rode", misspelled=True) == "<ttr>"


def test_a_folder_gets_back_the_marks_it_had(tmp_path):
    with_marks, plain = games(tmp_path / "games"), games(tmp_path / "plain")
    without_marks(plain)
    report = link_folder(plain, tmp_path / "linked")
    expected = lines_of(with_marks / "dialogues.jsonl")
    assert lines_of(tmp_path / "linked" / "dialogues.jsonl") == expected
    assert sum(report.marked.values()) == str(expected).count("@[")
    assert report.marked_before == 0 and not report.doubtful
    assert report.nodes["deck building"] == str(expected).count("deck building")
    for name in ("items.jsonl", "graph.tsv", "words.tsv"):
        assert (tmp_path / "linked" / name).read_bytes() == (plain / name).read_bytes()
    again = link_folder(tmp_path / "linked", None)
    assert not again.marked and again.marked_before == str(expected).count("@[")


def test_what_is_doubtful_is_counted_and_left(tmp_path):
    plain = games(tmp_path / "plain")
    items = [*lines_of(plain / "items.jsonl"), {"id": "luck", "name": "Luck"}]
    write_lines(plain / "items.jsonl", items)
    report = link_folder(plain, None)
    texts = [m["text"] for d in lines_of(plain / "dialogues.jsonl") for m in d["messages"]]
    assert report.doubtful == {"Luck": sum(text.count("luck") for text in texts)}
    accepted = link_folder(plain, None, accept=["luck"])
    assert accepted.marked == {"luck": report.doubtful["Luck"]} and not accepted.doubtful


def test_mistakes(tmp_path):
    folder = games(tmp_path / "games")
    with pytest.raises(OwnDataError, match="'Chess' is neither a name nor an alias"):
        link_folder(folder, None, accept=["Chess"])
    with pytest.raises(FolderExistsError, match="expected a new or empty folder"):
        link_folder(folder, folder)
