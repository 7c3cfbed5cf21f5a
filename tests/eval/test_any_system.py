"""A predictions.jsonl of any system: scored by the program, which lists what it lacks."""

import json

import numpy as np
import pytest
from msgspec.structs import replace

from conkd_jax.cli.command_line import UsageError
from conkd_jax.data.corpus import (
    ConceptGraph,
    Dialogue,
    ItemTable,
    KnowledgeGraph,
    Turn,
)
from conkd_jax.data.corpus_writing import write_corpus
from conkd_jax.eval.document import EXTERNAL, metrics_document
from conkd_jax.eval.predictions import (
    PredictionError,
    read_predictions,
    to_record,
    write_predictions,
)
from conkd_jax.io.files import write_json
from tests.eval.predicted import A, B, C, prediction, random_run


def write_lines(path, run, fields):
    lines = [{k: v for k, v in to_record(p).items() if k in fields} for p in run]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


BARE = ("conversation_id", "turn", "reference", "reference_items", "generated", "generated_items")


def test_six_fields_give_a_table_a_document_and_figures(tmp_path, evaluated):
    path = tmp_path / "their system.jsonl"
    write_lines(path, random_run(8), BARE)
    out = evaluated(predictions=path, out=tmp_path / "scored", split="test")
    assert "their_system (external) on test: 40 responses" in out
    (told,) = [line for line in out.splitlines() if line.startswith("Left out: ")]
    for field in ("item_steps", "recommender_top", "mentioned_items", "token_nll", "no graph"):
        assert field in told
    document = json.loads((tmp_path / "scored" / "metrics.json").read_text())
    assert (document["config"], document["backbone"]) == ("their_system", "")
    assert (document["preset"], document["split"]) == (EXTERNAL, "test")
    assert {"rer@1", "rec_ratio", "dist-2", "bleu-1"} <= set(document["metrics"])
    assert not {"rer@10", "ppl", "recall@1", "f1@1_novel"} & set(document["metrics"])
    assert set(document["intervals"]) <= set(document["metrics"])
    figures = {path.name for path in (tmp_path / "scored" / "figures").iterdir()}
    assert figures == {"items_in_responses.png"}


def test_results_are_written_before_they_are_printed(tmp_path, evaluated, monkeypatch):
    path, out = tmp_path / "full.jsonl", tmp_path / "scores"
    write_predictions(path, [prediction()])

    def fails(*_):
        raise RuntimeError

    monkeypatch.setattr("conkd_jax.cli.command_line.show", fails)
    with pytest.raises(RuntimeError):
        evaluated(predictions=path, split="valid", out=out)
    assert (out / "metrics.json").exists() and (out / "figures").exists()


def test_a_full_file_lacks_nothing_but_a_graph(tmp_path, evaluated):
    path = tmp_path / "full.jsonl"
    full = (
        prediction(
            p.turn,
            p.reference_items,
            [step.top for step in p.item_steps],
            p.conversation_id,
            recommender_top=p.recommender_top,
            token_nll=p.token_nll,
            token_is_item=p.token_is_item,
            token_nll_predprefix=p.token_nll,
            token_item_mass=(0.5,) * len(p.token_nll),
        )
        for p in random_run(8)
    )
    write_predictions(path, full)
    out = evaluated(predictions=path, out=tmp_path / "scored", split="test")
    assert "Left out: 2-hop relevance, coverage, Gini, popularity bias" in out
    document = json.loads((tmp_path / "scored" / "metrics.json").read_text())
    assert document["metrics"]["ppl"] == document["metrics"]["ppl_predprefix"]
    cut_offs = {name for name in document["metrics"] if name.startswith("f1@")}
    assert {name.split("@")[1].split("_")[0] for name in cut_offs} == {"1", "10", "50"}
    assert (tmp_path / "scored" / "figures" / "over_k.png").exists()


def test_a_graph_adds_two_hops_and_the_catalogue(tmp_path, evaluated):
    # Movies A and B share node 3; C stands alone. A is mentioned, C is gold, B is said.
    write_corpus(
        tmp_path / "corpus",
        splits={"train": [Dialogue("t", (Turn("seeker", "@10 @10 @12", (0, 0, 2), (), (), ()),))]},
        items=ItemTable(
            np.array([A, B, C]),
            ["a", "b", "c"],
            np.array([0, 1, 2], np.int32),
            np.array([True, True, False]),
        ),
        graph=KnowledgeGraph(4, 1, ["r"], np.array([[0, 0, 3], [1, 0, 3]], np.int32), "kgsf"),
        concept_graph=ConceptGraph(0, np.zeros((0, 2), np.int32), [], np.zeros(0, bool)),
        report={},
    )
    path = tmp_path / "p.jsonl"
    run = [prediction(1, (C,), [(B, A, C)], mentioned_items=(A,), recommender_top=(C, B, A))]
    write_predictions(path, run)
    evaluated(predictions=path, graph=tmp_path / "corpus", out=tmp_path / "scored", split="valid")
    metrics = json.loads((tmp_path / "scored" / "metrics.json").read_text())["metrics"]
    assert (metrics["rer@1"], metrics["rer@1_2hop"]) == (0, 1)
    assert metrics["rer@50"] == 1  # the lists hold the whole catalogue
    assert metrics["coverage"] == pytest.approx(1 / 3)
    assert metrics["popularity_bias"] == -1  # B was never mentioned in training
    assert "recall@1_linked" not in metrics  # C has no entity


def test_a_run_of_ours_stays_what_it_is(tmp_path, evaluated):
    path = tmp_path / "predictions.jsonl"
    count = write_predictions(path, random_run(4))
    own = metrics_document(
        config_name="kgsf_hard",
        preset="mini",
        backbone="kgsf",
        split="test",
        seed=3,
        config_sha256="0",
        counts={"responses": count},
        metrics={"lambda_r": 0.5, "rec_ratio": 0.0},
        command="train",
        machine="m",
        git="g",
        paper_row="KGSF + ConKD (hard)",
    )
    write_json(tmp_path / "metrics.json", own)
    out = evaluated(predictions=path, out=tmp_path / "again")
    assert "kgsf_hard (mini) on test" in out and "KGSF + ConKD (hard)" in out
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert (again["config"], again["seed"], again["command"]) == ("kgsf_hard", 3, "train")
    assert again["metrics"]["lambda_r"] == 0.5
    assert again["metrics"]["rec_ratio"] > 0
    # … but not if the file is another's
    write_json(tmp_path / "metrics.json", own | {"n_responses": 7})
    assert "kgsf_hard" not in evaluated(predictions=path, split="test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected one of --workdir=RUN"),
        ({"workdir": "a", "predictions": "b"}, "expected one of --workdir=RUN"),
        ({"workdir": "a", "out": "b"}, "--out needs --predictions"),
        ({"workdir": "a", "graph": "b"}, "--graph needs --predictions"),
    ],
)
def test_options_that_do_not_go_together(evaluated, options, message):
    with pytest.raises(UsageError, match=message):
        evaluated(**options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"p.jsonl: expected at least one response, got none"),
        ("{}\n", "line 1: field 'conversation_id': expected a value"),
        ("[]\n", "line 1: expected a JSON object"),
    ],
)
def test_a_file_that_holds_no_responses_is_named(tmp_path, evaluated, text, message):
    path = tmp_path / "p.jsonl"
    path.write_text(text)
    with pytest.raises(PredictionError, match=message):
        evaluated(predictions=path)


def test_refilled_responses_are_scored_and_written(tmp_path, evaluated):
    path = tmp_path / "spoken.jsonl"
    backwards = (replace(p, recommender_top=p.recommender_top[::-1]) for p in random_run(8))
    write_predictions(path, backwards)
    evaluated(predictions=path, out=tmp_path / "spoken", split="test")
    evaluated(predictions=path, out=tmp_path / "refilled", refill="first", split="test")
    spoken, refilled = (
        json.loads((tmp_path / name / "metrics.json").read_text())["metrics"]
        for name in ("spoken", "refilled")
    )
    assert refilled["rer@10"] == spoken["rer@10_refilled"]
    assert refilled["mismatch"] == 0 < spoken["mismatch"]
    assert refilled["rec_ratio"] == spoken["rec_ratio"]
    for one in read_predictions(tmp_path / "refilled" / "predictions.jsonl"):
        assert set(one.generated_items) <= {one.recommender_top[0]}


def test_refilling_needs_a_folder_of_its_own_and_the_fields(tmp_path, evaluated):
    path = tmp_path / "predictions.jsonl"
    write_lines(path, random_run(2), BARE)
    for out in ("", tmp_path):
        with pytest.raises(UsageError, match="expected --out with another folder"):
            evaluated(predictions=path, out=out, refill="first", split="test")
    with pytest.raises(PredictionError, match="item_steps and recommender_top"):
        evaluated(predictions=path, out=tmp_path / "scored", refill="in_order", split="test")
    assert not (tmp_path / "scored" / "predictions.jsonl").exists()


def test_a_system_of_the_paper_stands_beside_the_row_that_is_asked_for(tmp_path, evaluated):
    path = tmp_path / "kbrd.jsonl"
    write_predictions(path, random_run(4))
    assert "KBRD" not in evaluated(
        predictions=path, out=tmp_path / "named", split="test"
    )  # by its name
    out = evaluated(predictions=path, out=tmp_path / "scored", split="test", paper_row="KBRD")
    assert "KBRD: the paper's" in out
    document = json.loads((tmp_path / "scored" / "metrics.json").read_text())
    assert document["paper_row"] == "KBRD"
    with pytest.raises(UsageError, match="expected one of ReDial, KBRD, .*; got 'kbrd'"):
        evaluated(predictions=path, split="test", paper_row="kbrd")


def test_the_split_is_never_assumed(tmp_path, evaluated):
    path = tmp_path / "p.jsonl"
    write_predictions(path, random_run(2))
    with pytest.raises(PredictionError, match="expected to know which split .* Give --split="):
        evaluated(predictions=path)
    assert "on dev" in evaluated(predictions=path, split="dev")
    write_predictions(path, (replace(p, split="test") for p in random_run(2)))
    assert "on test" in evaluated(predictions=path)
    with pytest.raises(PredictionError, match="got dev by --split, test by its field 'split'"):
        evaluated(predictions=path, split="dev")


def test_a_response_that_is_empty_everywhere_is_no_response(tmp_path, evaluated):
    path = tmp_path / "p.jsonl"
    write_predictions(path, [prediction(generated="")])
    with pytest.raises(PredictionError, match="'generated' is empty on all 1 lines"):
        evaluated(predictions=path, split="test")
    write_predictions(path, [prediction(generated=""), prediction(3)])
    assert "Note: 1 of 2 responses are empty" in evaluated(predictions=path, split="test")
