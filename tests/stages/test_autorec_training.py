"""AutoRec's training: ratings, losses, pretraining on MovieLens."""

import dataclasses

import jax
import numpy as np
import pytest

from conkd_jax.artifacts import build as artifacts
from conkd_jax.artifacts.stage import in_order
from conkd_jax.config import ConfigError
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.movielens import Ratings
from conkd_jax.data.questionnaires import Questionnaires
from conkd_jax.models.recommenders import autorec
from conkd_jax.stages import checks, pipeline
from conkd_jax.stages import recommender as recommenders
from conkd_jax.stages.autorec_training import (
    RatingBatches,
    leave_one_out_error,
    make_task,
    rating_loss,
    seeker_ratings,
)
from conkd_jax.stages.systems.recall import score
from tests.models.small_redial import perturbed

RATINGS = Ratings(
    [np.array([3, 0], np.int32), np.array([5], np.int32)],
    [np.array([1.0, 0.0], np.float32), np.array([0.5], np.float32)],
    3,
    7,
)


@pytest.fixture(scope="module")
def config(small_world):
    return small_world.config("demo,backbone=redial")


def test_ratings_are_what_the_seekers_say(small_world, config):
    stages = pipeline.build(config)
    artifacts.ensure(stages["questionnaires"], small_world.artifacts_dir)
    corpus = Corpus.open(stages["corpus"].directory(small_world.artifacts_dir))
    dialogues = corpus.dialogues("train")[:3]
    ids, movies = [d.conversation_id for d in dialogues], corpus.items.item_ids.tolist()
    forms = Questionnaires(
        {
            "initiator": {
                ids[0]: {movies[4]: (1, 0, 1), movies[2]: (1, 1, 0), movies[9]: (1, 2, 2)},
                ids[1]: {movies[1]: (1, 2, 2), 999: (1, 1, 1)},
            },
            "respondent": {ids[2]: {movies[0]: (1, 1, 1)}},
        },
        {},
    )
    found = seeker_ratings(dialogues, forms, corpus)
    assert [items.tolist() for items in found.items] == [[4, 2]]
    assert [ratings.tolist() for ratings in found.ratings] == [[1.0, 0.0]]
    assert found.num_movies == len(movies) and found.num_matched == 2


def test_batches_weigh_users_alike():
    batch = RatingBatches(RATINGS)(np.array([1, -1, 0]), 1, np.array([1, -1, 0, 0]))
    assert batch["items"].tolist() == [[5, -1], [-1, -1], [3, 0]]
    assert batch["weights"].tolist() == pytest.approx([1 / 3, 0, 1 / 3])


def test_the_loss_hides_some_of_the_ratings_but_counts_all():
    params = perturbed(autorec.init_autorec(jax.random.key(0), 7, 4))
    batch = RatingBatches(RATINGS)(np.array([0, 1]), 1, np.array([0, 1]))
    found = {
        round(float(rating_loss(params, batch, jax.random.key(n), None)[0]), 6) for n in range(40)
    }
    everything = []
    for seen in ([3, 0], [3, -1], [-1, 0], [-1, -1]):
        for other in ([5, -1], [-1, -1]):
            items = np.array([seen, other], np.int32)
            users = autorec.user_vectors(params, items, batch["ratings"])
            scores = autorec.scores(params, users)
            errors = autorec.squared_error(scores, batch["items"], batch["ratings"])
            everything.append(float((errors * batch["weights"]).sum()))
    assert all(min(abs(each - one) for one in everything) < 1e-5 for each in found)
    assert len(found) > 2  # seeing a movie that is rated 0 changes nothing


def test_the_error_leaves_each_rating_out():
    params = perturbed(autorec.init_autorec(jax.random.key(0), 7, 4), scale=1.0)
    x = np.zeros((3, 7), np.float32)
    x[1, 3] = 1.0  # to predict item 0; item 3 is predicted from item 0, which is rated 0

    def predicted(x, item):
        hidden = 1 / (1 + np.exp(-(x @ params["encoder"]["kernel"] + params["encoder"]["bias"])))
        scores = hidden @ params["decoder"]["kernel"] + params["decoder"]["bias"]
        return 1 / (1 + np.exp(-scores[item]))

    errors = [
        (predicted(x[0], 3) - 1) ** 2,
        predicted(x[1], 0) ** 2,
        (predicted(x[2], 5) - 0.5) ** 2,
    ]
    found = leave_one_out_error(params, RatingBatches(RATINGS), batch_size=4)
    assert found == pytest.approx(np.mean(errors), rel=1e-5)


def test_its_schedule_is_checked_when_it_begins(small_world, config):
    assert checks.is_checked_later(pipeline.build(config))
    assert not checks.is_checked_later(pipeline.build(small_world.config()))


def test_nothing_to_learn_from_is_an_error(config):
    settings = pipeline.build(config)["rec_teacher"].settings
    none = Ratings([], [], 0, 7)
    with pytest.raises(ConfigError, match="expects ratings to train on, found none"):
        make_task(settings.model, "rec_teacher", none, RATINGS, 0, settings.execution)


def test_movielens_comes_first(small_world, config, tmp_path, capsys):
    """Its movies are matched by title and year, and what was matched is said."""
    titles = Corpus.open(
        pipeline.build(config)["corpus"].directory(small_world.artifacts_dir)
    ).items.titles
    lines = [f'{n + 1},"{title}",Drama' for n, title in enumerate(titles[:10])]
    (tmp_path / "movies.csv").write_text("\n".join(["movieId,title,genres", *lines]) + "\n")
    lines = [
        f"{user},{1 + (user * k) % 10},{1 + (user + k) % 5},9"
        for user in range(1, 130)
        for k in (1, 2, 3)
    ]
    (tmp_path / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *lines]))
    changed = config.replace(
        {"autorec.movielens_dir": str(tmp_path), "autorec.use_sentiment": False}
    )
    stage = pipeline.build(changed)["rec_teacher"]
    assert stage.fingerprint != pipeline.build(config)["rec_teacher"].fingerprint
    artifacts.ensure(stage, small_world.artifacts_dir)
    assert "ratings of 10 of 40 movies (25.0%), by 129 users" in capsys.readouterr().out
    directory = stage.directory(small_world.artifacts_dir)
    assert (directory / "movielens" / "history.jsonl").exists()
    corpus = Corpus.open(stage.inputs["corpus"].directory(small_world.artifacts_dir))
    trained = recommenders.load(directory, corpus)
    assert trained.spec.sentiment is None and not trained.sentiment
    scored = score(trained, corpus, "valid")
    assert scored["num_targets"] > 0


def test_a_missing_release_is_known_before_anything_runs(config, tmp_path):
    with pytest.raises(
        ConfigError, match="config.autorec.movielens_dir: .* no ratings.csv, no movies"
    ):
        pipeline.build(config.replace({"autorec.movielens_dir": str(tmp_path)}))


def test_a_fold_is_left_out_by_autorec_and_by_the_sentiment_model_that_it_reads(config):
    folded = config.replace({"rec_teacher.cross_fit_folds": 2})
    stages = pipeline.build(folded)
    for fold in (0, 1):
        labeller = stages["teacher_outputs"].inputs[f"rec_teacher_{fold}"]
        assert labeller.settings.fold == (fold, 2)
        assert labeller.inputs["sentiment"].settings.fold == (fold, 2)
        expected = labeller.inputs["sentiment"].settings
        whole = dataclasses.replace(expected, fold=None)
        assert whole == stages["sentiment"].settings  # nothing else differs
    # The recommender of the evaluation and of the dialogue model has seen all of train.
    assert stages["rec_teacher"].fingerprint == pipeline.build(config)["rec_teacher"].fingerprint


def test_without_a_sentiment_model_none_is_trained(config):
    """And a history is cut as one would cut it."""
    stages = pipeline.build(config.replace({"autorec.use_sentiment": False}))
    everything = in_order(stages["evaluation"])
    assert "sentiment" not in stages and "sentiment" not in {stage.name for stage in everything}
    assert set(stages["rec_teacher"].inputs) == {"corpus", "vocabulary", "questionnaires"}
    heard = pipeline.build(config)["sentiment"].settings.limits
    assert stages["rec_teacher"].settings.limits == heard
    folded = {"autorec.use_sentiment": False, "rec_teacher.cross_fit_folds": 2}
    assert "sentiment" not in {
        stage.name for stage in in_order(pipeline.build(config.replace(folded))["evaluation"])
    }
