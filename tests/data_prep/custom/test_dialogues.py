"""Dialogues are divided into splits, and their items are numbers in every text."""

import json

import pytest

from data_prep.custom.dialogues import split_by_hash
from data_prep.custom.reader import read_own_data
from data_prep.custom.schema import Shares
from tests.fixtures.own_data import dialogue, lines_of, problems, write_lines


def test_what_looks_like_a_mention_but_is_none(folder):
    texts = ("mail me@7pm about @[catan]2", "Try @[azul] \u0007 now")
    with (folder / "dialogues.jsonl").open("a") as file:
        file.write(json.dumps(dialogue("odd", *texts)) + "\n")
    read = [d for of in read_own_data(folder).splits.values() for d in of]
    (odd,) = [d for d in read if d.conversation_id == "odd"]
    assert [text for _, text in odd.messages] == ["mail me@ 7pm about @1 2", "Try @16 now"]


def test_an_unknown_id_is_told_once(folder):
    texts = ["Try @[uno]", "Or @[uno] or @[cattan]"]
    with (folder / "dialogues.jsonl").open("a") as file:
        for key in ("odd", "even"):
            file.write(json.dumps(dialogue(key, *texts)) + "\n")
    told = problems(folder)
    assert told.startswith(f"{folder}: 2 problems:\n") and told.count("@[uno]") == 1


def test_an_id_without_brackets_marks_nothing(folder):
    with (folder / "dialogues.jsonl").open("a") as file:
        file.write(
            json.dumps(dialogue("odd", "I own @catan and @7-wonders.", "Try @catan!")) + "\n"
        )
    (warning,) = read_own_data(folder).warnings
    place = f"line {len(lines_of(folder / 'dialogues.jsonl'))}"
    assert warning.startswith("3 times a text has an id without brackets, such as '@catan'")
    assert place in warning and warning.endswith("write '@[catan]'.")


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
