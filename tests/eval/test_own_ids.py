"""Ids that are texts stand beside numbers, and may stand for them in what a person fills in."""

import json

import numpy as np
import pytest

from conkd_jax.data.corpus import ItemTable
from conkd_jax.eval.own_ids import OwnIds
from conkd_jax.eval.predictions import (
    PredictionError,
    from_record,
    read_predictions,
    to_record,
)
from data_prep.custom.build import build_custom
from tests.eval.predicted import A, B, C, prediction
from tests.fixtures.own_data import games, lines_of, write_lines


def items(*keys: str) -> ItemTable:
    count = len(keys) or 3
    titles = [f"Item {n}" for n in range(count)]
    numbers, nodes = np.array([A, B, C][:count]), np.arange(count, dtype=np.int32)
    return ItemTable(numbers, titles, nodes, np.ones(count, bool), list(keys) or None)


IDS = OwnIds(items("clank", "uno-2", "B00X4WHP5E"))


def test_the_ids_of_every_item_of_a_line_stand_beside_it():
    said = prediction(gold=[A], tops=[[B, C]], mentioned_items=(C,), context=())
    assert IDS.beside(said).ids == {str(A): "clank", str(B): "uno-2", str(C): "B00X4WHP5E"}
    assert IDS.beside(prediction(gold=[A, 99])).ids == {str(A): "clank"}
    assert IDS.beside(prediction()).ids == {}  # as on every line of such a corpus
    assert (IDS.of(B), IDS.of(99), IDS.of(None)) == ("uno-2", None, None)


def test_a_corpus_whose_ids_are_numbers_has_none():
    ids, said = OwnIds(items()), prediction(gold=[A])
    assert not ids and ids.of(A) is None and ids.beside(said) is said
    record = {"generated": "Try @[clank]", "generated_items": ["clank"]}
    assert ids.numbered(record, "x") is record


def test_ids_become_numbers_in_what_a_system_fills_in():
    record = {
        "generated": "Try @[uno-2]2, or @[clank]!",
        "generated_items": ["uno-2", A],
        "item_steps": [{"step": 1, "item": "uno-2", "top": ["uno-2", C]}],
        "recommender_top": ["B00X4WHP5E"],
        "reference": "I like @[clank]",
    }
    assert IDS.numbered(record, "x") == {
        "generated": f"Try @{B} 2, or @{A}!",
        "generated_items": [B, A],
        "item_steps": [{"step": 1, "item": B, "top": [B, C]}],
        "recommender_top": [C],
        "reference": "I like @[clank]",  # as the template has it: gold is not filled in
    }
    for strange in ({}, {"item_steps": [7, {}], "generated_items": 3, "generated": None}):
        assert IDS.numbered(strange, "x") == strange  # `from_record` says what is wrong


@pytest.mark.parametrize(
    "changes",
    [
        {"generated": "@[uno-3]"},
        {"generated_items": ["uno-3"]},
        {"item_steps": [{"step": 0, "item": "uno-3", "top": []}]},
        {"item_steps": [{"step": 0, "item": A, "top": ["uno-3"]}]},
        {"recommender_top": ["uno-3"]},
    ],
)
def test_an_id_of_no_item_is_refused(changes):
    (field,) = changes
    with pytest.raises(PredictionError, match=f"x: field '{field}': .* Did you mean 'uno-2'"):
        IDS.numbered(changes, "x")


def test_ids_are_numbers_and_different_texts():
    said = IDS.beside(prediction(gold=[A]))
    for wrong in ({"clank": "1"}, {"1": "clank", "2": "clank"}):
        with pytest.raises(PredictionError, match="field 'ids': expected"):
            from_record(to_record(said) | {"ids": wrong})


@pytest.fixture
def corpus(tmp_path):
    build_custom(games(tmp_path / "games"), tmp_path / "corpus")
    return tmp_path / "corpus"


def test_a_template_is_filled_in_with_ids_and_scored(tmp_path, corpus, evaluated):
    path, out = tmp_path / "valid.jsonl", tmp_path / "scored"
    evaluated("--template", split="valid", graph=corpus, out=path)
    lines = lines_of(path)
    gold = next(line for line in lines if line["reference_items"])
    (number,) = gold["reference_items"]
    own = gold["ids"][str(number)]
    assert own and all("ids" in line for line in lines)
    for line in lines:
        line |= {"generated": f"Try @[{own}] or @[hanabi].", "generated_items": [own, "hanabi"]}
    write_lines(path, lines)
    evaluated(predictions=path, graph=corpus, out=out)
    metrics = json.loads((out / "metrics.json").read_text())["metrics"]
    assert metrics["rec_ratio"] == 1 and metrics["rer@1"] > 0
    written = list(read_predictions(out / "predictions.jsonl"))
    assert all(one.generated_items[0] == number for one in written)
    assert all({own, "hanabi"} <= {*(one.ids or {}).values()} for one in written)
    # without the corpus nobody knows the numbers
    with pytest.raises(PredictionError, match=r"generated_items.*read with the corpus.*--graph"):
        evaluated(predictions=path)
    write_lines(path, [{**line, "generated_items": []} for line in lines])
    with pytest.raises(PredictionError, match=r"'generated': .* got '@\[.*--graph=RUN"):
        evaluated(predictions=path)


def test_refilled_responses_may_have_ids(tmp_path, corpus, evaluated):
    path, out = tmp_path / "valid.jsonl", tmp_path / "refilled"
    evaluated("--template", split="valid", graph=corpus, out=path)
    said = {"generated": "Try @[catan].", "generated_items": ["catan"]}
    said["item_steps"] = [{"step": 1, "item": "catan", "top": ["catan"]}]
    write_lines(path, [{**line, **said, "recommender_top": ["hanabi"]} for line in lines_of(path)])
    evaluated(predictions=path, graph=corpus, out=out, refill="first")
    for one in read_predictions(out / "predictions.jsonl"):
        assert (one.ids or {})[str(one.generated_items[0])] == "hanabi"
