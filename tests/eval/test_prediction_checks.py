"""A fact that a line states twice is stated once: disagreements are refused by field."""

import json

import pytest

from conkd_jax.eval.predictions import PredictionError, from_record, read_predictions, to_record
from tests.eval.predicted import A, B, C, D, prediction

LINE = to_record(
    prediction(
        3,
        (A,),
        [(B, A)],
        generated=f"try @{B}!",
        context=({"role": "seeker", "text": f"I saw @{C}"},),
        mentioned_items=(C,),
        reference=f"@{A} and @{D}",
        reference_items_out_of_vocabulary=(D,),
        token_nll=(1.0, 1.0),
        token_is_item=(True, False),
        item_steps=(),
    )
) | {"item_steps": [{"step": 1, "item": B, "top": [B, A]}]}


def test_a_line_that_agrees_with_itself_is_read():
    assert from_record(LINE).generated_items == (B,)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"generated_tokens": list("try @11!")}, "generated_tokens"),
        ({"generated_items": [], "item_steps": []}, "generated_items"),
        ({"generated": "try it!", "generated_tokens": ["try", "it", "!"]}, "generated_items"),
        ({"generated": f"@{B} @{B}", "generated_tokens": [f"@{B}"] * 2}, "generated_items"),
        ({"reference": f"@{A}"}, "reference_items"),
        ({"reference": f"@{A} @{A} and @{D}"}, "reference_items"),
        ({"reference_items_out_of_vocabulary": []}, "reference_items"),
        ({"reference_items": [D, A], "reference_items_out_of_vocabulary": []}, "reference_items"),
        ({"turn_type": "gen"}, "turn_type"),
        ({"mentioned_items": [C, A]}, "mentioned_items"),  # would take a gold item away
        ({"mentioned_items": [C, C]}, "mentioned_items"),
        ({"context": [{"role": "seeker", "text": f"@{C} or @{A}"}]}, "mentioned_items"),
        ({"item_steps": [{"step": 1, "item": B, "top": [A, B]}]}, r"item_steps\[0\].top"),
        ({"item_steps": [{"step": 1, "item": B, "top": []}]}, r"item_steps\[0\].top"),
        ({"token_is_item": [True, True]}, "token_is_item"),
    ],
)
def test_a_disagreement_is_refused_by_field(tmp_path, changes, field):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(LINE) + "\n" + json.dumps(LINE | {"turn": 5} | changes) + "\n")
    with pytest.raises(PredictionError, match=rf"line 2: field '{field}'.*: expected .* got "):
        list(read_predictions(path))


def test_item_steps_ascend():
    steps = [{"step": 1, "item": B, "top": [B]}, {"step": 0, "item": A, "top": [A]}]
    changes = {"generated": f"@{B} @{A}", "generated_items": [B, A], "item_steps": steps}
    with pytest.raises(PredictionError, match="'item_steps': expected steps that ascend"):
        from_record(LINE | changes | {"generated_tokens": [f"@{B}", f"@{A}"]})


@pytest.mark.parametrize(
    ("field", "first", "second"), [("split", "test", "dev"), ("predicted_turn_type", "rec", None)]
)
def test_lines_agree_on_the_split_and_on_having_a_prefix(tmp_path, field, first, second):
    path = tmp_path / "p.jsonl"
    lines = [LINE | {field: first}, LINE | {"turn": 5, field: second}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(PredictionError, match=f"line 2: field '{field}': expected"):
        list(read_predictions(path))
