"""Rows of one response: context, opening token, targets and mentioned nodes, each as defined."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.data.batches.language_model import LanguageModelBatches
from conkd_jax.data.batches.loader import BatchLoader
from conkd_jax.data.batches.plan import BatchPlan, quantile_buckets
from conkd_jax.data.corpus import Dialogue, Turn, responses
from conkd_jax.data.recommender_inputs import build_recommender_contexts
from conkd_jax.data.rows.contract import FILL
from conkd_jax.data.rows.response import build_response_rows
from conkd_jax.data.tokenizers.words import train_words
from conkd_jax.data.vocabulary import Vocabulary

VOCABULARY = Vocabulary(train_words(["hello there good movie a !"] * 3), [1, 22], ["One", "Two"])
END, GEN, REC, PAD = (
    VOCABULARY.end_id,
    VOCABULARY.gen_id,
    VOCABULARY.rec_id,
    VOCABULARY.pad_id,
)
LIMITS = {"max_context_turns": 2, "max_context_tokens": 9, "max_response_tokens": 4}
NO_STOPS = np.zeros(5, bool)


def dialogue(*texts: str, first: str = "seeker", name: str = "d") -> Dialogue:
    """Turn i mentions entity i and the concepts i % 5 and 0."""
    roles = ("seeker", "recommender") if first == "seeker" else ("recommender", "seeker")
    return Dialogue(
        name,
        tuple(
            Turn(roles[i % 2], text, entities=(i,), concepts=(i % 5, 0))
            for i, text in enumerate(texts)
        ),
    )


def rows_of(dialogues, **limits):
    contexts = build_recommender_contexts(
        dialogues, is_stop_word=NO_STOPS, max_entities=3, max_concepts=2
    )
    return build_response_rows(dialogues, VOCABULARY, contexts, **{**LIMITS, **limits})


texts = st.sampled_from(
    ["", "@1", "@22 @1", "hello there", "good movie @22 !", "@404", "a a a a a a a", "é"]
)
# made into turns inside a test: strategies may not draw from `random`, the type checks do
splits = st.lists(
    st.tuples(st.lists(texts, max_size=7), st.sampled_from(["seeker", "recommender"])), max_size=4
)


def spoken(split):
    return [dialogue(*said, first=first, name=f"d{i}") for i, (said, first) in enumerate(split)]


def test_a_row_written_out():
    said = dialogue("hello", "good @1", "a", "movie there")
    rows = rows_of([said])
    hello, good, a, movie = (VOCABULARY.encode(turn.text) for turn in said.turns)
    assert rows.response_keys == [("d", 1), ("d", 3)]
    assert rows.context_tokens[0].tolist() == [*hello, END]
    assert rows.context_tokens[1].tolist() == [*good, END, *a, END]  # the last two turns
    assert rows.response_targets(0).tolist() == [*good, END]
    assert rows.response_is_rec.tolist() == [True, False]
    assert rows.opening["teacher"].tolist() == [END, END]
    assert rows.opening["student"].tolist() == [REC, GEN]
    inputs, first = rows.inputs(np.array([1, FILL]), 8, "student", PAD)
    assert first.tolist() == [0]
    assert inputs["context_ids"].tolist() == [[*good, END, *a, END, PAD, PAD, PAD], [PAD] * 8]
    assert inputs["context_mask"].sum(1).tolist() == [5, 0]
    assert inputs["response_ids"].tolist() == [[GEN, *movie, PAD], [PAD] * 4]
    assert inputs["entities"].tolist() == [[0, 1, 2], [-1] * 3]
    assert inputs["concepts"].tolist() == [[2, 0], [-1] * 2]  # the last said, each once


@settings(max_examples=100, deadline=None)
@given(splits, st.integers(1, 4), st.integers(1, 12), st.integers(1, 6))
def test_every_response_as_it_is_defined(split, turns, context, response):
    source = spoken(split)
    rows = rows_of(
        source,
        max_context_turns=turns,
        max_context_tokens=context,
        max_response_tokens=response,
    )
    expected = [(said, turn) for said in source for turn in responses(said)]
    assert rows.response_keys == [(said.conversation_id, turn) for said, turn in expected]
    assert rows.num_rows == rows.num_responses == len(expected)
    for n, (said, turn) in enumerate(expected):
        window = said.turns[max(0, turn - turns) : turn]
        tokens = [t for one in window for t in (*VOCABULARY.encode(one.text), END)]
        assert rows.context_tokens[n].tolist() == tokens[-context:]
        ids = VOCABULARY.encode(said.turns[turn].text)
        assert rows.response_targets(n).tolist() == [*ids, END][:response]
        assert rows.response_is_rec[n] == VOCABULARY.is_item(ids).any()
        assert rows.histories(3, "teacher", [n])[0].tolist() == tokens[-context:][-3:]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["teacher", "student"]))
def test_a_batch_finds_the_state_of_every_target(seed, form):
    """The input at the place of a target's state is what precedes the target."""
    rng = np.random.default_rng(seed)
    words = ["", "@1", "@22 a", "hello there", "good movie a ! a a"]
    source = [dialogue(*rng.choice(words, rng.integers(2, 8)), name=f"d{i}") for i in range(13)]
    rows = rows_of(source)
    plan = BatchPlan(rows.lengths, 8, quantile_buckets(rows.lengths, 2, 4), 1)
    loader = BatchLoader(plan, LanguageModelBatches(rows, VOCABULARY, plan, form), num_devices=2)
    seen = 0
    for step in range(plan.steps_per_epoch):
        for batch in ({k: v[d, 0] for k, v in loader.batch(step).items()} for d in range(2)):
            count = int(batch["num_tokens"])
            seen += count
            read = batch["response_ids"].reshape(-1)[batch["feature_index"][:count]]
            labels = batch["labels"][:count]
            opens = np.diff(batch["response_index"][:count], prepend=-1) > 0
            assert np.isin(read[opens], [END] if form == "teacher" else [REC, GEN]).all()
            np.testing.assert_array_equal(read[~opens], labels[:-1][~opens[1:]])
    assert seen == len(rows.targets)


def test_prompts_are_the_contexts_of_their_responses():
    source = [dialogue("hello", "good @1", "a", "movie there"), dialogue("a", "!", name="e")]
    rows = rows_of(source)
    prompts = rows.prompts([2, 1], [REC, GEN], 4, "student")
    assert prompts.lengths.tolist() == [2, 4]
    inputs = prompts.inputs([1, 0], 4, 3)
    assert inputs["first_token"].tolist() == [GEN, REC, 0]
    assert inputs["context_mask"].sum(1).tolist() == [4, 2, 0]
    tail = rows.context_tokens[1][-4:].tolist()
    assert inputs["context_ids"][0].tolist() == tail
    assert inputs["context_ids"][1, :2].tolist() == rows.context_tokens[2].tolist()
    assert inputs["entities"][:, 0].tolist() == [0, 0, -1]
    shorter = rows.prompts([1], [GEN], 3, "student").inputs([0], 8, 1)  # not what the bucket holds
    assert shorter["context_mask"].sum() == 3


def test_a_reopened_response_differs_in_its_opening_alone():
    rows = rows_of([dialogue("hello", "good @1", "a", "movie there", "@22", "hello @1")])
    again = rows.reopened([0, 2], [GEN, GEN])
    assert (
        again.response_keys == [("d", 1), ("d", 5)] and again.contexts.keys == again.response_keys
    )
    inputs, _ = again.inputs(np.array([0, 1]), 8, "student", PAD)
    expected, _ = rows.inputs(np.array([0, 2]), 8, "student", PAD)
    assert expected["response_ids"][:, 0].tolist() == [REC, REC]
    expected["response_ids"][:, 0] = GEN
    for name, array in expected.items():
        np.testing.assert_array_equal(inputs[name], array)
    for row, n in enumerate((0, 2)):
        assert again.response_targets(row).tolist() == rows.response_targets(n).tolist()


def test_refusals():
    said = dialogue("hello", "good")
    with pytest.raises(ValueError, match="expected limits of at least 1"):
        rows_of([said], max_context_turns=0)
    contexts = build_recommender_contexts(
        [said], is_stop_word=NO_STOPS, max_entities=1, max_concepts=1
    )
    with pytest.raises(ValueError, match="the same dialogues"):
        build_response_rows([dialogue("a", "b", name="x")], VOCABULARY, contexts, **LIMITS)
    rows = rows_of([])
    assert rows.num_responses == 0 and rows.lengths.tolist() == []
    with pytest.raises(ValueError, match="form must be one of"):
        rows.histories(5, "pupil")
