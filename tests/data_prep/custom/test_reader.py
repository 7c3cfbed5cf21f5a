"""A folder is read completely, or refused with every line that can't be used."""

import json
import re

import pytest

from data_prep.custom.lines import LISTED, OwnDataError
from data_prep.custom.reader import read_own_data
from tests.fixtures.own_data import dialogue, lines_of, problems, write_lines


def test_items_have_numbers_in_file_order_and_texts_mention_them(folder):
    data = read_own_data(folder)
    items = lines_of(folder / "items.jsonl")
    assert [item.id for item in data.items] == [item["id"] for item in items]
    numbers = {item["id"]: n for n, item in enumerate(items, start=1)}
    written = {d["id"]: d for d in lines_of(folder / "dialogues.jsonl")}
    read = [d for of in data.splits.values() for d in of]
    assert {d.conversation_id for d in read} == set(written)
    for one in read:
        texts = [m["text"] for m in written[one.conversation_id]["messages"]]
        for key, number in numbers.items():
            texts = [text.replace(f"@[{key}]", f"@{number}") for text in texts]
        assert [text for _, text in one.messages] == texts
        assert not any("@[" in text for text in texts)
    assert data.warnings == ()


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("items.jsonl", "{", "expected JSON, got '{'.*at character 2"),
        ("items.jsonl", "[1]", "expected an object, got a list"),
        ("items.jsonl", '{"id": "x"}', "missing required field 'name'"),
        (
            "items.jsonl",
            '{"id": "x", "name": "X", "alias": "Y"}',
            "'alias', expected only id, name,",
        ),
        (
            "items.jsonl",
            '{"id": 7, "name": "X"}',
            "'id': expected a text, got a whole",
        ),
        ("items.jsonl", '{"id": "a]b", "name": "X"}', "has a bracket.*without"),
        ("items.jsonl", '{"id": " x", "name": "X"}', "begins or ends with a space"),
        ("items.jsonl", '{"id": "x", "name": "X\\u0007"}', "has a control character"),
        ("items.jsonl", '{"id": "x", "name": "\\ud800"}', "half of a character"),
        ("items.jsonl", '{"id": "catan", "name": "X"}', "is that of items.jsonl, line 1 as well"),
        ("items.jsonl", '{"id": "x", "id": "y", "name": "X"}', "stands twice"),
        ("nodes.jsonl", '{"id": "catan", "name": "X"}', "is an item"),
        ("nodes.jsonl", '{"id": "deck building", "name": "X"}', "is listed twice"),
        ("graph.tsv", "catan\tby", "expected 3 cells, got 2.*one tab"),
        ("graph.tsv", "catan\t\tKlaus", "a cell is empty"),
        ("graph.tsv", "catan\tby\t Klaus", "begins or ends with a space"),
        ("words.tsv", "RelatedTo dog cat", "expected relation, word and word"),
        (
            "dialogues.jsonl",
            '{"id": "x", "messages": []}',
            "'messages': expected a list of",
        ),
        ("dialogues.jsonl", json.dumps(dialogue("game-1", "Hi", "Ho")), "line 1 as well"),
        ("dialogues.jsonl", json.dumps(dialogue("d\ud800", "Hi", "Ho")), "half of a character"),
        (
            "dialogues.jsonl",
            json.dumps(dialogue("x", "I like @[catn]", "Ho")),
            r"@\[catn\] names no item of items.jsonl. Did you mean @\[catan\]\?",
        ),
        ("dialogues.jsonl", json.dumps(dialogue("x", "I like @[catan", "Ho")), "not closed"),
        (
            "dialogues.jsonl",
            json.dumps(dialogue("x", "Hi", "Ho", roles=("user", "system"))),
            "role': expected 'seeker' or 'recommender', got 'user'",
        ),
    ],
)
def test_a_line_that_can_t_be_used(folder, name, line, message):
    path = folder / name
    number = len(path.read_text().splitlines()) + 1
    path.write_text(f"{path.read_text()}{line}\n")
    told = problems(folder)
    assert told.startswith(f"{folder}: 1 problem:\n")
    assert f"{name}, line {number}: " in told
    assert re.search(message, told), told


def test_a_file_of_another_encoding(folder):
    path = folder / "items.jsonl"
    path.write_bytes(path.read_bytes() + '{"id": "x", "name": "Café"}\n'.encode("latin-1"))
    assert "items.jsonl, line 29: expected UTF-8 text, got the byte 0xe9" in problems(folder)


def test_all_problems_are_counted_and_the_first_are_listed(folder):
    write_lines(folder / "items.jsonl", [{"id": f"x{n}"} for n in range(LISTED + 5)])
    (folder / "data.json").write_text('{"version": 2}')
    told = problems(folder)
    assert "data.json: expected version 1, got 2" in told
    assert told.count("missing required field 'name'") == LISTED - 1
    assert told.splitlines()[-1].startswith("  and ")
    assert len(told) < 20_000


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("data.json", 'data.json: .*Write {"version": 1}'),
        ("items.jsonl", "items.jsonl: expected this file"),
        ("dialogues.jsonl", "expected this file or train.jsonl"),
    ],
)
def test_a_file_that_is_not_there(folder, name, message):
    (folder / name).unlink()
    with pytest.raises(OwnDataError, match=message):
        read_own_data(folder)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OwnDataError, match="conkd-data new DIR"):
        read_own_data(tmp_path / "none")


def test_names_that_nobody_can_tell_apart(folder):
    entries = [*lines_of(folder / "items.jsonl"), {"id": "catan-2", "name": "CATAN (1995)"}]
    write_lines(folder / "items.jsonl", entries)
    (warning,) = read_own_data(folder).warnings
    assert "is the name of 'catan' as well" in warning


def test_aliases_that_two_items_have(folder):
    entries = lines_of(folder / "items.jsonl")
    entries[1]["aliases"] = ["Settlers of Catan", "azul (2017)", "Carca"]
    write_lines(folder / "items.jsonl", entries)
    first, second = read_own_data(folder).warnings
    assert "the alias 'Settlers of Catan' is a name of 'catan' as well" in first
    assert "items.jsonl, line 2: the alias 'azul (2017)' is a name of 'azul' as well" in second


def test_files_that_are_not_read_but_may_be_meant(folder):
    (folder / "words.tsv").rename(folder / "word.tsv")
    for name in ("items-old.jsonl", "notes.md"):
        (folder / name).write_text("x")
    assert read_own_data(folder).warnings == ("word.tsv is not read. Did you mean words.tsv?",)
    (folder / "dialogues.jsonl").rename(folder / "Dialogue.jsonl")
    assert "found neither. Rename Dialogue.jsonl." in problems(folder)


def test_a_broken_item_is_the_only_problem_that_is_told(folder):
    entries = lines_of(folder / "items.jsonl")
    entries[0]["alias"] = "X"
    write_lines(folder / "items.jsonl", entries)
    assert problems(folder).startswith(f"{folder}: 1 problem:\n  items.jsonl, line 1: ")
    (folder / "items.jsonl").unlink()
    assert problems(folder).startswith(f"{folder}: 1 problem:\n  items.jsonl: expected this file")


def test_shares_that_are_none(folder):
    (folder / "data.json").write_text('{"version": 1, "shares": {"valid": 0.9}}')
    told = problems(folder)
    assert "field 'shares.valid': expected a number with decimals <= 0.5" in told
    assert '"shares": {"dev": 0.05, "valid": 0.1, "test": 0.1}}' in told


def test_a_header_is_no_triple(folder):
    path = folder / "graph.tsv"
    path.write_text("Head\tRelation\tTail\n" + path.read_text())
    assert "graph.tsv, line 1: expected a triple, got a header" in problems(folder)


def test_utf_16_is_one_problem(folder):
    path = folder / "items.jsonl"
    path.write_text(path.read_text(), encoding="utf-16")
    assert "1 problem:\n  items.jsonl: expected UTF-8 text, got UTF-16" in problems(folder)
