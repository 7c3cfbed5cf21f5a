"""The stage `questionnaires`."""

import pytest
from etils import epath

from conkd_jax.artifacts import build as artifacts
from conkd_jax.artifacts.stage import Context
from conkd_jax.config import ConfigError
from conkd_jax.data.questionnaires import read_questionnaires
from conkd_jax.stages import pipeline, questionnaires


@pytest.fixture
def stages(small_world):
    return pipeline.build(small_world.config("demo,backbone=redial"))


def test_every_dialogue_of_movieworld_has_its_forms(small_world, stages):
    stage, folder = stages["questionnaires"], small_world.artifacts_dir
    artifacts.ensure(stage, folder)
    found = read_questionnaires(stage.directory(folder))
    train = found.report["splits"]["train"]
    assert train["dialogues"] == train["with_both"] > 0 == train["with_none"]
    assert found.report["unknown_answers"] == 0


def test_the_summary_counts_what_is_lacking():
    counts = {"dialogues": 4376, "with_both": 3786, "with_one": 60, "with_none": 530}
    report = {"splits": {"train": {**counts, "answered_movies": 19000}}}
    assert questionnaires.summary(report) == [
        "questionnaires: train: 3,786 of 4,376 dialogues have both forms, 60 one, 530 none; both "
        "name 19,000 movies"
    ]


def test_dialogues_without_forms_can_t_train_autorec(small_world, stages, tmp_path, monkeypatch):
    corpus = stages["corpus"].directory(small_world.artifacts_dir)
    nothing = {"initiator": {}, "respondent": {}}
    monkeypatch.setattr(questionnaires, "movieworld_questionnaires", lambda *_: nothing)
    context = Context({"corpus": epath.Path(corpus)}, {}, is_resumed=False)
    settings = stages["questionnaires"].settings
    with pytest.raises(ConfigError, match="architecture: autorec learns from the questionnaires"):
        questionnaires.run(settings, epath.Path(tmp_path), context)
