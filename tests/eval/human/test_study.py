"""Drawing a human evaluation: common contexts, blind ids, orders, and the key that undoes them."""

import collections
import dataclasses
import json

import pytest
from msgspec.structs import replace

from conkd_jax.eval.human.study import (
    EMPTY,
    SCALES,
    StudyError,
    System,
    draw_study,
    readable_text,
    shown_contexts,
    study_document,
    study_from_document,
    untitled_items,
)
from conkd_jax.eval.predictions import ContextTurn
from conkd_jax.eval.tables.paper import SYSTEMS
from tests.eval import judged


def draw(names, answers, **options):
    return draw_study(judged.systems(*names), answers, **options)


# --- contexts -------------------------------------------------------------------------------


def test_only_contexts_that_all_systems_answered_are_drawn():
    first, second = (judged.answers(name) for name in judged.NAMES)
    for key in list(second)[::2]:
        del second[key]
    study = draw(judged.NAMES, [first, second], num_contexts=6)
    assert set(study.contexts) == set(first) & set(second)


def test_contexts_are_a_random_draw_that_the_seed_repeats():
    drawn = [judged.study(num_contexts=4, seed=seed).contexts for seed in range(20)]
    assert all(len(set(contexts)) == 4 for contexts in drawn)
    assert len(set(drawn)) > 15
    assert judged.study(num_contexts=4, seed=3).contexts == drawn[3]
    times = collections.Counter(key for contexts in drawn for key in contexts)
    assert len(times) == 12 and max(times.values()) <= 14  # 20 · 4 draws over 12 contexts


def test_the_order_of_the_predictions_does_not_count():
    answers = [judged.answers(name) for name in judged.NAMES]
    backwards = [dict(reversed(each.items())) for each in answers]
    options = {"num_contexts": 4, "num_annotators": 2}
    assert draw(judged.NAMES, answers, **options) == draw(judged.NAMES, backwards, **options)


# --- orders ---------------------------------------------------------------------------------


def test_every_sheet_holds_every_response_once():
    study = judged.study()
    everything = {(context, system) for context in range(5) for system in range(2)}
    for sheet in study.sheets:
        assert {(entry.context, entry.system) for entry in sheet} == everything
        assert len(sheet) == 10
        contexts = [entry.context for entry in sheet]
        assert contexts[::2] == contexts[1::2]  # the responses to a context stay together
    ids = [entry.id for sheet in study.sheets for entry in sheet]
    assert len(set(ids)) == len(ids)
    assert ids[0] == "a1-c001-r01" and ids[-1] == "a3-c005-r02"


def test_orders_differ_between_annotators_contexts_and_seeds():
    study = judged.study(num_contexts=12)
    orders = [[(entry.context, entry.system) for entry in sheet] for sheet in study.sheets]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    contexts = [[context for context, _ in order[::2]] for order in orders]
    assert contexts[0] != contexts[1] != contexts[2] != contexts[0]
    for sheet in study.sheets:
        assert {entry.system for entry in sheet[::2]} == {0, 1}  # neither system is always first
    assert judged.study(num_contexts=12).sheets == study.sheets
    assert judged.study(num_contexts=12, seed=1).sheets != study.sheets


def test_no_place_belongs_to_a_system():
    names = [f"s{n}" for n in range(3)]
    answers = [judged.answers("s", num_responses=600)] * 3
    (sheet,) = draw(names, answers, num_contexts=600, num_annotators=1).sheets
    for place in range(3):
        times = collections.Counter(entry.system for entry in sheet[place::3])
        assert all(150 < times[system] < 250 for system in range(3)), times


def test_one_annotator_more_changes_no_other_sheet():
    assert judged.study(num_annotators=4).sheets[:3] == judged.study(num_annotators=3).sheets


def test_no_order_can_be_drawn_again_without_the_predictions():
    answers = [judged.answers(name) for name in judged.NAMES]
    first = judged.systems()
    second = [dataclasses.replace(system, sha256="1" * 64) for system in first]
    options = {"num_contexts": 12, "num_annotators": 2}
    known, other = (draw_study(each, answers, **options) for each in (first, second))
    assert known.contexts == other.contexts
    for one, another in zip(known.sheets, other.sheets, strict=True):
        assert [entry.system for entry in one] != [entry.system for entry in another]
        assert [entry.context for entry in one] != [entry.context for entry in another]


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "num_contexts", "message"),
    [
        ((), 1, "expected at least one run"),
        (("a", "b", "a"), 1, "different names, got 'a' twice"),
        (("a", "b"), 13, "at least 13 contexts that all systems answered, found 12"),
    ],
)
def test_runs_that_make_no_study_are_refused(names, num_contexts, message):
    answers = [judged.answers(name) for name in names]
    with pytest.raises(StudyError, match=message):
        draw_study(
            [System(name, "", "", "", "") for name in names],
            answers,
            num_contexts=num_contexts,
        )


def test_one_context_with_two_histories_is_refused():
    first, second = (judged.answers(name) for name in judged.NAMES)
    other = (ContextTurn("seeker", "from another corpus"),)
    second = {key: replace(each, context=other) for key, each in second.items()}
    with pytest.raises(StudyError, match="one history for conversation 'd0', turn 1"):
        draw(judged.NAMES, [first, second], num_contexts=12)


def without_history(answers: dict) -> dict:
    return {key: replace(each, context=()) for key, each in answers.items()}


def test_a_context_without_a_history_is_refused():
    answers = [without_history(judged.answers(name)) for name in judged.NAMES]
    with pytest.raises(StudyError, match="expected the history of conversation 'd0', turn 1: nob"):
        draw(judged.NAMES, answers, num_contexts=12)


def test_one_system_that_tells_the_history_is_enough():
    first, second = (judged.answers(name) for name in judged.NAMES)
    answers = [without_history(first), second]
    study = draw(judged.NAMES, answers, num_contexts=5)
    titles = {7: "Gladiator (2000)"}
    assert shown_contexts(study, answers, titles) == judged.shown(judged.study())


# --- the key --------------------------------------------------------------------------------


def test_the_key_comes_back_from_json():
    study = judged.study()
    document = json.loads(json.dumps(study_document(study)))
    assert study_from_document(document, where="key.json") == study


def _swapped(document):
    entries = document["sheets"][0]
    entries[0]["system"], entries[1]["system"] = entries[1]["system"], entries[0]["system"]


@pytest.mark.parametrize(
    "change",
    [
        _swapped,
        lambda document: document.pop("contexts"),
        lambda document: document["systems"][0].pop("sha256"),
        lambda document: document["sheets"].pop(),
        lambda document: document.update(study="s0"),
        lambda document: document.update(format_version=99),
        lambda document: document.update(contexts=3),
    ],
)
def test_a_key_that_was_changed_is_refused(change):
    document = json.loads(json.dumps(study_document(judged.study())))
    change(document)
    with pytest.raises(StudyError, match=r"^DIR/key.json: expected the key"):
        study_from_document(document, where="DIR/key.json")
    with pytest.raises(StudyError, match="expected the key"):
        study_from_document([document], where="key.json")


def test_studies_have_ids_of_their_own_that_no_spreadsheet_calculates_with():
    ids = [judged.study(seed=seed).id for seed in range(5)] + [judged.study(num_annotators=2).id]
    assert len(set(ids)) == 6
    assert all(name.isalnum() and name.startswith("s") for name in ids)


# --- texts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seen @7, @8?", "seen Gladiator (2000), @8?"),
        ("one\r\n\ttwo\x00\u202ethree\u2028four", "one two three four"),
        ("half a pair \ud83d", "half a pair"),
        ("😀 é", "😀 é"),
        ("👩\u200d👧 می\u200cخواهم", "👩\u200d👧 می\u200cخواهم"),
        ("", EMPTY),
        ("@" + "7" * 5000, "@" + "7" * 5000),
    ],
)
def test_texts_are_one_readable_line(text, expected):
    assert readable_text(text, {7: "Gladiator  (2000)"}) == expected


def test_every_system_speaks_for_itself():
    study = judged.study()
    texts = judged.shown(study)
    answers = [judged.answers(name) for name in judged.NAMES]
    for key, text in zip(study.contexts, texts, strict=True):
        for answer, response in zip(answers, text.responses, strict=True):
            assert response == readable_text(answer[key].generated, {7: "Gladiator (2000)"})
        (turn,) = text.turns
        assert turn[0] == "seeker" and "Gladiator (2000)" in turn[1]
    assert untitled_items(texts) == set()
    assert untitled_items(shown_contexts(study, answers, {})) == {"@7"}


def test_scales_are_those_of_the_papers_table():
    assert [scale.metric for scale in SCALES] == [
        name
        for name in SYSTEMS["ReDial"].metrics
        if name.startswith("human_") and name != "human_average"
    ]
