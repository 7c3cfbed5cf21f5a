"""ReDial's backbone through the stages: AutoRec with sentiment, teacher and student."""

import dataclasses

import jax
import numpy as np
import pytest

from conkd_jax.config import ConfigError
from conkd_jax.data.teacher_store.files import TeacherStore
from conkd_jax.models.sentiment import liked_probability
from conkd_jax.stages import autorec, language_model, pipeline, sentiment, student
from conkd_jax.stages import recommender as recommenders
from conkd_jax.stages.backbones import redial
from conkd_jax.training import checkpoint
from tests.fixtures.backbones import (
    check_one_device_is_eight,
    check_same_responses,
    check_stored_gate,
)

BACKBONE = "redial"


def test_a_run_has_the_responses_of_the_others(folder, small_world):
    (document, _), pairs = check_same_responses(folder, small_world.folder)
    for ours, theirs in pairs:
        assert len(ours.recommender_top) == len(theirs.recommender_top)
    assert any(ours.generated for ours, _ in pairs)
    assert document["metrics"]["recall@50"] > 0


def test_only_the_corpus_is_shared(small_world, config):
    ours, theirs = pipeline.build(config), pipeline.build(small_world.config())
    shared = {n for n in ours.keys() & theirs if ours[n].fingerprint == theirs[n].fingerprint}
    assert shared == {"corpus"}
    assert ours.keys() - theirs.keys() == {"questionnaires", "sentiment"}


def test_a_row_of_the_teacher_alone_trains_no_student(config, folder):
    stages = pipeline.build(config.replace({"system": "dialogue_teacher"}))
    assert "student" not in stages and set(stages["rec_teacher"].inputs) == {
        "corpus",
        "questionnaires",
        "sentiment",
    }


def test_the_sentiment_model_stays_frozen_and_autorec_is_trained(opened):
    """Teacher and student have the sentiment model bit for bit, and AutoRec where it went."""
    corpus, words, directories = opened
    heard = sentiment.load(directories["sentiment"]).params
    recommender = recommenders.load(directories["rec_teacher"], corpus)
    assert isinstance(recommender, autorec.TrainedAutoRec)
    for name in ("dialogue_teacher", "student"):
        frozen = checkpoint.load(directories[name] / language_model.FROZEN)["sentiment"]
        jax.tree.map(np.testing.assert_array_equal, frozen, heard)
        trained = checkpoint.load(directories[name] / language_model.PARAMS)["autorec"]
        for part, leaf in (("encoder", "kernel"), ("decoder", "kernel"), ("decoder", "bias")):
            start, now = recommender.params[part][leaf], trained[part][leaf]
            assert start.shape == now.shape and np.abs(now - start).max() > 1e-3
    assert words.num_items == len(corpus.items)


def test_a_user_is_what_the_history_says_and_no_more(opened):
    """AutoRec's hidden layer from P(liked) of the movies mentioned before the response."""
    corpus, words, directories = opened
    recommender = recommenders.load(directories["rec_teacher"], corpus)
    heard = sentiment.load(directories["sentiment"])
    dialogues = corpus.dialogues("dev")
    contexts = recommender.spec.contexts(dialogues, corpus)
    vectors = recommender.user_vectors(contexts)
    encoder = recommender.params["encoder"]
    for row in range(len(contexts)):
        inputs = contexts.inputs(np.array([row]), int(contexts.lengths[row]), words.pad_id)
        liked = np.asarray(liked_probability(heard.model, heard.params, inputs))[0]
        movies = contexts.histories[row].movies
        assert (liked[: len(movies)] > 0).all()
        x = np.zeros(len(corpus.items))
        x[words.item_candidates[movies]] = liked[: len(movies)]
        expected = 1 / (1 + np.exp(-(x @ encoder["kernel"] + encoder["bias"])))
        np.testing.assert_allclose(vectors[row], expected, atol=1e-5)
    shorter = [dataclasses.replace(d, turns=d.turns[:-1]) for d in dialogues]
    fewer = recommender.spec.contexts(shorter, corpus)
    keys = dict(zip(contexts.keys, vectors, strict=True))
    for key, vector in zip(fewer.keys, recommender.user_vectors(fewer), strict=True):
        np.testing.assert_allclose(vector, keys[key], atol=1e-6)


def test_a_recommender_of_other_movies_is_refused(opened, monkeypatch):
    corpus, _, directories = opened
    items = dataclasses.replace(corpus.items, item_ids=corpus.items.item_ids + 1)
    monkeypatch.setitem(corpus.__dict__, "items", items)
    with pytest.raises(ValueError, match="has others"):
        recommenders.load(directories["rec_teacher"], corpus)


def test_the_store_holds_the_teacher_s_gate(config, opened):
    corpus, words, directories = opened
    teacher = language_model.load(config.backbone, directories["dialogue_teacher"], words)
    rows = redial.row_settings(config).rows_of(corpus, words, corpus.dialogues("train"))
    store = TeacherStore.open(directories["teacher_outputs"])
    width = config.redial.hidden_dim + config.autorec.hidden_dim + 1
    assert store.spec.width == width
    live = teacher.score(rows, "teacher", batch_rows=16).item_mass
    check_stored_gate(store, live)


def test_one_device_is_eight(config, opened):
    """Loss and gradients of a student's first step."""
    corpus, words, directories = opened
    store = TeacherStore.open(directories["teacher_outputs"])
    start = language_model.load(config.backbone, directories["dialogue_teacher"], words)
    given = student.distillation(
        student.GateSettings.of(config.replace({"distill.eta": 0.1}).distill), store
    )
    rows = redial.row_settings(config).rows_of(corpus, words, corpus.dialogues("train"))
    check_one_device_is_eight(
        config, start, rows, "student", store=store, given=given, learning_rate=1.0, rtol=1e-3
    )


def test_a_model_reads_the_words_that_its_sentiment_model_reads(config, opened, monkeypatch):
    _, words, directories = opened
    settings = redial.model_settings(config)
    monkeypatch.setitem(words.__dict__, "candidate_titles", ["Other"] * len(words.candidate_titles))
    with pytest.raises(ConfigError, match="whose sentiment model reads the vocabulary"):
        settings.initial(directories, words, 0, config.rng_impl)
