"""A finished run, opened: what it holds, and what is said where something is missing."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from conkd_jax.artifacts import manifest as manifests
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.mentions import tokens
from conkd_jax.errors import UserError
from conkd_jax.eval.predictions import PredictionError
from conkd_jax.eval.system_files import corpus_titles
from conkd_jax.runs.finished import Answers, Run, RunError, open_answers
from tests.eval.exported import write_items, write_run


@pytest.fixture
def run(small_world) -> Run:
    return Run.open(small_world.folder)


def test_a_run_has_its_names_and_its_config(small_world, run):
    assert run.config == small_world.config()
    assert (run.name, run.split, run.own_split) == ("small_world", "valid", "valid")
    assert run.run_name == run.home.name
    assert run.label == "small_world-dialogpt"
    assert run.title == "small_world-dialogpt (demo) on valid"
    other = dataclasses.replace(run, overrides={"distill.gamma": 0.2})
    assert other.title == "small_world-dialogpt+gamma=0.2 (demo) on valid"
    assert run.paper_row is None  # of a synthetic corpus
    assert run.eta == 0.04


def test_nothing_is_opened_before_it_is_asked_for(small_world, tmp_path):
    record = json.loads((small_world.folder / "config.json").read_text())
    record["settings"]["corpus"].update({"name": "redial", "raw_dir": str(tmp_path / "none")})
    (tmp_path / "config.json").write_text(json.dumps(record))
    run = Run.open(tmp_path)
    assert run.label == "small_world-dialogpt"
    with pytest.raises(UserError, match="raw_dir"):
        run.stages  # noqa: B018


def test_a_run_has_metrics_and_predictions(small_world, run):
    assert run.metrics == json.loads((small_world.folder / "metrics.json").read_text())
    predictions = run.predictions()
    assert len(predictions) == run.metrics["n_responses"]
    titles = Answers.open(small_world.folder).titles
    assert titles == corpus_titles(run.corpus.directory)
    assert {item for p in predictions for item in p.generated_items} <= set(titles)
    assert run.tokens["response_index"].max() == len(predictions) - 1


def test_predictions_list_what_was_mentioned_with_the_most_recent_last(run):
    for prediction in run.predictions():
        words = [word for turn in prediction.context for word in tokens(turn.text)]
        said = [int(word[1:]) for word in words if word.startswith("@")]
        last_first = dict.fromkeys(reversed(said))
        known = [item for item in last_first if item in prediction.mentioned_items]
        assert [*reversed(prediction.mentioned_items)] == known


@pytest.mark.parametrize("system", ["student", "dialogue_teacher"])
def test_a_run_has_the_models_that_were_trained(small_world, tmp_path, system):
    record = json.loads((small_world.folder / "config.json").read_text())
    record["settings"]["system"] = system
    (tmp_path / "config.json").write_text(json.dumps(record))
    found = Run.open(tmp_path).system
    is_student = system == "student"
    assert (found.has_student, found.has_tags) == (is_student, is_student)
    assert found.form == ("student" if is_student else "teacher")
    assert (found.model is found.dialogue_teacher) == (not is_student)
    assert found.model is found.model  # loaded once
    words = found.vocabulary
    tags = [words.rec_id, words.gen_id] if is_student else [words.end_id] * 2
    assert found.openings(np.array([True, False])).tolist() == tags
    rows = found.rows_of(found.corpus.dialogues("valid"))
    predicted = found.predicted_is_rec(rows)
    assert (predicted is None) == (not is_student)
    if predicted is not None:
        assert predicted.shape == (rows.num_responses,) and predicted.dtype == bool


def test_another_split_lies_in_a_folder_of_its_own(small_world):
    run = Run.open(small_world.folder, "test")
    assert run.folder == run.home / "test"
    assert run.title.endswith("on test")
    assert Corpus.open(run.inputs["corpus"].directory(small_world.artifacts_dir))


@pytest.mark.parametrize("asked", ["metrics", "predictions_file", "tokens"])
def test_a_split_that_was_not_scored_names_the_command(small_world, tmp_path, asked):
    shutil.copy(small_world.folder / "config.json", tmp_path)
    run = Run.open(tmp_path, "dev")
    if asked == "tokens":  # which are in the artifact, that another test may have made
        (tmp_path / "config.json").write_text(
            (tmp_path / "config.json").read_text().replace('"max_tokens": 8', '"max_tokens": 7')
        )
        run = Run.open(tmp_path, "dev")
    command = f"conkd_jax.evaluate --workdir={tmp_path} --split=dev`"
    with pytest.raises(RunError, match=f"expected .*found none.*{command}"):
        getattr(run, asked)


def test_damaged_metrics(small_world, tmp_path):
    shutil.copy(small_world.folder / "config.json", tmp_path)
    (tmp_path / "metrics.json").write_text('{"metrics": ')
    with pytest.raises(RunError, match="metrics.json: expected JSON.*again"):
        Run.open(tmp_path).metrics  # noqa: B018


def test_artifacts_that_are_gone_are_named_together(run, monkeypatch):
    assert run.inputs
    monkeypatch.setattr(manifests, "read_manifest", lambda stage, root: None)
    for opened in (lambda: run.directory("student"), lambda: run.corpus):
        with pytest.raises(
            RunError, match="unfinished: corpus, vocabulary, .*student.* can't be found"
        ):
            opened()
    with pytest.raises(RunError, match="unfinished: rec_teacher, .*Run conkd_jax.train"):
        run.expect_trained()


@pytest.mark.parametrize("asked", ["tokens", "system", "expect_trained"])
def test_a_run_of_another_version_is_to_be_trained_again(small_world, tmp_path, asked):
    record = json.loads((small_world.folder / "config.json").read_text())
    record["settings"]["artifacts_dir"] = str(tmp_path / "artifacts")  # has none of this version
    (tmp_path / "config.json").write_text(json.dumps(record))
    run = Run.open(tmp_path)
    made_from = {name: stage.fingerprint for name, stage in run.stages.items()}
    document = {"artifacts": made_from | {"student": "0123456789abcdef"}}
    (tmp_path / "metrics.json").write_text(json.dumps(document))
    told = "student 0123456789abcdef instead of"
    with pytest.raises(RunError, match=f"by another version.*used: {told}.*Train it again, with"):
        found = getattr(run, asked)
        found.model if asked == "system" else found()


@pytest.mark.parametrize(
    "content", [None, "{", '{"name": "x"}', '{"name": "x", "split": "dev", "settings": {}}']
)
def test_a_folder_that_is_no_run(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(RunError, match=str(tmp_path)):
        Run.open(tmp_path)


# --- the responses of any system -----------------------------------------------------------------


def test_two_systems_need_two_names(tmp_path):
    first, second = write_run(tmp_path / "x" / "a"), write_run(tmp_path / "y" / "a")
    assert list(open_answers([first, write_run(tmp_path / "b")])) == ["a", "b"]
    with pytest.raises(PredictionError, match="expected runs with different names, got a twice"):
        open_answers([first, second])


def test_a_split_of_a_run_has_the_name_of_the_run(small_world, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "test").mkdir(parents=True)
        record = json.loads((small_world.folder / "config.json").read_text())
        (tmp_path / name / "test" / "config.json").write_text(
            json.dumps(record | {"split": "test"})
        )
        (tmp_path / name / "test" / "predictions.jsonl").touch()
    assert set(open_answers([tmp_path / "a" / "test", tmp_path / "b" / "test"])) == {"a", "b"}


def test_titles_come_from_the_corpus_that_a_folder_links_to(tmp_path):
    run = write_run(tmp_path / "a")
    assert Answers.open(run).titles == {}
    (run / "artifacts").mkdir()
    (run / "artifacts" / "corpus").symlink_to(write_items(tmp_path / "corpus"))
    assert Answers.open(run).titles == {7: "Gladiator (2000)"}


def test_a_file_is_of_a_run_only_beside_its_config(tmp_path):
    run = write_run(tmp_path / "a")
    assert Answers.open(run).run.name == "dialogpt_hard"
    other = run / "kbrd.jsonl"
    other.write_bytes((run / "predictions.jsonl").read_bytes())
    assert Answers.open(other).run is None
    for content in ("{}", "[" * 100_000):
        (run / "config.json").write_text(content)
        with pytest.raises(RunError, match="is not the config of a run"):
            Answers.open(run)
