"""Rows of whole dialogues with the entities before each response: the right ones at each place."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.data.corpus import Dialogue, Turn, responses
from conkd_jax.data.recommender_inputs import build_recommender_contexts
from conkd_jax.data.rows.contract import FILL
from conkd_jax.data.rows.dialogue import build_dialogue_rows
from conkd_jax.data.rows.dialogue_entities import DialogueEntityRows
from conkd_jax.data.tokenizers.bpe import train_bpe
from conkd_jax.data.vocabulary import Vocabulary

VOCABULARY = Vocabulary(train_bpe(["hello there good movie"] * 3, 265), [1, 22], ["One", "Two"])
PAD, GEN = VOCABULARY.pad_id, VOCABULARY.gen_id
LIMITS = {"max_row_tokens": 40, "max_response_tokens": 8}


def dialogue(name: str, *turns: tuple[str, tuple[int, ...]], first: str = "seeker") -> Dialogue:
    roles = ("seeker", "recommender") if first == "seeker" else ("recommender", "seeker")
    spoken = [
        Turn(roles[i % 2], text, entities=entities) for i, (text, entities) in enumerate(turns)
    ]
    return Dialogue(name, tuple(spoken))


DIALOGUES = [
    dialogue("a", ("hi @1", (4,)), ("see @22", (5,)), ("no", ()), ("bye", ()), ("thanks", (9,))),
    dialogue("b", ("hello", ()), ("good movie @1 !", (4, 6))),
]


def build(dialogues, max_entities=3, **limits):
    rows = build_dialogue_rows(dialogues, VOCABULARY, **(limits or LIMITS))
    contexts = build_recommender_contexts(
        dialogues,
        is_stop_word=np.zeros(1, bool),
        max_entities=max_entities,
        max_concepts=0,
    )
    return DialogueEntityRows.of(rows, contexts)


def test_each_position_finds_the_entities_of_its_response():
    rows = build(DIALOGUES)
    inputs, first = rows.inputs(np.array([1, FILL, 0]), 48, "student", PAD)
    assert inputs["entities"].tolist() == [
        [[-1, -1, -1], [-1, -1, -1]],  # nothing is mentioned before b's only response
        [[-1, -1, -1], [-1, -1, -1]],
        [[4, -1, -1], [4, 5, -1]],
    ]
    slots = inputs["response_slot"]
    assert slots.shape == inputs["input_ids"].shape == (3, 48)
    assert (slots[1] == -1).all()
    # The state that predicts target t of a response stands t - 1 places after the first.
    expected = np.full(3 * 48, -1)
    for place, response, slot in zip(first, (2, 0, 1), (0, 0, 1), strict=True):
        expected[place : place + rows.response_length[response]] = slot
    np.testing.assert_array_equal(slots.reshape(-1), expected)


def test_shapes_depend_on_the_bucket_alone():
    """A row of one response and a row of two have the same shapes in one bucket."""
    rows = build(DIALOGUES)
    shapes = [
        {
            name: array.shape
            for name, array in rows.inputs(np.array([row]), 48, "teacher", PAD)[0].items()
        }
        for row in range(rows.num_rows)
    ]
    assert shapes[0] == shapes[1]
    shorter = rows.inputs(np.array([1]), int(rows.lengths[1]), "teacher", PAD)[0]
    assert rows.lengths[1] < rows.lengths[0] and shorter["entities"].shape == (1, 1, 3)


texts = st.sampled_from(["", "@1", "hello there", "good movie @22 !", "a" * 30])
splits = st.lists(
    st.lists(st.tuples(texts, st.lists(st.integers(0, 9), max_size=3)), min_size=2, max_size=9),
    min_size=1,
    max_size=3,
)


@settings(deadline=None)
@given(splits)
def test_no_response_loses_its_entities(split):
    """Also where a dialogue is split into rows: entities are of the whole history."""
    dialogues = [
        dialogue(str(number), *((text, tuple(found)) for text, found in turns))
        for number, turns in enumerate(split)
    ]
    rows = build(dialogues, max_entities=30)
    wanted = [
        {entity for said in each.turns[:turn] for entity in said.entities}
        for each in dialogues
        for turn in responses(each)
    ]
    bucket = int(rows.lengths.max())
    for form in ("teacher", "student"):
        inputs, first = rows.inputs(np.arange(rows.num_rows), bucket, form, PAD)
        slots = inputs["response_slot"].reshape(-1)
        counted = 0
        for response, place in enumerate(first):
            span = slots[place : place + rows.response_length[response]]
            assert len(set(span)) == 1
            found = inputs["entities"][place // bucket, span[0]]
            assert set(found[found >= 0]) == wanted[response]
            counted += len(span)
        assert (slots >= 0).sum() == counted


def test_prompts_carry_the_entities_of_their_response():
    rows = build(DIALOGUES)
    prompts = rows.prompts([1, 2], [GEN, GEN], 32, "student")
    inputs = prompts.inputs([1, 0], 20, 3)
    assert inputs["entities"].tolist() == [[-1, -1, -1], [4, 5, -1], [-1, -1, -1]]
    plain = build_dialogue_rows(DIALOGUES, VOCABULARY, **LIMITS).prompts(
        [1, 2], [GEN, GEN], 32, "student"
    )
    assert plain.tokens == prompts.tokens
    np.testing.assert_array_equal(plain.inputs([1, 0], 20, 3)["input_ids"], inputs["input_ids"])


def test_a_reopened_response_keeps_its_entities():
    """Alone in its row, at the same place, with the same entities and another opening token."""
    rows = build(DIALOGUES)
    reopened = rows.reopened([1, 2], [GEN, GEN])
    assert isinstance(reopened, DialogueEntityRows) and reopened.num_rows == 2
    before, _ = rows.inputs(np.array([0]), 48, "student", PAD)
    after, first = reopened.inputs(np.array([0, 1]), 48, "student", PAD)
    assert after["entities"].tolist() == [[[4, 5, -1]], [[-1, -1, -1]]]
    is_here = before["response_slot"][0] == 1
    np.testing.assert_array_equal(after["response_slot"][0] == 0, is_here)
    assert first[0] == np.flatnonzero(is_here)[0]


def test_contexts_of_other_responses_are_refused():
    rows = build_dialogue_rows(DIALOGUES, VOCABULARY, **LIMITS)
    with pytest.raises(ValueError, match="3 responses came with the contexts of 1 other responses"):
        DialogueEntityRows.of(
            rows,
            build_recommender_contexts(
                DIALOGUES[1:], is_stop_word=np.zeros(1, bool), max_entities=3, max_concepts=0
            ),
        )


def test_the_rest_is_that_of_dialogue_rows():
    rows, plain = build(DIALOGUES), build_dialogue_rows(DIALOGUES, VOCABULARY, **LIMITS)
    for field in dataclasses.fields(plain):
        assert str(getattr(rows, field.name)) == str(getattr(plain, field.name)), field.name
