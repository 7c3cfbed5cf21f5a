"""iEvaLM's files of OpenDialKG: dialogues from their lines, splits without leaks, strict errors."""

import json

import pytest

from data_prep.opendialkg.annotated import OpenDialKGError
from data_prep.opendialkg.files import find_files
from data_prep.opendialkg.processed import read_processed
from data_prep.raw_dialogues import Problems
from tests.data_prep.opendialkg.handmade import FIRST, LINES, line, write_processed


def read(folder):
    _, files = find_files(folder)
    return read_processed(files)


def test_the_lines_of_a_dialogue_are_joined_into_its_longest(tmp_path):
    (one,) = (
        d for d in read(write_processed(tmp_path)).splits["train"] if d.conversation_id == "1"
    )
    assert one.messages == (
        (False, FIRST[0]),
        (True, FIRST[1]),
        (False, FIRST[2]),
        (True, 'He made "Beta".'),
    )
    assert one.recommended == ((), ("Alpha Rising",), (), ("Beta",))
    assert set(one.names) == {"Jane Doe", "John Roe", "Alpha Rising", "Beta"}


def test_a_dialogue_belongs_to_one_split(tmp_path):
    """Lines of dialogue 3 are in train and valid, those of dialogue 1 in train and test."""
    found = read(write_processed(tmp_path, test=LINES["test"]))
    ids = {name: [d.conversation_id for d in split] for name, split in found.splits.items()}
    assert ids == {"train": ["1", "2", "7"], "valid": ["3", "4"], "test": ["9"]}
    assert found.left_out == {"train_in_valid": 1, "test_in_train_or_valid": 1}


def test_the_test_file_may_be_missing(tmp_path):
    assert set(read(write_processed(tmp_path)).splits) == {"train", "valid"}


BAD_LINES = [
    ("{", "Expecting property name"),
    ("[]", "expected a JSON object, got list"),
    ({"dialog_id": 5}, "turn_id: expected int, got none"),
    (line(5, ["Hi"], "Beta", ["Beta"], dialog_id="5"), "dialog_id: expected int, got str"),
    (line(5, ["Hi"], "Beta", ["Beta"], turn_id=2), "got 2 and 1 texts"),
    (line(5, [], "Beta", ["Beta"]), "got 0 and 0 texts"),
    (line(5, ["Hi"], "Beta", []), "rec: expected at least one recommended name"),
    (line(5, ["Hi"], "Beta", [7]), "rec: expected a list of texts"),
    (line(1, ["Bye"], FIRST[1], ["Beta"]), "the same dialogue as in .*line 2, dialog_id 1"),
    (line(1, FIRST[:2], FIRST[2], ["Beta"]), "with the same speakers"),
    (line(1, FIRST[:1], FIRST[1], ["Beta"]), "got turn 1 of dialog_id 1 twice"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_LINES, ids=[m for _, m in BAD_LINES])
def test_a_bad_line_is_an_error_that_names_it(tmp_path, bad, message):
    write_processed(tmp_path, train=[*LINES["train"], bad])
    with pytest.raises(OpenDialKGError, match=rf"train_data_processed.jsonl, line 6: .*{message}"):
        read(tmp_path)


def test_an_empty_file_and_bytes_that_are_no_text_are_errors(tmp_path):
    write_processed(tmp_path, valid=[])
    with pytest.raises(OpenDialKGError, match=r"valid_data_processed.jsonl: .* empty file"):
        read(tmp_path)
    (tmp_path / "opendialkg" / "valid_data_processed.jsonl").write_bytes(b'{"dialog_id": "\xff"}')
    with pytest.raises(OpenDialKGError, match=r"line 1: .*utf-8"):
        read(tmp_path)


BAD_TABLES = [
    ("entity2id.json", {"Beta": 0, "Her": 2}, "numbers from 0 to 1"),
    ("entity2id.json", [], "expected a JSON object, got list"),
    ("item_ids.json", [0, 99], "from 0 to 9, got 99"),
    ("item_ids.json", [0, 0], "got none, or one twice"),
    ("kg.json", {"0": [[0]]}, r"got \[0\] under '0'"),
    ("kg.json", {"0": [[0, 10]]}, "numbers of entities below 10"),
    ("kg.json", {"x": [[0, 1]]}, "under 'x'"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_TABLES)
def test_a_bad_table_is_an_error_that_names_the_file(tmp_path, name, content, message):
    write_processed(tmp_path)
    (tmp_path / "opendialkg" / name).write_text(json.dumps(content))
    with pytest.raises(OpenDialKGError, match=rf"{name}: .*{message}"):
        read(tmp_path)


def test_unusual_characters_are_counted_by_file(tmp_path):
    write_processed(tmp_path, valid=[line(4, ["Café \u0007?"], "Her", ["Her"])])
    found = read(tmp_path)
    problems: Problems = found.problems["valid_data_processed.jsonl"]
    assert problems.counts["control_characters"] == problems.counts["other_non_ascii"] == 1
    assert found.splits["valid"][0].messages[0] == (False, "Café ?")
