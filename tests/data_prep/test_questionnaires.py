"""Questionnaires in ReDial's files, and those of MovieWorld."""

import json

import pytest

from data_prep.movieworld.conversations import make_dialogues
from data_prep.movieworld.world import make_world
from data_prep.questionnaires import (
    movieworld_questionnaires,
    read_forms,
    redial_questionnaires,
)


def line(conversation, initiator, respondent) -> bytes:
    record = {
        "conversationId": conversation,
        "initiatorQuestions": initiator,
        "respondentQuestions": respondent,
    }
    return json.dumps(record).encode()


GOOD = {"suggested": 1, "seen": 0, "liked": 1}


def test_forms_are_read_by_conversation_and_movie():
    forms, unknown = read_forms([line("1", {"105": GOOD}, {"105": GOOD, "106": GOOD})])
    assert forms == {
        "initiator": {"1": {105: (1, 0, 1)}},
        "respondent": {"1": {105: (1, 0, 1), 106: (1, 0, 1)}},
    }
    assert unknown == 0


def test_a_dialogue_without_forms_is_left_out():
    """ReDial writes an empty list, or nothing, where a speaker filled in no form."""
    lines = [line("1", [], {"105": GOOD}), line("2", {}, []), b'{"conversationId": "3"}']
    forms, unknown = read_forms(lines)
    assert forms == {"initiator": {}, "respondent": {"1": {105: (1, 0, 1)}}} and not unknown


@pytest.mark.parametrize(
    "answers",
    [{}, None, {**GOOD, "liked": 3}, {**GOOD, "seen": "1"}, {**GOOD, "suggested": 2}, {"liked": 1}],
)
def test_unknown_answers_are_counted_and_left_out(answers):
    forms, unknown = read_forms([line("1", {"105": answers, "106": GOOD}, {"x": GOOD})])
    assert forms["initiator"]["1"] == {106: (1, 0, 1)}
    assert unknown == 2


@pytest.mark.parametrize("broken", [b"{", b"[]", b"\xff", b'{"messages": []}'])
def test_lines_that_are_no_dialogues_have_no_forms(broken):
    forms, _ = read_forms([broken, line("1", {"105": GOOD}, {"105": GOOD})])
    assert list(forms["initiator"]) == ["1"]


def test_movieworlds_forms_say_what_its_dialogues_say():
    forms = movieworld_questionnaires(0, 40, 60)
    dialogues = make_dialogues(make_world(0, 40), 0, 60)
    assert forms["initiator"] == forms["respondent"]
    answers = set()
    for dialogue in dialogues:
        form = forms["initiator"][dialogue.conversation_id]
        said = " ".join(text for _, text in dialogue.messages)
        assert all(f"@{movie}" in said for movie in form)
        first_by_seeker = {m for m in form if _first_sender(dialogue, m) is False}
        assert {m for m, (suggested, _, _) in form.items() if not suggested} <= first_by_seeker
        answers |= set(form.values())
    assert answers == {(0, 1, 1), (1, 0, 1), (1, 1, 1), (1, 2, 2)}


def _first_sender(dialogue, movie):
    return next(sender for sender, text in dialogue.messages if f"@{movie}" in text)


@pytest.mark.real_data
def test_redials_forms(raw_dir):
    """530 training dialogues have no form: 519 came without them, 11 speakers skipped both."""
    forms, unknown = redial_questionnaires(raw_dir)
    assert {name: len(of) for name, of in forms.items()} == {
        "initiator": 4706,
        "respondent": 4712,
    }
    assert unknown == 0
