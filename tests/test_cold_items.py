"""The program on trained runs: the evaluation's own numbers, its files, and what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from conkd_jax import cold_items
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.corpus_writing import write_corpus
from conkd_jax.eval.cold_items.groups import item_groups
from conkd_jax.eval.cold_items.report import page_with_tables
from conkd_jax.runs.finished import Run
from conkd_jax.stages.systems.item_steps import language_model_steps, recommender_steps
from tests.fixtures.programs import refused

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/cold_items.md"


def read(path) -> dict:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def run(small_world):
    return Run.open(small_world.folder)


@pytest.fixture(scope="module")
def steps(run):
    return language_model_steps(run.system, run.split)


def test_the_gold_movie_ranks_as_the_evaluation_ranked_it(run, steps):
    tokens, system = run.tokens, run.system
    is_item = tokens["is_item"]
    gold = system.vocabulary.item_candidates[
        tokens["targets"][is_item] - system.vocabulary.num_words
    ]
    assert steps.response.tolist() == tokens["response_index"][is_item].tolist()
    assert steps.gold.tolist() == gold.tolist()
    of_gold = np.take_along_axis(steps.scores, steps.gold[:, None], 1)
    for k in (1, 10):
        hit = (1 + (steps.scores > of_gold).sum(1) <= k).mean()
        assert hit == pytest.approx(run.metrics["metrics"][f"tf_hit@{k}"], abs=1e-6)


def test_the_recommender_gives_the_lists_of_the_predictions(run, steps):
    found = recommender_steps(run.system, run.split, steps)
    movies, predictions = run.corpus.items.item_ids, run.predictions()
    assert found.gold.tolist() == steps.gold.tolist()  # every movie has a token here
    for response, scores in zip(found.response, found.scores, strict=True):
        best = movies[np.argsort(-scores, kind="stable")[:10]].tolist()
        assert tuple(best) == predictions[response].recommender_top[:10]


def test_the_program_writes_what_it_prints(call, small_world, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- cold items -->\nold\n<!-- /cold items -->\n\nrest\n")
    files = {"json": tmp_path / "new" / "found.json", "figure": tmp_path / "found.png"}
    options = [f"--{name}={path}" for name, path in (files | {"page": page}).items()]
    code, output, errors = call(cold_items, small_world.folder, *options)
    assert code == 0, errors
    document = read(files["json"])
    assert imread(files["figure"]).shape[0] > 200
    assert [system["name"] for system in document["systems"]] == ["recommender", "small_world"]
    metrics = read(small_world.folder / "metrics.json")["metrics"]
    student = document["systems"][1]
    for k in (1, 10, 50):
        assert student["metrics"]["all"][f"hit@{k}"] == pytest.approx(metrics[f"tf_hit@{k}"])
    assert (
        student["said"]["named"]
        == read(small_world.folder / "metrics.json")["counts"]["generated_items"]
    )
    assert (
        sum(document["groups"][name]["gold"] for name in ("0", "1–2", "3–9", "10–49", "50+"))
        == (document["n_item_steps"])
    )
    assert str(tmp_path) not in json.dumps(document)
    text = page.read_text()
    assert text.startswith("# Page\n") and text.endswith("\nrest\n") and "\nold\n" not in text
    assert page_with_tables(text, document) == text
    assert "hit@50 by how often" in output


def test_runs_of_two_corpora_are_refused(call, small_world, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    record = read(small_world.folder / "config.json")
    record["settings"]["corpus"]["movieworld_seed"] = 1
    (other / "config.json").write_text(json.dumps(record))
    refused(call(cold_items, small_world.folder, other), "one corpus", str(other))


def test_runs_that_nothing_tells_apart_are_refused(call, small_world, tmp_path):
    copy = tmp_path / small_world.folder.name
    copy.mkdir()
    shutil.copy(small_world.folder / "config.json", copy)
    refused(call(cold_items, small_world.folder, copy), "different names")


def test_it_needs_a_run(call):
    refused(call(cold_items), "expected runs")


@pytest.mark.parametrize("text", [None, "no marks\n", "<!-- /cold items --><!-- cold items -->"])
def test_a_page_without_a_place_is_refused_and_kept(call, small_world, tmp_path, text):
    page = tmp_path / "page.md"
    if text is not None:
        page.write_text(text)
    refused(call(cold_items, small_world.folder, f"--page={page}"), f"--page={page}: expected")
    assert text is None or page.read_text() == text


def test_groups_are_counted_in_training_text_only(run, tmp_path):
    """A movie that dev or valid names stays cold; a mention of the seeker is one too."""
    corpus = run.corpus
    train, valid = corpus.dialogues("train"), corpus.dialogues("valid")
    named = {item for dialogue in train[:1] for turn in dialogue.turns for item in turn.items}
    write_corpus(
        tmp_path,
        splits={"train": train[:1], "valid": valid},
        items=corpus.items,
        graph=corpus.graph,
        concept_graph=corpus.concept_graph,
        report={},
    )
    groups = {group.name: group for group in item_groups(Corpus.open(tmp_path))}
    assert set(np.flatnonzero(~groups["0"].members)) == named
    assert groups["0"].size == (groups["0, with facts"].size + groups["0, without facts"].size)
    sizes = [groups[name].size for name in ("0", "1–2", "3–9", "10–49", "50+")]
    assert sum(sizes) == groups["all"].size == len(corpus.items)


def test_the_page_shows_what_is_committed():
    document = read(ROOT / "docs/results/cold_items/mini.json")
    text = PAGE.read_text(encoding="utf-8")
    assert page_with_tables(text, document) == text
    assert f"    {document['command'].split(' runs/')[0]} " in text
