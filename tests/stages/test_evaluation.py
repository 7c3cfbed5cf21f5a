"""Item first from corpus to scores: what is picked, said, charged and shared."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conkd_jax.artifacts import build as artifacts
from conkd_jax.artifacts.manifest import read_manifest
from conkd_jax.config import ConfigError
from conkd_jax.data.batches.language_model import LanguageModelBatches
from conkd_jax.data.batches.plan import BatchPlan, quantile_buckets
from conkd_jax.data.rows.picks import split_picks
from conkd_jax.data.teacher_store.files import TeacherStore, TeacherStoreError
from conkd_jax.eval.gate.detector import fit_eta
from conkd_jax.eval.predictions import read_predictions
from conkd_jax.stages import language_model, pipeline, student
from conkd_jax.stages.checks import check_data
from conkd_jax.stages.language_model_training import make_loss, training_batches
from conkd_jax.stages.systems.item_steps import language_model_steps
from conkd_jax.stages.systems.system import System
from conkd_jax.stages.training import Execution

ITEM_FIRST = {
    "vocabulary__max_picks": 3,  # the most of a MovieWorld turn
    "distill__eta": 0.0,
    "decode__max_tokens": 12,
    "paper_row": "",
}


@pytest.fixture(scope="module")
def config(small_world):
    return small_world.config(**ITEM_FIRST, runs_dir=str(small_world.root / "item_first"))


@pytest.fixture(scope="module")
def folder(small_world, config):
    return small_world.run(config)


@pytest.fixture(scope="module")
def system(config, folder):
    stages = pipeline.build(config)
    return System.of_config(config, stages, lambda n: stages[n].directory(config.artifacts_dir))


@pytest.fixture(scope="module")
def predictions(folder):
    return list(read_predictions(folder / "predictions.jsonl"))  # which checks each line


def test_the_text_is_the_prediction(predictions, system):
    """A tagged response names items exactly where it was opened by [REC], each of them ranked."""
    named = 0
    for p in predictions:
        assert p.predicted_turn_type == "rec" or not p.generated_items
        named += len(p.generated_items)
        tops = {}
        for step in p.item_steps:  # a repeat was chosen where its first mention was
            assert tops.setdefault(step.item, step.top) == step.top
    assert named > 10


def test_the_reference_is_scored_as_a_whole(predictions, system, folder):
    """token_nll has the text's tokens, and sums to the NLL of picks and text."""
    words = system.vocabulary
    rows = system.rows_of(system.corpus.dialogues("valid"))
    scored = system.model.score(rows, "student", 4)
    has_picks = 0
    for n, p in enumerate(predictions):
        of = scored.response_index == n
        picks, text = split_picks(rows.response_targets(n).tolist(), words.num_words, words.end_id)
        assert list(p.token_is_item) == words.is_item(text).tolist()
        assert len(p.token_nll) == len(p.token_item_mass) == len(text)
        is_whole = text[-1] == words.end_id
        if is_whole:
            assert sum(p.token_nll) == pytest.approx(scored.nll[of].sum(), rel=1e-4)
        has_picks += bool(picks) and is_whole
    assert has_picks > 3
    metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
    places = np.arange(len(rows.targets)) - np.repeat(
        rows.target_offsets[:-1], rows.response_length
    )
    is_pick = places < np.repeat(rows.pick_tokens, rows.response_length)
    assert metrics["ppl_picks"] == pytest.approx(np.exp(scored.nll[is_pick].mean()), rel=1e-4)
    assert metrics["ppl_given_picks"] == pytest.approx(
        np.exp(scored.nll[~is_pick].mean()), rel=1e-4
    )
    assert metrics["ppl"] > metrics["ppl_given_picks"]
    ranks = scored.item_rank[is_pick & scored.is_item]  # each gold item once, where it is chosen
    assert len(ranks) < scored.is_item.sum()
    assert metrics["tf_hit@10"] == pytest.approx((ranks <= 10).mean())


def test_an_item_step_is_where_the_item_is_picked(system):
    rows = system.rows_of(system.corpus.dialogues("valid"))
    steps = language_model_steps(system, "valid")
    is_step = rows.is_choice & (rows.targets >= system.vocabulary.num_words)
    wanted = system.vocabulary.item_candidates[rows.targets[is_step] - system.vocabulary.num_words]
    assert steps.gold.tolist() == wanted.tolist()
    assert len(steps.gold) < (rows.targets >= system.vocabulary.num_words).sum()


def test_picks_are_counted(folder, predictions):
    metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
    said = sum(len(set(p.generated_items)) for p in predictions) / len(predictions)
    assert metrics["picks_per_response"] * metrics["picks_named"] == pytest.approx(said)
    assert 0 < metrics["picks_named"] <= 1 and metrics["picks_per_response"] <= 3


def test_the_store_is_of_item_first_rows(small_world, config, system):
    """The gate is fitted and open at choices alone, and ordinary rows can't read this store."""
    stages = pipeline.build(config)
    store = TeacherStore.open(system.directory("teacher_outputs"))
    train, dev = (system.rows_of(system.corpus.dialogues(split)) for split in ("train", "dev"))
    arguments = system.vocabulary, "student"
    options = {"seed": 0, "execution": Execution.of(config), "store": store}
    batch = training_batches(config.student, train, *arguments, **options).batch(0)
    is_choice = np.asarray(batch["is_choice"]).reshape(-1).astype(bool)
    labels = np.asarray(batch["labels"]).reshape(-1)
    assert is_choice[labels >= system.vocabulary.num_words].mean() < 1  # not in the text
    assert (labels[is_choice] >= system.vocabulary.num_words).sum() > 5
    held_out = system.dialogue_teacher.score(dev, "teacher", 16)
    eta = fit_eta(held_out.item_mass[dev.is_choice], held_out.is_item[dev.is_choice])
    manifest = read_manifest(stages["teacher_outputs"], config.artifacts_dir)
    assert manifest["metrics"]["fitted_eta"] == pytest.approx(eta, rel=1e-3)
    plain = System.of_config(
        small_world.config(), stages, lambda name: stages[name].directory(config.artifacts_dir)
    )
    ordinary = plain.rows_of(system.corpus.dialogues("train"))
    with pytest.raises(TeacherStoreError, match="written for other rows"):
        training_batches(config.student, ordinary, *arguments, **options).batch(0)


def test_the_recommender_teaches_the_picks_alone(system):
    """λ = 1 everywhere, except in texts."""
    words, store = system.vocabulary, TeacherStore.open(system.directory("teacher_outputs"))
    rows = system.rows_of(system.corpus.dialogues("train"))
    plan = BatchPlan(rows.lengths, 4, quantile_buckets(rows.lengths, 1), seed=0)
    ids = np.arange(4)
    assemble = LanguageModelBatches(rows, words, plan, "student", store=store)
    batch = jax.tree.map(jnp.asarray, assemble(ids, plan.bucket_lengths[0], ids))
    given = student.distillation(student.GateSettings(0.4, "constant", constant=1.0), store)
    _, metrics = make_loss(system.model, 64, given)(
        system.model.params, batch, jax.random.key(0), {"frozen": {}, **given.constants}
    )
    opened, tokens = metrics["gate"]
    chosen = rows.choices_of(rows.responses_of(ids)).sum()
    assert (opened, tokens) == (chosen, batch["num_tokens"]) and chosen < tokens


def test_what_is_shared_with_ordinary_rows(small_world, config):
    """The recommender and the turn classifier; and nothing has another fingerprint when off."""
    ours, theirs = pipeline.build(config), pipeline.build(small_world.config())
    same = {name for name in ours if ours[name].fingerprint == theirs[name].fingerprint}
    assert same == {"corpus", "vocabulary", "rec_teacher", "turn_classifier"}


def test_a_turn_of_more_items_is_told_before_a_training(config, folder):
    few = config.replace({"vocabulary.max_picks": 1})
    with pytest.raises(ConfigError, match="max_picks: expected at least [23], the different"):
        check_data(few, pipeline.build(few))
    check_data(config.replace({"student.epochs": 2}), pipeline.build(config))


def test_without_tags_the_model_decides(small_world, config, folder):
    """The dialogue teacher: some responses begin with picks, and only those name items."""
    alone = config.replace({"system": "dialogue_teacher", "runs_dir": f"{config.runs_dir}_alone"})
    rows = artifacts.explain(pipeline.build(alone)["evaluation"], config.artifacts_dir)
    assert {row.name for row in rows if row.state != "whole"} == {"evaluation"}
    answered = list(read_predictions(small_world.run(alone) / "predictions.jsonl"))
    assert all(p.predicted_turn_type is None for p in answered)


@pytest.mark.slow
def test_kgsf_picks_first_too(small_world):
    runs_dir = str(small_world.root / "item_first")
    options = {**ITEM_FIRST, "decode__item_offset": 8.0}  # a model this small names few
    config = small_world.config("demo,backbone=kgsf", **options, runs_dir=runs_dir)
    folder = small_world.run(config)
    predictions = list(read_predictions(folder / "predictions.jsonl"))
    assert sum(len(p.generated_items) for p in predictions) > 5
    assert all(p.predicted_turn_type == "rec" or not p.generated_items for p in predictions)
    stages = pipeline.build(config)
    system = System.of_config(config, stages, lambda n: stages[n].directory(config.artifacts_dir))
    rows = system.rows_of(system.corpus.dialogues("valid"))
    assert isinstance(system.model, language_model.LanguageModel)
    assert max(rows.response_length) > max(len(p.token_nll) for p in predictions)
