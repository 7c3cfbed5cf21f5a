"""The gate program on a trained run: the evaluation's own numbers, and texts read as gold ones."""

import json
import shutil

import numpy as np
import pytest
from matplotlib.image import imread

from conkd_jax import gate
from conkd_jax.artifacts import manifest as manifests
from conkd_jax.data.corpus import Turn
from conkd_jax.errors import UserError
from conkd_jax.eval.gate.responses import find_response, response_keys
from conkd_jax.eval.gate.token_classes import CLASSES
from conkd_jax.eval.predictions import read_predictions
from conkd_jax.runs.finished import Run, RunError
from conkd_jax.stages.systems.text_reader import TextReader, opening_turn
from tests.fixtures.programs import refused

FIGURES = ("gate_validity.png", "gate_by_class.png")
TOLERANCE = 1e-5  # of two passes over rows of other lengths


@pytest.fixture
def workdir(small_world, tmp_path):
    """The finished run's record in a folder of the test's own."""
    shutil.copy(small_world.folder / "config.json", tmp_path)
    return tmp_path


@pytest.fixture
def run(workdir):
    return Run.open(workdir, "valid")


def history(run, text: str) -> list[Turn]:
    return [opening_turn(text, run.corpus)]


def read(path) -> dict:
    return json.loads(path.read_text())


def test_the_numbers_are_the_evaluation_s(call, small_world, workdir):
    code, output, errors = call(gate, f"--workdir={workdir}", "--eta=.5", "--eta=.04")
    assert code == 0, errors
    found = read(workdir / "gate" / "gate.json")
    metrics = read(small_world.folder / "metrics.json")["metrics"]
    assert found["detector"]["fitted"]["eta"] == metrics["fitted_eta"]
    assert [one["eta"] for one in found["detector_at"]] == [0.04, 0.5]
    assert found["detector_at"][0] == found["detector"]["run"]
    for name in ("lambda_r", "lambda_v", "student_lambda_r", "student_lambda_v"):
        assert found[name] == pytest.approx(metrics[name], abs=1e-6), name
    assert found["paper"] == {"lambda_r": 0.653, "lambda_v": 0.023}
    assert found["detector"]["run"]["eta"] == 0.04
    assert found["detector"]["best"]["f1"] >= found["detector"]["run"]["f1"]
    assert 0 < found["base_rate"] <= found["average_precision"] <= 1
    by_class = found["lambda_by_class"]
    assert set(by_class) == set(CLASSES)  # MovieWorld has some of each
    assert sum(one["count"] for one in by_class.values()) == found["num_steps"]
    predictions = list(read_predictions(small_world.folder / "predictions.jsonl"))
    assert by_class["end"]["count"] <= len(predictions)
    for name in ("item (λ_r)", "before item", "all but items (λ_v)", "the paper's", "0.653"):
        assert name in output, name
    for name in FIGURES:
        assert imread(workdir / "gate" / name).shape[0] > 200
    assert {path.name for path in (workdir / "gate").iterdir()} == {*FIGURES, "gate.json"}


def a_response_with_an_item(small_world):
    predictions = read_predictions(small_world.folder / "predictions.jsonl")
    return next(p for p in predictions if p.reference_items and p.turn > 2)


def test_a_gold_text_is_read_as_the_evaluation_read_it(call, small_world, workdir):
    gold = a_response_with_an_item(small_world)
    arguments = [f"--response={gold.conversation_id}:{gold.turn}", f"--text={gold.reference}"]
    code, _, errors = call(gate, f"--workdir={workdir}", *arguments)
    assert code == 0, errors
    folder = workdir / "gate"
    (scored,) = read(folder / f"response_{gold.conversation_id}_{gold.turn}.json")["traces"]
    (forced,) = read(folder / "texts.json")["traces"]
    assert scored["tokens"] == forced["tokens"] and scored["is_item"] == forced["is_item"]
    assert scored["is_item"].count(True) == len(gold.reference_items)
    for name in ("gate", "student"):
        np.testing.assert_allclose(forced[name], scored[name], atol=TOLERANCE)
    assert np.ptp(scored["gate"]) > 100 * TOLERANCE  # they could differ
    assert forced["student_name"] == "student, opened by [REC]"
    assert imread(folder / "texts.png").shape[0] > 200


@pytest.mark.parametrize("argument", ["demo,backbone=dialogpt", "demo,backbone=kgsf"])
def test_continuations_share_the_gate_of_what_they_share(small_world, tmp_path, argument):
    """λ_t reads y_<t alone: it is one number for all that may come next (Appendix C)."""
    config = small_world.config(argument, distill__eta=0.6)
    folder = small_world.run(config) if "kgsf" in argument else small_world.folder
    shutil.copy(folder / "config.json", tmp_path)
    run = Run.open(tmp_path, "valid")
    movies = [f"@{movie}" for movie in run.vocabulary.item_ids[:2]]
    opening = "I would recommend "
    texts = [opening + text for text in (movies[0], f"you {movies[0]}", "some good movies")]
    said = history(run, f"Hi, I liked {movies[1]} a lot.")
    reader = TextReader(run.system)
    traces = reader.traces(said, texts)
    shared = len(run.vocabulary.encode(opening.strip())) + 1
    for other in traces[1:]:
        np.testing.assert_allclose(other.gate[:shared], traces[0].gate[:shared], atol=TOLERANCE)
    assert [trace.is_item[shared - 1] for trace in traces] == [True, False, False]
    assert [trace.student_name[-5:] for trace in traces] == ["[REC]", "[REC]", "[GEN]"]
    assert all(trace.tokens[-1] == "END" for trace in traces)
    elsewhere = reader.traces(history(run, "Hi!"), texts[:1])
    assert elsewhere[0].gate[0] != pytest.approx(traces[0].gate[0], abs=TOLERANCE)


def test_a_seeker_s_words_are_linked_to_the_graphs(run):
    items = run.corpus.items
    (turn,) = history(run, f"I liked @{items.item_ids[3]} and @999999 .")
    assert turn.items == (3,) and turn.unknown_items == (999999,)
    assert turn.entities == (items.entity_ids[3],)
    graph = run.corpus.concept_graph
    known = next(w for w, stop in zip(graph.words, graph.is_stop_word, strict=True) if not stop)
    (turn,) = history(run, f"Something {known} please")
    assert graph.words.index(known) in turn.concepts


def test_a_text_past_the_limit_says_so(run):
    limit = run.config.vocabulary.max_response_tokens
    (trace,) = TextReader(run.system).traces(history(run, "Hi!"), ["a " * 2 * limit])
    assert len(trace.tokens) == limit and trace.title.endswith(f"(cut at {limit} tokens)")


def test_a_run_without_a_student_has_the_teacher_alone(call, small_world, tmp_path):
    config = small_world.config(system="dialogue_teacher", runs_dir=str(tmp_path / "runs"))
    shutil.copy(small_world.run(config) / "config.json", tmp_path)
    run = Run.open(tmp_path, "valid")
    assert run.eta is None
    traces = TextReader(run.system).traces(history(run, "Hi!"), ["Hello!"])
    key = response_keys(run.corpus, run.split)[0]
    assert traces[0].student is None and gate.scored_trace(run, key).student is None
    assert call(gate, f"--workdir={tmp_path}", "--text=Hello!")[0] == 0
    assert set(read(tmp_path / "gate" / "gate.json")["detector"]) == {"best", "paper"}


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--example=titanic"], ["'Titanic (1997)'", "ReDial", "--text="]),
        (["--response=mw:1"], ["--response=mw:1", "CONVERSATION_ID:TURN", "for example"]),
        (["--response=nothing"], ["--response=nothing", "for example"]),
        (["--text=Try @5."], ["got @5", "For example @"]),
        (["--text= "], ["--text", "empty"]),
        (["--eta=1.5"], ["--eta"]),
        (["--history=Hi!"], ["--history", "--text"]),
        (["--history=Hi!", "--text=a", "--response=a:1"], ["--history", "--response"]),
    ],
    ids=str,
)
def test_what_can_t_be_asked(call, workdir, arguments, words):
    refused(call(gate, f"--workdir={workdir}", *arguments), *words)
    assert not (workdir / "gate").exists()


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_split_that_was_not_scored_is_refused(call, workdir, split):
    record = workdir / "config.json"  # of a run that no other test evaluates
    record.write_text(record.read_text().replace('"max_tokens": 8', '"max_tokens": 7'))
    outcome = call(gate, f"--workdir={workdir}", f"--split={split}")
    refused(outcome, f"evaluation of {split}", "found none", "conkd_jax.evaluate --workdir=")
    assert not (workdir / "gate").exists()


def test_a_turn_that_is_no_response_names_those_that_are(run):
    conversation, turn = response_keys(run.corpus, run.split)[0]
    with pytest.raises(UserError, match=f"{conversation} has responses at turns {turn}"):
        find_response(run.corpus, run.split, f"{conversation}:{turn + 1}")


def test_no_run_is_told(call, tmp_path):
    refused(call(gate), "--workdir is missing")
    refused(call(gate, f"--workdir={tmp_path}"), "config.json", "found none")


def test_a_teacher_that_was_deleted_is_missed_by_texts_alone(run, monkeypatch):
    assert len(run.tokens) and run.vocabulary and run.corpus and run.stages
    monkeypatch.setattr(manifests, "read_manifest", lambda stage, root: None)
    with pytest.raises(RunError, match="dialogue_teacher.* can't be found"):
        TextReader(run.system).traces(history(run, "Hi!"), ["Hello!"])
    key = response_keys(run.corpus, run.split)[0]
    assert len(gate.scored_trace(run, key).tokens) > 0
