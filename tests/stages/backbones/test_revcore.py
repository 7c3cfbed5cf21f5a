"""RevCore through the same stages as the other backbones: reviews reach every part that reads them.

MovieWorld generates its reviews.
"""

import json

import numpy as np
import pytest

from conkd_jax.config import ConfigError, frozen
from conkd_jax.config.rules import validate_config
from conkd_jax.data.teacher_store.files import TeacherStore
from conkd_jax.stages import language_model, pipeline
from conkd_jax.stages import recommender as recommenders
from conkd_jax.stages.backbones import kgsf, revcore
from data_prep.sources import MissingDataError
from tests.fixtures.backbones import check_one_device_is_eight, check_same_responses
from tests.fixtures.small_world import get_config

REVCORE = "demo,backbone=revcore"


BACKBONE, FIELDS = "revcore", {"system": "dialogue_teacher"}


def test_the_same_responses_are_scored_as_of_the_others(folder, small_world):
    _, pairs = check_same_responses(folder, small_world.folder)
    assert any(o.recommender_top != t.recommender_top for o, t in pairs)  # it reads reviews


def test_the_rows_are_kgsfs_but_for_reviews(config, opened):
    corpus, words, _ = opened
    dialogues = corpus.dialogues("train")
    rows = revcore.row_settings(config).rows_of(corpus, words, dialogues)
    plain = kgsf.row_settings(config).rows_of(corpus, words, dialogues)
    np.testing.assert_array_equal(rows.targets, plain.targets)
    np.testing.assert_array_equal(rows.contexts.concepts, plain.contexts.concepts)
    reviewed = [mark.any() for mark in rows.is_review]
    assert 0.3 < np.mean(reviewed) < 1
    assert (rows.retrieved < words.num_words).all() and words.unk_id not in rows.retrieved
    # The words that are retrieved are those of the reviews of what the context mentions.
    text = {token: set(ids) for token, ids in revcore.review_words(corpus, words, 20).items()}
    for row in np.flatnonzero(reviewed)[:20]:
        named = rows.context_tokens[row].tolist()
        allowed = set().union(*(text.get(token, set()) for token in named))
        assert {*rows.retrieved[row].tolist()} <= {*allowed, -1}


def test_the_word_list_has_the_words_of_reviews(opened):
    corpus, words, _ = opened
    encoded = words.encode_batch([review.text for review in corpus.reviews.values()])
    unknown = np.mean([token == words.unk_id for ids in encoded for token in ids])
    assert encoded and unknown < 0.2
    said = {
        token for d in corpus.dialogues("train") for t in d.turns for token in words.encode(t.text)
    }
    assert {token for ids in encoded for token in ids} - said


def test_the_recommender_reads_the_concepts_of_reviews(config, opened):
    corpus, _, directories = opened
    recommender = recommenders.load(directories["rec_teacher"], corpus)
    assert recommender.spec.use_reviews
    dialogues = corpus.dialogues("dev")
    with_reviews = recommender.spec.contexts(dialogues, corpus).concepts
    rows = kgsf.row_settings(config.replace({"rec_teacher.use_reviews": False}))
    without = rows.rows_of(corpus, opened[1], dialogues).contexts.concepts
    assert (with_reviews >= 0).sum() > (without >= 0).sum()


def test_one_device_is_eight(config, opened):
    """Loss and gradients of the first step, dropout off."""
    corpus, words, directories = opened
    trained = language_model.load(config.backbone, directories["dialogue_teacher"], words)
    spec = {**json.loads((directories["dialogue_teacher"] / "model.json").read_text())}
    model = revcore.model_of({**spec, "dropout": 0.0}, words)
    start = language_model.LanguageModel(model, trained.params, words, trained.frozen)
    rows = revcore.row_settings(config).rows_of(corpus, words, corpus.dialogues("train"))
    gradients = check_one_device_is_eight(config, start, rows, "teacher")
    assert np.abs(gradients["reviews"]["copy_kernel"]).max() > 0


@pytest.mark.slow  # three more trainings
def test_it_teaches_a_student_through_a_dense_store(small_world, config, opened):
    corpus, words, directories = opened
    distilled = config.replace(
        {"system": "student", "distill.eta": 0.1, "teacher_outputs.dtype": "float32"}
    )
    small_world.run(distilled)
    stages = pipeline.build(distilled)
    store = TeacherStore.open(stages["teacher_outputs"].directory(distilled.artifacts_dir))
    teacher = language_model.load(config.backbone, directories["dialogue_teacher"], words)
    rows = revcore.row_settings(config).rows_of(corpus, words, corpus.dialogues("train"))
    live = teacher.score(rows, "teacher", batch_rows=16).item_mass
    stored = np.concatenate([record.item_mass for record in store.read(range(len(store)))])
    assert stored.std() > 1e-3
    np.testing.assert_allclose(live, stored, atol=1e-5)


# --- configs --------------------------------------------------------------------------------------


def refused(**fields):
    config = frozen(get_config(REVCORE)).replace(
        {k.replace("__", "."): v for k, v in fields.items()}
    )
    with pytest.raises(ConfigError) as error:
        validate_config(config)
    return str(error.value)


def test_what_does_not_fit_is_refused():
    assert validate_config(frozen(get_config(REVCORE)))
    message = refused(teacher_outputs__format="features")
    assert "config.teacher_outputs.format: expected dense or topk for a dialogue" in message
    message = refused(corpus__reviews="")
    assert "config.corpus.reviews: expected RevCore's .pkl or a .jsonl" in message
    assert "config.rec_teacher.use_reviews: expected False without corpus.reviews" in message
    assert 'expected "" or generated with' in refused(corpus__reviews="own.jsonl")
    assert "0, got 0" not in refused(revcore__max_review_tokens=0)
    assert '"" or a .pkl or .jsonl' in refused(corpus__name="redial")


def test_missing_reviews_are_told_before_anything_runs(small_world, tmp_path):
    config = small_world.config(REVCORE, corpus__reviews=str(tmp_path / "none.jsonl"))
    with pytest.raises(
        MissingDataError, match=r"config\.corpus\.reviews: .*found no .*none\.jsonl"
    ):
        pipeline.build(config)
