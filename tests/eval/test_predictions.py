"""The schema of predictions.jsonl: what is written is read back, and what is wrong is named."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.data.mentions import tokens
from conkd_jax.eval.prediction_checks import mentioned_ids, spell_apart
from conkd_jax.eval.predictions import (
    REQUIRED,
    ContextTurn,
    ItemStep,
    Prediction,
    PredictionError,
    from_record,
    read_predictions,
    to_record,
    write_predictions,
)

FIELDS = (  # the order and the names that the design promises
    "conversation_id",
    "turn",
    "turn_type",
    "predicted_turn_type",
    "context",
    "mentioned_items",
    "reference",
    "reference_items",
    "reference_items_out_of_vocabulary",
    "generated",
    "generated_tokens",
    "generated_items",
    "item_steps",
    "recommender_top",
    "token_nll",
    "token_is_item",
)


def example(turn=3, **changes) -> Prediction:
    fields = {
        "conversation_id": "20001",
        "turn": turn,
        "turn_type": "rec",
        "predicted_turn_type": "gen",
        "context": (
            ContextTurn("seeker", "Hi! 😀\n"),
            ContextTurn("recommender", "@5 \u2028 \ud83d"),
        ),
        "mentioned_items": (5,),
        "reference": "Have you seen @7 or @99?",
        "reference_items": (7,),
        "reference_items_out_of_vocabulary": (99,),
        "generated": "Try @7",
        "generated_tokens": ("Try", "@7"),
        "generated_items": (7,),
        "item_steps": (ItemStep(1, 7, (7, 5, 8)),),
        "recommender_top": (5, 7),
        "token_nll": (0.1, 1 / 3, 2.0),
        "token_is_item": (False, True, False),
    }
    return Prediction(**(fields | changes))


def test_what_is_written_is_read_back_exactly(tmp_path):
    run = [example(1), example(3, recommender_top=()), example(5)]
    path = tmp_path / "predictions.jsonl"
    assert write_predictions(path, iter(run)) == 3
    assert list(read_predictions(path)) == run
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    assert tuple(json.loads(lines[0])) == FIELDS


def test_a_byte_order_mark_and_blank_lines_are_no_predictions(tmp_path):
    path = tmp_path / "predictions.jsonl"
    write_predictions(path, [example(1), example(3)])
    first, second = path.read_bytes().splitlines()
    path.write_bytes(b"\xef\xbb\xbf" + first + b"\r\n\n" + second + b"\n\n")
    assert list(read_predictions(path)) == [example(1), example(3)]


@settings(deadline=None)
@given(st.text(), st.text(), st.lists(st.floats(0, 50), max_size=4))
def test_any_text_and_number_survives(text, other, token_nll):
    generated = spell_apart(other, ())
    one = example(
        context=(ContextTurn("seeker", text),),
        mentioned_items=tuple(dict.fromkeys(mentioned_ids(text))),
        generated=generated,
        generated_tokens=tuple(tokens(generated)),
        generated_items=(),
        item_steps=(),
        token_nll=tuple(token_nll),
        token_is_item=(False,) * len(token_nll),
    )
    assert from_record(json.loads(json.dumps(to_record(one)))) == one


def test_a_numpy_number_is_named():
    record = to_record(example()) | {"turn": np.int64(3)}
    with pytest.raises(PredictionError, match="field 'turn': expected `int`, got .*3"):
        from_record(record)


def test_reading_and_writing_stream(tmp_path):
    path = tmp_path / "p.jsonl"

    def endless():
        turn = 0
        while True:
            assert turn < 10, "more was asked for than was read"
            yield example(turn)
            turn += 1

    with pytest.raises(AssertionError, match="more was asked for"):
        write_predictions(path, endless())
    assert list(tmp_path.iterdir()) == []  # nothing half-written stays
    write_predictions(path, (example(turn) for turn in range(3)))
    with path.open("a") as file:
        file.write("broken\n")
    reader = read_predictions(path)
    assert [next(reader).turn for _ in range(3)] == [0, 1, 2]  # before the broken line is met
    with pytest.raises(PredictionError, match="line 4"):
        next(reader)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("turn", -1, "field 'turn': expected `int` >= 0, got -1"),
        ("turn", True, "field 'turn': expected `int`, got True"),
        ("turn", "1", "field 'turn': expected `int`, got '1'"),
        ("turn", 1.0, "field 'turn': expected `int`, got 1.0"),
        ("conversation_id", 7, "field 'conversation_id': expected `str`, got 7"),
        ("turn_type", "chat", "field 'turn_type': expected 'rec' or 'gen', got 'chat'"),
        ("turn_type", "rec\n", r"field 'turn_type': expected 'rec' or 'gen', got 'rec\\n'"),
        ("turn_type", None, "field 'turn_type': expected 'rec' or 'gen', got null"),
        ("token_nll", None, "field 'token_nll': expected a value, or no such field, got null"),
        ("predicted_turn_type", 1, "expected 'rec' or 'gen' or null, got 1"),
        ("context", "hi", "field 'context': expected `array`, got 'hi'"),
        (
            "context",
            [{"role": "seeker", "text": "", "mood": 1}],
            r"'context\[0\].mood': expected no",
        ),
        ("context", [{"role": "bot", "text": ""}], r"field 'context\[0\].role': expected 'seeker'"),
        ("context", [{"role": "seeker"}], r"field 'context\[0\].text': expected a value"),
        ("reference_items", [3, 4.5], r"field 'reference_items\[1\]': expected `int`, got 4.5"),
        (
            "generated_tokens",
            ["a", None],
            r"field 'generated_tokens\[1\]': expected `str`, got None",
        ),
        ("item_steps", [{"step": 0, "item": 1}], r"field 'item_steps\[0\].top': expected a value"),
        ("item_steps", [{"step": 0, "item": 1, "top": [1, 1]}], "different items, best first"),
        ("item_steps", [7], r"field 'item_steps\[0\]': expected `object`, got 7"),
        (
            "item_steps",
            [{"step": 0, "item": 7, "top": [7, -1]}],
            r"'item_steps\[0\].top\[1\]': expected `int` >= 0, got -1",
        ),
        ("recommender_top", list(range(51)), "expected `array` of length <= 50, got"),
        ("token_nll", [float("nan")] * 3, r"field 'token_nll\[0\]': expected a finite number"),
        ("token_nll", ["1"] * 3, r"field 'token_nll\[0\]': expected `float`, got '1'"),
        ("token_is_item", [0, 1, 0], r"field 'token_is_item\[0\]': expected `bool`, got 0"),
        (
            "token_item_mass",
            [0, 1, 1.5],
            r"'token_item_mass\[2\]': expected `float` <= 1.0, got 1.5",
        ),
        ("token_item_mass", [0, True, 0], r"'token_item_mass\[1\]': expected `float`, got True"),
        ("token_is_item", [True], "expected one value for each of the 3 of 'token_nll', got 1"),
        ("token_nll_predprefix", [1.0], "each of the 3 of 'token_nll', got 1"),
        (
            "generated_items",
            [8],
            r"field 'item_steps': expected the items \(8,\) of 'generated_items', got \(7,\)",
        ),
        ("lambda", 1, "field 'lambda': expected only the fields conversation_id"),
        ("\ud83d", 1, r"field '\\ud83d': expected only the fields conversation_id"),
        ("turn", "\ud83d", r"field 'turn': expected `int`, got '\\ud83d'"),
        ("context", ["\ud83d"], r"field 'context\[0\]': expected `object`, got '\\ud83d'"),
        ("token_nll", [10**400] * 3, r"field 'token_nll\[0\]': expected a finite number"),
        (
            "context",
            [{"role": "seeker", "text": "", "a` - at `$.b": 1}],
            r"'context\[0\].a` - at `\$.b': expected no",
        ),
    ],
)
def test_a_bad_field_is_named_with_file_and_line(tmp_path, field, value, message):
    path = tmp_path / "p.jsonl"
    bad = to_record(example(5)) | {field: value}
    path.write_text(json.dumps(to_record(example(1))) + "\n" + json.dumps(bad) + "\n")
    with pytest.raises(PredictionError, match=message) as caught:
        list(read_predictions(path))
    assert str(caught.value).startswith(f"{path}, line 2: ")


@pytest.mark.parametrize("field", REQUIRED)
def test_a_missing_field_is_named(field):
    record = to_record(example())
    del record[field]
    with pytest.raises(PredictionError, match=f"field '{field}': expected a value"):
        from_record(record)


def test_six_fields_are_enough():
    record = {name: value for name, value in to_record(example()).items() if name in REQUIRED}
    assert len(record) == 6
    one = from_record(record)
    assert one.turn_type == "rec"
    assert one.generated_tokens == ("Try", "@7")
    assert one.context == ()
    for field in FIELDS[5:]:
        if field not in (*REQUIRED, "generated_tokens"):
            assert getattr(one, field) is None
    assert from_record({**record, "reference_items": []}).turn_type == "gen"
    assert from_record(json.loads(json.dumps(to_record(one)))) == one


@pytest.mark.parametrize("field", [name for name in FIELDS if name not in REQUIRED])
def test_an_optional_field_is_on_every_line_or_on_none(tmp_path, field):
    path = tmp_path / "p.jsonl"
    first, second = to_record(example(1)), to_record(example(3))
    for record in (first, second):
        if field == "token_nll":
            del record["token_is_item"]
    del second[field]
    path.write_text(json.dumps(second) + "\n")
    assert len(list(read_predictions(path))) == 1  # on none
    for lines, got in (((first, second), "without"), ((second, first), "with")):
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        message = rf"line 2: field '{field}': expected it on every line or on none, .* {got} it"
        with pytest.raises(PredictionError, match=message):
            list(read_predictions(path))


def test_marks_of_tokens_need_their_scores():
    record = to_record(example())
    del record["token_nll"]
    with pytest.raises(PredictionError, match="'token_is_item': expected 'token_nll' beside it"):
        from_record(record)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PredictionError, match=r"p.jsonl: expected a predictions.jsonl, found no"):
        next(read_predictions(tmp_path / "p.jsonl"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"[1, 2]", r"expected a JSON object, got \[1, 2\]"),
        (b'{"conversation_id": "20', "cut short"),
        (b'{"conversation_id": "\xff"}', "expected UTF-8 text"),
        (b'{"turn": ' + b"9" * 5000 + b"}", "expected one JSON object on the line"),
        (b"[" * 100_000, "expected one JSON object on the line"),
    ],
)
def test_a_line_that_is_no_object_is_named(tmp_path, line, message):
    path = tmp_path / "p.jsonl"
    path.write_bytes(json.dumps(to_record(example(1))).encode() + b"\n" + line + b"\n")
    with pytest.raises(PredictionError, match=message) as caught:
        list(read_predictions(path))
    assert "line 2" in str(caught.value)


def test_blank_lines_and_a_byte_order_mark_are_no_damage(tmp_path):
    path = tmp_path / "p.jsonl"
    write_predictions(path, [example(1), example(3)])
    first, second = path.read_bytes().splitlines()
    path.write_bytes(b"\xef\xbb\xbf" + first + b"\r\n\r\n" + second + b"\r\n\r\n \n")
    assert list(read_predictions(path)) == [example(1), example(3)]
    path.write_bytes(b"\n" + first + b"\n\n" + second[:-5])
    with pytest.raises(PredictionError, match="line 4: .*cut short"):
        list(read_predictions(path))


def test_a_file_cut_anywhere_in_its_last_line_is_refused(tmp_path):
    path = tmp_path / "p.jsonl"
    write_predictions(path, [example(1), example(3)])
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(last + 1, len(whole) - 1, 37):
        path.write_bytes(whole[:cut])
        with pytest.raises(PredictionError, match="line 2"):
            list(read_predictions(path))


def test_a_response_that_comes_twice_is_refused(tmp_path):
    path = tmp_path / "p.jsonl"
    with pytest.raises(PredictionError, match="each response once"):
        write_predictions(path, [example(1), example(1)])
    line = json.dumps(to_record(example(1))) + "\n"
    path.write_text(line * 2)
    with pytest.raises(PredictionError, match=r"line 2: .*got \('20001', 1\) again"):
        list(read_predictions(path))


def test_writing_refuses_what_reading_would(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text("the last run's\n")
    bad = example(token_nll=(float("inf"), 0.0, 0.0))
    with pytest.raises(PredictionError, match=r"\('20001', 3\)\): field 'token_nll\[0\]'"):
        write_predictions(path, [example(1), bad])
    assert path.read_text() == "the last run's\n"
    assert list(tmp_path.iterdir()) == [path]


def test_predictions_are_immutable_and_hold_plain_tuples():
    one = from_record(json.loads(json.dumps(to_record(example()))))
    assert type(one.token_nll) is type(one.item_steps) is type(one.item_steps[0].top) is tuple
    with pytest.raises(AttributeError, match="immutable"):
        one.turn = 4
    with pytest.raises(TypeError):
        Prediction("20001", 3)
