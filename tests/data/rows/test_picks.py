"""Item-first rows: picks and text are the ordinary response, and what was said has no picks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.data.batches.language_model import LanguageModelBatches
from conkd_jax.data.batches.plan import BatchPlan, quantile_buckets
from conkd_jax.data.corpus import Dialogue, Turn
from conkd_jax.data.recommender_inputs import build_recommender_contexts
from conkd_jax.data.rows.dialogue import build_dialogue_rows
from conkd_jax.data.rows.picks import PickError, charged_to_text, picks_of, split_picks
from conkd_jax.data.rows.response import build_response_rows
from conkd_jax.data.tokenizers.bpe import train_bpe
from conkd_jax.data.tokenizers.words import train_words
from conkd_jax.data.vocabulary import Vocabulary

MOVIES = [1, 22, 7], ["One", "Two", "Seven"]
BPE = Vocabulary(train_bpe(["hello there good movie"] * 3, 265), *MOVIES)
WORDS = Vocabulary(train_words(["hello there good movie a !"] * 3), *MOVIES)
END, REC, GEN = BPE.end_id, BPE.rec_id, BPE.gen_id
A, B, C = (BPE.num_words + item for item in range(3))

texts = st.sampled_from(
    ["", "@1", "@22 @1 @22", "hello there", "good movie @7 ! or @1", "a a a a a a a @22", "@404"]
)
splits = st.lists(
    st.tuples(st.lists(texts, max_size=8), st.sampled_from(["seeker", "recommender"])), max_size=4
)


def dialogue(*said: str, first: str = "seeker", name: str = "d") -> Dialogue:
    roles = ("seeker", "recommender") if first == "seeker" else ("recommender", "seeker")
    return Dialogue(name, tuple(Turn(roles[i % 2], text) for i, text in enumerate(said)))


def both_formats(kind, split, max_response=6):
    """Returns (vocabulary, ordinary rows, item-first rows) of the same dialogues."""
    said = [dialogue(*turns, first=first, name=f"d{i}") for i, (turns, first) in enumerate(split)]
    if kind == "dialogue":
        plain, first = (build_dialogue_rows(said, BPE, 24, max_response, n) for n in (None, 3))
        return BPE, plain, first
    contexts = build_recommender_contexts(
        said, is_stop_word=np.zeros(1, bool), max_entities=1, max_concepts=1
    )
    limits = {"max_context_turns": 3, "max_context_tokens": 20, "max_response_tokens": max_response}
    plain, first = (
        build_response_rows(said, WORDS, contexts, **limits, max_picks=n) for n in (None, 3)
    )
    return WORDS, plain, first


def test_a_row_written_out():
    said = dialogue("hi @7", "good @22 , @1 or @22", "no", "bye", "hm", "@7")
    rows = build_dialogue_rows([said], BPE, max_picks=2)
    hi, good, no, bye, hm, seven = (BPE.encode(turn.text) for turn in said.turns)
    opened = [REC, B, A, END, *good, END]
    assert rows.tokens["student"][0].tolist() == [
        *hi,  # a seeker picks nothing
        *opened,
        *no,
        *[GEN, *bye, END],
        *hm,
        *[REC, C, END, *seven, END],
    ]
    assert rows.response_targets(0).tolist() == opened[1:]
    assert rows.response_targets(1).tolist() == [*bye, END]
    assert rows.pick_tokens.tolist() == [3, 0, 2]
    assert rows.choices_of(np.arange(3)).tolist() == [3, 1, 2]
    first, second, _ = (rows.prompts([n], [REC], 99, "student").tokens[0] for n in range(3))
    assert first == [*hi, REC]
    assert second == [*hi, *opened, *no, REC]
    assert rows.histories(99, "student")[1].tolist() == [*hi, REC, *good, END, *no]


@pytest.mark.parametrize("kind", ["dialogue", "response"])
@settings(max_examples=100, deadline=None)
@given(split=splits)
def test_the_text_is_that_of_ordinary_rows(kind, split):
    words, plain, first = both_formats(kind, split)
    assert plain.pick_tokens is None and plain.is_choice.all()
    assert first.response_keys == plain.response_keys
    np.testing.assert_array_equal(first.response_is_rec, plain.response_is_rec)
    turns = dict(zip(plain.response_keys, range(plain.num_responses), strict=True))
    for n in turns.values():
        targets, count = first.response_targets(n), int(first.pick_tokens[n])
        picks, text = split_picks(targets.tolist(), words.num_words, words.end_id)
        assert text == plain.response_targets(n).tolist()
        assert bool(picks) == bool(plain.response_is_rec[n])
        assert len(set(picks)) == len(picks) and words.is_item(picks).all()
        assert count == (len(picks) + 1 if picks else 0)
        in_text = dict.fromkeys(token for token in text if token >= words.num_words)
        assert picks[: len(in_text)] == list(in_text), "in the order of their first mention"
    for limit in (3, 50):
        for form in ("teacher", "student"):
            ours, theirs = first.histories(limit, form), plain.histories(limit, form)
            assert [h.tolist() for h in ours] == [h.tolist() for h in theirs]


@pytest.mark.parametrize("kind", ["dialogue", "response"])
@settings(max_examples=60, deadline=None)
@given(split=splits, seed=st.integers(0, 9))
def test_every_target_is_predicted_from_the_token_before_it(kind, split, seed):
    """Both forms pair at the same t: what a teacher store relies on."""
    words, _, rows = both_formats(kind, split)
    if not rows.num_responses:
        return
    for chosen, form in ((rows, "teacher"), (rows, "student"), (reopened(rows, seed), "student")):
        ids = np.arange(chosen.num_rows)
        inputs, first = chosen.inputs(ids, int(chosen.lengths.max(initial=1)), form, words.pad_id)
        read = inputs["input_ids" if kind == "dialogue" else "response_ids"].reshape(-1)
        for n, start in enumerate(first.tolist()):
            targets = chosen.response_targets(n)
            assert read[start + 1 : start + len(targets)].tolist() == targets[:-1].tolist()
            assert len(targets) == chosen.response_length[n]


def reopened(rows, seed):
    chosen = np.flatnonzero(np.random.default_rng(seed).random(rows.num_responses) < 0.5)
    again = rows.reopened(chosen.tolist(), [REC] * len(chosen))
    np.testing.assert_array_equal(again.pick_tokens, rows.pick_tokens[chosen])
    for n, before in enumerate(chosen.tolist()):
        assert again.response_targets(n).tolist() == rows.response_targets(before).tolist()
    return again


def test_reopened_rows_have_the_same_said_history():
    rows = build_dialogue_rows([dialogue("hi", "@1 !", "no", "@22 @7", "ok", "bye")], BPE, 64, 6, 3)
    again = rows.reopened([1, 2], [GEN, REC])
    wanted = rows.histories(99, "student", [1, 2])
    assert [h.tolist() for h in again.histories(99, "student")] == [h.tolist() for h in wanted]


def test_choices_end_with_the_picks():
    rows = build_dialogue_rows([dialogue("hi", "@1 , @7", "no", "bye")], BPE, max_picks=2)
    length = rows.response_length.tolist()
    wanted = [[True] * 3 + [False] * (length[0] - 3), [True] + [False] * (length[1] - 1)]
    assert rows.is_choice.tolist() == [*wanted[0], *wanted[1]]


def test_batches_of_rows_with_picks_tell_choices():
    rows = build_dialogue_rows([dialogue("hi", "@1 !")], BPE, max_picks=2)
    plan = BatchPlan(rows.lengths, 1, quantile_buckets(rows.lengths, 1), 0)
    batch = LanguageModelBatches(rows, BPE, plan, "student")(
        np.zeros(1, np.int64), plan.bucket_lengths[0], np.zeros(1, np.int64)
    )
    assert batch["is_choice"][: batch["num_tokens"]].tolist() == rows.is_choice.tolist()
    assert not batch["is_choice"][batch["num_tokens"] :].any()
    assert batch["labels"][: batch["num_tokens"]].tolist() == rows.targets.tolist()


def test_too_many_items_are_told_and_not_cut():
    with pytest.raises(PickError, match="max_picks: expected at least 2, .*'@1 or @22'.* got 1"):
        picks_of(BPE.encode("@1 or @22"), BPE, 1)
    with pytest.raises(ValueError, match="fit in half a row with the picks"):
        build_dialogue_rows([], BPE, 24, 9, 3)


def test_an_nll_is_charged_once_and_to_the_text():
    rng = np.random.default_rng(0)
    targets = np.array([A, B, END, 5, B, 6, A, A, END], np.int32)
    nll = rng.random(9)
    charged = charged_to_text(nll, targets, 3, END)
    assert charged.sum() == pytest.approx(nll.sum())
    np.testing.assert_allclose(charged - nll[3:], [0, nll[1], 0, nll[0], 0, nll[2]])
    cut = charged_to_text(nll[:5], targets[:5], 3, END)  # names @B alone, and has no end
    np.testing.assert_allclose(cut - nll[3:5], [0, nll[1]])
    np.testing.assert_array_equal(charged_to_text(nll[3:], targets[3:], 0, END), nll[3:])
