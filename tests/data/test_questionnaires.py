"""Questionnaires: what they say about a dialogue, and the folder they are kept in."""

import pytest

from conkd_jax.data.questionnaires import (
    QuestionnaireError,
    Questionnaires,
    questionnaire_report,
    read_questionnaires,
    write_questionnaires,
)

FORMS = {
    "initiator": {"a": {7: (1, 0, 1), 8: (0, 1, 0), 9: (1, 2, 2)}, "b": {7: (0, 1, 1)}},
    "respondent": {"a": {8: (0, 1, 1), 7: (1, 2, 2)}, "c": {7: (1, 1, 1)}},
}


@pytest.fixture
def questionnaires():
    return Questionnaires(FORMS, {"splits": {}})


def test_likes_are_the_seekers_own_answers(questionnaires):
    assert questionnaires.seeker_likes("a") == {7: 1.0, 8: 0.0}  # 9: not said
    assert questionnaires.seeker_likes("c") == {}


def test_answers_are_those_of_both(questionnaires):
    assert questionnaires.answers_of_both("a") == {7: (1, 0, 1, 1, 2, 2), 8: (0, 1, 0, 0, 1, 1)}
    assert questionnaires.answers_of_both("b") == questionnaires.answers_of_both("c") == {}


def test_a_folder_keeps_everything(questionnaires, tmp_path):
    write_questionnaires(tmp_path, questionnaires)
    assert read_questionnaires(tmp_path) == questionnaires
    with pytest.raises(QuestionnaireError, match="found no questionnaires.npz"):
        read_questionnaires(tmp_path / "nowhere")


def test_the_report_counts_dialogues_without_forms():
    report = questionnaire_report(FORMS, {"train": ["a", "b", "d"], "valid": ["c"]})
    assert report["train"] == {
        "dialogues": 3,
        "with_both": 1,
        "with_one": 1,
        "with_none": 1,
        "answered_movies": 2,
    }
    assert report["valid"]["with_one"] == 1
