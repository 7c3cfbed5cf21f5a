"""Every line of a raw file is used or counted, whatever is in it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.raw_dialogues import (
    Problems,
    RawDialogueError,
    clean_text,
    expect_usable,
    merge_turns,
    read_jsonl,
)
from tests.data_prep.raw_files import dialogue


def read(*lines):
    problems = Problems()
    encoded = [x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines]
    return list(read_jsonl(encoded, "f.jsonl", problems)), problems


def test_roles_and_order_are_kept():
    (found,), problems = read(dialogue("5", (7, "hi"), (3, "yo"), (7, ""), seeker=3, recommender=7))
    assert found.conversation_id == "5"
    assert found.messages == ((True, "hi"), (False, "yo"), (True, ""))
    assert problems.counts == {"blank_messages": 1}


def test_malformed_lines_name_file_and_line():
    good = dialogue("1", (0, "hi"))
    broken = {**good, "messages": [{"text": 5, "senderWorkerId": 0}]}
    lines = [good, b"{", b"[]", b"", {**good, "conversationId": None}, broken, b"[" * 100_000]
    found, problems = read(*lines, {k: v for k, v in good.items() if k != "messages"})
    assert len(found) == 1
    assert problems.counts["malformed_lines"] == 6
    assert problems.examples[0].startswith("malformed_lines: f.jsonl, line 2: ")
    assert "f.jsonl, line 3: expected a JSON object, got list" in problems.examples[1]
    assert any("f.jsonl, line 6: message 0: expected" in text for text in problems.examples)
    assert any(
        "f.jsonl, line 8: expected the field 'messages'" in text for text in problems.examples
    )


@pytest.mark.parametrize("worker", ["0", 0.0, None, True, [0]])
@pytest.mark.parametrize("field", ["initiatorWorkerId", "respondentWorkerId", "senderWorkerId"])
def test_a_worker_id_that_is_no_integer_is_refused(field, worker):
    raw = dialogue("1", (0, "hi"), (1, "yo"))
    part = raw["messages"][1] if field == "senderWorkerId" else raw
    part[field] = worker
    found, problems = read(raw)
    assert found == [] and problems.counts == {"malformed_lines": 1}
    where = "message 1: senderWorkerId" if field == "senderWorkerId" else field
    got = json.dumps(worker)
    assert f"line 1: {where}: expected an integer, got {got}" in problems.first_unusable_line


@pytest.mark.parametrize("form", ["pretty-printed", "array"])
def test_a_file_of_another_form_is_refused_by_line(form):
    raws = [dialogue(str(i), (0, "hi"), (1, "yo")) for i in range(3)]
    indent = 2 if form == "pretty-printed" else None
    text = json.dumps(raws, indent=indent)
    found, problems = read(*text.encode().splitlines(keepends=True))
    with pytest.raises(RawDialogueError, match="f.jsonl: expected a dialogue, a JSON object") as e:
        expect_usable(len(found), problems, "f.jsonl")
    assert "f.jsonl, line 1: " in str(e.value) and "jq -c" in str(e.value)


@pytest.mark.parametrize("lines", [[], [b"\xef\xbb\xbf\n", b" \n"]])
def test_an_empty_file_is_refused(lines):
    found, problems = read(*lines)
    with pytest.raises(RawDialogueError, match="f.jsonl: .* got an empty file. Get the file"):
        expect_usable(len(found), problems, "f.jsonl")


def test_half_of_the_lines_must_be_dialogues():
    good = [dialogue(str(i), (0, "hi")) for i in range(3)]
    for bad, is_refused in ((3, False), (4, True)):
        found, problems = read(*good, *[b"{"] * bad)
        try:
            expect_usable(len(found), problems, "f.jsonl")
        except RawDialogueError:
            assert is_refused
        else:
            assert not is_refused


def test_a_byte_order_mark_and_a_blank_last_line_are_no_problems():
    line = json.dumps(dialogue("1", (0, "hi"))).encode()
    found, problems = read(b"\xef\xbb\xbf" + line + b"\r\n", b"\r\n")
    assert len(found) == 1 and not problems.counts


def test_empty_dialogues_are_counted_and_left_out():
    found, problems = read(dialogue("1"), dialogue("2", (0, " \n"), (1, "\x00")), dialogue("3"))
    assert found == []
    assert problems.counts["empty_dialogues"] == 3


def test_a_repeated_id_keeps_the_first():
    found, problems = read(dialogue("1", (0, "a")), dialogue(1, (0, "b")))
    assert [d.messages[0][1] for d in found] == ["a"]
    assert problems.counts["duplicate_ids"] == 1


def test_a_dialogue_of_ten_thousand_turns_is_kept_and_counted():
    (found,), problems = read(dialogue("1", *((i % 2, f"m{i}") for i in range(10_000))))
    assert len(merge_turns(found.messages)) == 10_000
    assert problems.counts["over_long_dialogues"] == 1


def test_a_stranger_speaks_for_the_seeker():
    (found,), problems = read(dialogue("1", (9, "hi"), (1, "yo")))
    assert found.messages == ((False, "hi"), (True, "yo"))
    assert problems.counts["unknown_senders"] == 1


def test_odd_characters_are_stored_or_replaced():
    problems = Problems()
    text = "a\x00b\tc\r\n\x7f d\ud83d 😀 Привет ’"
    assert clean_text(text, problems) == "a b c d\ufffd 😀 Привет ’"
    assert problems.counts == {
        "control_characters": 2,
        "lone_surrogates": 1,
        "emoji": 1,
        "other_non_ascii": 7,
    }


def test_invalid_utf8_is_replaced_and_counted():
    line = json.dumps(dialogue("1", (0, "caf?"))).encode().replace(b"?", b"\xff")
    (found,), problems = read(line)
    assert found.messages == ((False, "caf\ufffd"),)
    assert problems.counts["invalid_utf8_lines"] == 1
    assert "f.jsonl, line 1" in problems.examples[0]


def test_a_report_lists_few_examples_and_counts_all():
    _, problems = read(*[b"{"] * 100)
    report = problems.as_json()
    assert report["malformed_lines"] == 100 and len(report["examples"]) == 20
    assert report["empty_dialogues"] == 0


def test_merging_alternates_speakers():
    merged = merge_turns([(False, "a"), (False, "b"), (True, "c"), (False, "")])
    assert merged == [(False, ["a", "b"]), (True, ["c"]), (False, [""])]


def test_titles_are_read_from_mentions():
    raw = dialogue("1", (0, "@5"))
    (found,), _ = read({**raw, "movieMentions": {"5": "A  B", "x": "C", "6": None, "9" * 19: "D"}})
    assert found.titles == {5: "A B"}
    (found,), _ = read({**raw, "movieMentions": {"5": "Why Him%3F (2016)"}})
    assert found.titles == {5: "Why Him? (2016)"}
    (found,), _ = read({**raw, "movieMentions": []})
    assert found.titles == {}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=5))
def test_any_bytes_are_used_or_counted(lines):
    found, problems = read(*lines)
    assert len(found) + sum(
        problems.counts[kind] for kind in ("malformed_lines", "empty_dialogues", "duplicate_ids")
    ) == sum(bool(line.strip()) for line in lines)


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["conversationId", "messages", "text", "senderWorkerId"])
                | st.sampled_from(["initiatorWorkerId", "respondentWorkerId", "movieMentions"]),
                inner,
                max_size=5,
            )
        ),
        max_leaves=15,
    )
)
def test_any_json_is_used_or_counted(value):
    found, problems = read(value)
    for raw in found:
        raw.conversation_id.encode("utf-8")
        for _, text in raw.messages:
            text.encode("utf-8")
    assert len(found) + problems.counts["malformed_lines"] + problems.counts["empty_dialogues"] == 1
