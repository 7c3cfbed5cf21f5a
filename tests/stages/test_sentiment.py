"""The stage `sentiment`: its examples, its weights, and that it learns what dialogues say."""

import jax
import numpy as np
import pytest

from conkd_jax.artifacts import build as artifacts
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.questionnaires import read_questionnaires
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.models.sentiment import LIKED_WEIGHTS, Sentiment, SentimentSpec
from conkd_jax.runtime import parallel
from conkd_jax.stages import pipeline, sentiment
from conkd_jax.stages.rec_teacher import fold_of
from conkd_jax.stages.training import make_loader
from tests.fixtures.training import assert_close, first_step


@pytest.fixture(scope="module")
def stages(small_world):
    stages = pipeline.build(small_world.config("demo,backbone=redial"))
    artifacts.ensure(stages["sentiment"], small_world.artifacts_dir)
    return stages


@pytest.fixture(scope="module")
def examples(small_world, stages):
    folder = small_world.artifacts_dir
    corpus = Corpus.open(stages["corpus"].directory(folder))
    words = Vocabulary.load(stages["vocabulary"].directory(folder))
    forms = read_questionnaires(stages["questionnaires"].directory(folder))
    limits = stages["sentiment"].settings.limits
    return sentiment.build_examples(corpus.dialogues("train"), words, forms, limits)


def test_examples_are_the_answers_of_both_forms(small_world, stages, examples):
    folder = small_world.artifacts_dir
    forms = read_questionnaires(stages["questionnaires"].directory(folder))
    words = Vocabulary.load(stages["vocabulary"].directory(folder))
    assert examples.num_movies > 100
    for (conversation, _), history, answers in zip(
        examples.histories.keys, examples.histories.histories, examples.answers, strict=True
    ):
        given = forms.answers_of_both(conversation)
        for movie, row in zip(words.item_ids[history.movies], answers, strict=False):
            assert tuple(row) == given[int(movie)]
        assert (answers[len(history.movies) :] == sentiment.UNKNOWN).all()


def test_a_fold_is_not_trained_on(small_world, stages, examples, monkeypatch):
    """The dialogues that the examples are built from are those outside of the fold."""
    config = small_world.config("demo,backbone=redial")
    folded = config.replace({"rec_teacher.cross_fit_folds": 3})
    stage = sentiment.stage(folded, stages, fold=1)
    found = []

    def build(dialogues, *rest):
        found.append({d.conversation_id for d in dialogues})
        raise InterruptedError

    monkeypatch.setattr(sentiment, "build_examples", build)
    with pytest.raises(InterruptedError):
        artifacts.ensure(stage, small_world.artifacts_dir)
    corpus = Corpus.open(stages["corpus"].directory(small_world.artifacts_dir))
    everything = {d.conversation_id for d in corpus.dialogues("train")}
    left_out = everything - found[0]
    assert left_out == {each for each in everything if fold_of(each, 3) == 1}
    assert left_out & {conversation for conversation, _ in examples.histories.keys}


def test_each_loss_is_a_mean_over_the_answers_of_the_batch(examples):
    batches = sentiment.SentimentBatches(examples)
    step = np.arange(8)
    parts = [
        batches(rows, int(examples.histories.lengths.max()), step) for rows in (step[:4], step[4:])
    ]
    weights = np.concatenate([part["weights"] for part in parts])
    np.testing.assert_allclose(weights.sum(axis=(0, 1)), 1, atol=1e-5)
    answers = examples.answers[step]
    is_known = answers[..., 0] != sentiment.UNKNOWN
    assert (weights[~is_known] == 0).all()
    assert np.ptp(weights[is_known][:, 0]) < 1e-7  # a plain mean
    liked = answers[..., 2][is_known]
    ratio = weights[is_known][:, 2] / np.array(LIKED_WEIGHTS)[liked]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)


def test_filling_rows_have_no_weight(examples):
    batches = sentiment.SentimentBatches(examples)
    rows = np.array([2, -1])
    batch = batches(rows, int(examples.histories.lengths.max()), rows)
    assert (batch["weights"][1] == 0).all()
    np.testing.assert_allclose(batch["weights"].sum(axis=(0, 1)), 1, atol=1e-5)


def test_one_device_is_eight(stages, examples):
    """A step without dropout, whose masks depend on the device."""
    settings = stages["sentiment"].settings
    part = settings.model
    model = Sentiment(SentimentSpec(part.word_dim, part.features, 1, 0.0), 512)
    task = sentiment.make_task(model, settings, examples, examples)
    found = []
    for num_devices, kind in ((1, "pmap"), (8, "pmap"), (8, "mesh")):
        loader = make_loader(
            sentiment.batch_plan(part, examples, 0),
            sentiment.SentimentBatches(examples),
            part.optimizer,
            type(settings.execution)(num_devices, 0, 64),
        )
        devices = parallel.select_devices(num_devices)
        _, after, metrics = first_step(task, devices, loader, kind=kind)
        found.append((after.params, metrics["loss"][0]))
    (params, loss), *on_eight = found
    for params_8, loss_8 in on_eight:
        assert loss == pytest.approx(loss_8, rel=1e-5)
        assert_close(params, params_8, rtol=1e-4)


def test_what_is_saved_is_what_was_trained(small_world, stages, examples):
    trained = sentiment.load(stages["sentiment"].directory(small_world.artifacts_dir))
    scored = sentiment.score(trained.model, trained.params, examples)
    fresh = trained.model.init(jax.random.key(9), examples.histories.inputs(np.arange(1), 96, 0))
    untrained = sentiment.score(trained.model, fresh["params"], examples)
    assert scored["loss"] < untrained["loss"]
    assert 0 < scored["initiator_liked_base"] <= 1 and 0 <= scored["initiator_liked_accuracy"] <= 1
