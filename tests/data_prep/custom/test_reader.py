"""A folder is read completely, or refused with every line that can't be used."""

import json
import re

import pytest

from data_prep.custom.lines import LISTED, OwnDataError
from data_prep.custom.reader import read_own_data, split_by_hash
from data_prep.custom.schema import Shares
from tests.fixtures.own_data import games, lines_of, write_lines


def dialogue(key, *texts, roles=("seeker", "recommender")):
    messages = [{"role": roles[n % 2], "text": text} for n, text in enumerate(texts)]
    return {"id": key, "messages": messages}


@pytest.fixture
def folder(tmp_path):
    return games(tmp_path / "games")


def problems(folder) -> str:
    with pytest.raises(OwnDataError) as error:
        read_own_data(folder)
    return str(error.value)


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


def test_what_looks_like_a_mention_but_is_none(folder):
    texts = ("mail me@7pm about @[catan]2", "Try @[azul] \u0007 now")
    with (folder / "dialogues.jsonl").open("a") as file:
        file.write(json.dumps(dialogue("odd", *texts)) + "\n")
    read = [d for of in read_own_data(folder).splits.values() for d in of]
    (odd,) = [d for d in read if d.conversation_id == "odd"]
    assert [text for _, text in odd.messages] == ["mail me@ 7pm about @1 2", "Try @16 now"]


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("items.jsonl", "{", "not JSON|delimiter|property name"),
        ("items.jsonl", "[1]", "expected 'object', got 'array'"),
        ("items.jsonl", '{"id": "x"}', "missing required field 'name'"),
        ("items.jsonl", '{"id": "x", "name": "X", "alias": "Y"}', "unknown field 'alias'"),
        ("items.jsonl", '{"id": 7, "name": "X"}', "expected 'str', got 'int' - at 'id'"),
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
        ("dialogues.jsonl", '{"id": "x", "messages": []}', "of length >= 1 - at 'messages'"),
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
            'invalid enum value .user.*"role": "seeker"',
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


# --- splits ------------------------------------------------------------------------------------


def test_the_split_of_a_dialogue_depends_on_its_id_alone(folder):
    before = read_own_data(folder).splits
    path = folder / "dialogues.jsonl"
    entries = lines_of(path)
    write_lines(path, [*(dialogue(f"n{i}", "Hi", "Try @[azul]") for i in range(60)), *entries])
    after = read_own_data(folder).splits
    for name in ("valid", "test"):
        ids = {d.conversation_id for d in after[name]}
        assert {d.conversation_id for d in before[name]} == {i for i in ids if i[0] == "g"}


def test_shares_of_the_splits():
    ids = [f"d{number}" for number in range(4000)]
    found = [split_by_hash(key, Shares(dev=0.05, valid=0.2, test=0.0)) for key in ids]
    assert found.count("valid") / len(ids) == pytest.approx(0.2, abs=0.02)
    assert found.count("dev") / len(ids) == pytest.approx(0.05, abs=0.01)
    assert "test" not in found


def by_file(folder, **splits):
    (folder / "dialogues.jsonl").unlink()
    for name, entries in splits.items():
        write_lines(folder / f"{name}.jsonl", entries)


def test_splits_by_file_and_test_apart(folder):
    train = [dialogue(f"t{n}", "Hi", "Try @[azul]") for n in range(40)]
    one, other = dialogue("v", "Hello", "Try @[azul]"), dialogue("x", "Hey", "Try @[catan]")
    by_file(folder, train=train, valid=[one], test=[other])
    splits = read_own_data(folder).splits
    assert len(splits["train"]) + len(splits["dev"]) == 40 and splits["dev"]
    assert [d.conversation_id for d in splits["test"]] == ["x"]
    assert "test" not in read_own_data(folder, use_test=False).splits
    write_lines(folder / "dev.jsonl", [dialogue("e", "Hi there", "Try @[azul]")])
    assert [d.conversation_id for d in read_own_data(folder).splits["dev"]] == ["e"]


def test_dialogues_in_two_splits(folder):
    train = [dialogue(f"t{n}", "Hi", "Try @[azul]") for n in range(3)]
    by_file(folder, train=train, valid=[dialogue("v", "Hi", "Try @[azul]")])
    (warning,) = [w for w in read_own_data(folder).warnings if "same text" in w]
    assert "1 dialogues of valid" in warning and "'v'" in warning
    write_lines(folder / "valid.jsonl", [train[0]])
    assert "the id 't0' is that of train.jsonl, line 1 as well" in problems(folder)
    write_lines(folder / "dialogues.jsonl", train)
    assert "either this file or splits by file" in problems(folder)


def test_splits_without_responses(folder):
    by_file(folder, train=[dialogue(f"t{n}", "Hi") for n in range(3)], valid=[])
    assert "no dialogue of the split 'train' has a turn of the recommender" in problems(folder)
    write_lines(folder / "train.jsonl", [dialogue("t", "Hi", "Ho")])
    assert "no dialogue in the split 'dev'" in problems(folder)


def test_names_that_nobody_can_tell_apart(folder):
    entries = [*lines_of(folder / "items.jsonl"), {"id": "catan-2", "name": "CATAN (1995)"}]
    write_lines(folder / "items.jsonl", entries)
    (warning,) = read_own_data(folder).warnings
    assert "is the name of 'catan' as well" in warning
