"""Rows of whole dialogues: every response once, at its place, in both forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.data.corpus import Dialogue, Turn, responses
from conkd_jax.data.rows.dialogue import TokenPrompts, build_dialogue_rows
from conkd_jax.data.tokenizers.bpe import train_bpe
from conkd_jax.data.vocabulary import Vocabulary

VOCABULARY = Vocabulary(train_bpe(["hello there good movie"] * 3, 265), [1, 22], ["One", "Two"])
END, GEN, REC = VOCABULARY.end_id, VOCABULARY.gen_id, VOCABULARY.rec_id


def dialogue(*texts: str, first: str = "seeker", name: str = "d") -> Dialogue:
    roles = ("seeker", "recommender") if first == "seeker" else ("recommender", "seeker")
    return Dialogue(name, tuple(Turn(roles[i % 2], text) for i, text in enumerate(texts)))


texts = st.one_of(
    st.sampled_from(["", "@1", "@22 @1", "hello there", "good movie @22 !", "@404", "🎬\x00 é"]),
    st.integers(1, 90).map(lambda count: "a" * count),
    st.integers(1, 30).map(lambda count: "a" * count + " @1"),
)
# (texts, first speaker) of each dialogue: made into turns inside a test, because the type checks on
# turns draw from `random`, which strategies may not
splits = st.lists(
    st.tuples(st.lists(texts, max_size=9), st.sampled_from(["seeker", "recommender"])), max_size=4
)


def spoken(split: list[tuple[list[str], str]]) -> list[Dialogue]:
    return [dialogue(*turns, first=first) for turns, first in split]


def history(source: Dialogue, turn: int, form: str) -> list[int]:
    """The tokens before a turn, written out plainly from the definition."""
    tokens = []
    for said in source.turns[:turn]:
        ids = VOCABULARY.encode(said.text)
        if said.role == "recommender":
            tag = REC if VOCABULARY.is_item(ids).any() else GEN
            tokens += [END if form == "teacher" else tag, *ids, END]
        else:
            tokens += ids
    return tokens


def test_a_row_written_out():
    said = dialogue("hi", "good @1 , and @22", "no", "bye")
    rows = build_dialogue_rows([said], VOCABULARY)
    hi, good, no, bye = (VOCABULARY.encode(turn.text) for turn in said.turns)
    assert rows.num_rows == 1
    assert rows.tokens["teacher"][0].tolist() == [*hi, END, *good, END, *no, END, *bye, END]
    assert rows.tokens["student"][0].tolist() == [*hi, REC, *good, END, *no, GEN, *bye, END]
    assert rows.response_keys == [("d", 1), ("d", 3)]
    assert rows.response_start.tolist() == [len(hi), len(hi) + len(good) + 2 + len(no)]
    assert rows.response_targets(0).tolist() == [*good, END]
    assert rows.response_targets(1).tolist() == [*bye, END]
    assert rows.response_is_rec.tolist() == [True, False]
    assert rows.row_targets.tolist() == [len(good) + len(bye) + 2]


def test_a_first_turn_by_the_recommender_is_no_target():
    rows = build_dialogue_rows([dialogue("hello", "hi", "good", first="recommender")], VOCABULARY)
    hello, hi, good = (VOCABULARY.encode(text) for text in ("hello", "hi", "good"))
    assert rows.tokens["student"][0].tolist() == [GEN, *hello, END, *hi, GEN, *good, END]
    assert rows.response_keys == [("d", 2)]


def test_a_row_stops_after_its_last_response():
    rows = build_dialogue_rows([dialogue("hi", "hello", "and this is never read")], VOCABULARY)
    assert rows.tokens["teacher"][0].tolist() == [
        *VOCABULARY.encode("hi"),
        END,
        *VOCABULARY.encode("hello"),
        END,
    ]


def test_a_cut_response_keeps_its_head_and_has_no_end_among_its_targets():
    long = "x" * 40 + " @1"
    rows = build_dialogue_rows([dialogue("hi", long, "no", "yes")], VOCABULARY, 512, 30)
    ids = VOCABULARY.encode(long)
    assert len(ids) > 31
    assert rows.response_targets(0).tolist() == ids[:30]
    assert rows.response_is_rec[0]  # by the whole turn: its movie is past the cut
    assert [*ids, END] == rows.tokens["teacher"][0][rows.response_start[0] + 1 :][
        : len(ids) + 1
    ].tolist()
    exact = build_dialogue_rows([dialogue("hi", "x" * 30)], VOCABULARY, 512, 31)
    assert exact.response_targets(0)[-1] == END


def test_nothing_said_is_still_a_response():
    rows = build_dialogue_rows([dialogue("", "", "", "")], VOCABULARY)
    assert rows.tokens["teacher"][0].tolist() == [END] * 4
    assert rows.tokens["student"][0].tolist() == [GEN, END, GEN, END]
    assert [rows.response_targets(n).tolist() for n in range(2)] == [[END], [END]]
    assert [context.tolist() for context in rows.histories(9, "student")] == [[], [GEN, END]]


@pytest.mark.parametrize(
    "source", [[], [dialogue()], [dialogue("hi")], [dialogue("a", first="recommender")]]
)
def test_a_split_without_responses_has_no_rows(source):
    rows = build_dialogue_rows(source, VOCABULARY)
    assert rows.num_rows == rows.num_responses == len(rows.targets) == 0
    assert rows.row_offsets.tolist() == [0]
    assert rows.target_offsets.tolist() == [0]
    assert rows.histories(5, "student") == []


@settings(max_examples=200, deadline=None)
@given(splits, st.integers(8, 80), st.integers(1, 40))
def test_every_response_is_whole_in_exactly_one_row(split, max_row, max_response):
    source = spoken(split)
    max_response = min(max_response, max_row // 2)
    rows = build_dialogue_rows(source, VOCABULARY, max_row, max_response)
    expected = [(said, turn) for said in source for turn in responses(said)]
    assert rows.response_keys == [(said.conversation_id, turn) for said, turn in expected]
    assert (np.diff(rows.row_offsets) > 0).all()
    assert rows.row_offsets[-1] == rows.num_responses
    for row in range(rows.num_rows):
        members = slice(rows.row_offsets[row], rows.row_offsets[row + 1])
        assert (rows.response_row[members] == row).all()
        assert len(rows.tokens["teacher"][row]) <= max_row
        assert rows.row_targets[row] == rows.response_length[members].sum()
    for n, (said, turn) in enumerate(expected):
        ids = VOCABULARY.encode(said.turns[turn].text)
        targets = [*ids, END][:max_response]
        start, length = rows.response_start[n], rows.response_length[n]
        assert rows.response_targets(n).tolist() == targets
        assert length == len(targets)
        assert rows.response_is_rec[n] == VOCABULARY.is_item(ids).any()
        for form in ("teacher", "student"):
            row = rows.tokens[form][rows.response_row[n]].tolist()
            # the states at SEP … SEP + T - 1 exist and read SEP, y_1 … y_{T-1}
            tag = REC if rows.response_is_rec[n] else GEN
            assert row[start] == (END if form == "teacher" else tag)
            assert row[start + 1 : start + length] == targets[:-1]
            assert start + length <= len(row)
            # and what comes before is the tail of the history
            whole = history(said, turn, form)
            assert row[:start] == (whole[-start:] if start else [])
            assert start == len(whole) or start >= max_row // 2


@settings(max_examples=100, deadline=None)
@given(splits, st.integers(8, 80))
def test_both_forms_differ_only_where_a_recommender_turn_opens(split, max_row):
    rows = build_dialogue_rows(spoken(split), VOCABULARY, max_row, 4)
    for row in range(rows.num_rows):
        teacher, student = rows.tokens["teacher"][row], rows.tokens["student"][row]
        assert teacher.shape == student.shape
        differs = teacher != student
        assert (teacher[differs] == END).all()
        assert np.isin(student[differs], [GEN, REC]).all()
        assert not np.isin(student[~differs], [GEN, REC]).any()


def test_a_turn_longer_than_a_row_keeps_its_tail_as_context():
    said = dialogue("x" * 100 + "yz", "hi", "w" * 200, "v" * 200 + "u", "q", "bye")
    rows = build_dialogue_rows([said], VOCABULARY, 40, 10)
    assert rows.num_rows == 3
    assert rows.tokens["teacher"][0][:20].tolist() == VOCABULARY.encode("x" * 100 + "yz")[-20:]
    assert rows.tokens["teacher"][1][:20].tolist() == VOCABULARY.encode("w" * 200)[-20:]
    assert len(rows.tokens["teacher"][1]) == 40
    # the response that did not fit is history of the next row, with its end
    tail = [*VOCABULARY.encode("v" * 200 + "u"), END, *VOCABULARY.encode("q")][-20:]
    assert rows.tokens["teacher"][2][:20].tolist() == tail


def test_ten_thousand_turns():
    said = dialogue(*["good movie @1 🎬", "no"] * 5000)
    rows = build_dialogue_rows([said], VOCABULARY, 128, 30)
    assert rows.num_responses == 5000
    assert rows.lengths.max() <= 128
    # half of every row is history, so the tokens double and do not grow with the square
    assert rows.lengths.sum() < 2.5 * len(rows.dialogue_tokens["teacher"][0])
    assert (rows.response_start[1:] + rows.response_length[1:] <= 128).all()
    assert len(rows.histories(64, "student")[-1]) == 64


@settings(max_examples=100, deadline=None)
@given(splits, st.integers(1, 60), st.sampled_from(["teacher", "student"]))
def test_contexts_are_the_tail_of_the_whole_history(split, limit, form):
    source = spoken(split)
    rows = build_dialogue_rows(source, VOCABULARY, 16, 4)
    expected = [history(said, turn, form)[-limit:] for said in source for turn in responses(said)]
    assert [context.tolist() for context in rows.histories(limit, form)] == expected
    chosen = list(range(rows.num_responses))[::-2]
    assert [c.tolist() for c in rows.histories(limit, form, chosen)] == [
        expected[n] for n in chosen
    ]


@settings(max_examples=100, deadline=None)
@given(splits, st.integers(8, 80), st.integers(1, 40), st.randoms(use_true_random=False))
def test_a_reopened_response_differs_in_its_opening_alone(split, max_row, max_response, rng):
    rows = build_dialogue_rows(spoken(split), VOCABULARY, max_row, min(max_response, max_row // 2))
    chosen = [n for n in range(rows.num_responses) if rng.random() < 0.5]
    opening = [rng.choice([REC, GEN]) for _ in chosen]
    again = rows.reopened(chosen, opening)
    assert again.response_keys == [rows.response_keys[n] for n in chosen]
    assert again.num_rows == again.num_responses == len(chosen)
    for row, (n, first) in enumerate(zip(chosen, opening, strict=True)):
        assert again.response_targets(row).tolist() == rows.response_targets(n).tolist()
        assert again.response_start[row] == rows.response_start[n]
        end = rows.response_start[n] + rows.response_length[n]
        expected = rows.tokens["student"][rows.response_row[n]][:end].tolist()
        expected[rows.response_start[n]] = first
        assert again.tokens["student"][row].tolist() == expected
    for n, is_rec in enumerate(rows.response_is_rec):  # the rows themselves stay as they are
        first = rows.tokens["student"][rows.response_row[n]][rows.response_start[n]]
        assert first == (REC if is_rec else GEN)


# --- trunks --------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(splits, st.integers(2, 200))
def test_prompts_of_a_dialogue_branch_from_the_longest_one(split, max_tokens):
    """Wherever the prompts are not cut; each cut one has a trunk of its own."""
    rows = build_dialogue_rows(spoken(split), VOCABULARY, 128)
    every = range(rows.num_responses)
    wrong = [GEN if is_rec else REC for is_rec in rows.response_is_rec]
    prompts = rows.prompts(every, wrong, max_tokens, "student")
    trunks, trunk_of = prompts.trunks()
    for tokens, trunk in zip(prompts.tokens, trunk_of, strict=True):
        assert trunks.tokens[trunk][: len(tokens) - 1] == tokens[:-1]
    is_whole = rows.response_position < max_tokens
    assert len(trunks.tokens) <= len(np.unique(rows.response_dialogue)) + np.sum(~is_whole)
    for dialogue_id in np.unique(rows.response_dialogue[is_whole]):
        some = trunk_of[is_whole & (rows.response_dialogue == dialogue_id)]
        assert len(set(some.tolist())) == 1


def test_trunks_written_out():
    prompts = TokenPrompts([[1, 2, 8], [1, 2, 3, 9], [1, 9], [4, 8], [8]])
    trunks, trunk_of = prompts.trunks()
    assert [trunks.tokens[trunk] for trunk in trunk_of] == [[1, 2, 3], [1, 2, 3], [1], [4], []]
    assert prompts.cut(2).tokens == [[2, 8], [3, 9], [1, 9], [4, 8], [8]]
    assert [len(each) for each in TokenPrompts([]).trunks()[0].tokens] == []


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="fit in half a row"):
        build_dialogue_rows([], VOCABULARY, 50, 26)
    with pytest.raises(ValueError, match="at least 1"):
        build_dialogue_rows([], VOCABULARY, 50, 0)
    twice = Dialogue("d7", (Turn("seeker", "a"), Turn("seeker", "b")))
    with pytest.raises(ValueError, match="'d7', turn 1.*alternate"):
        build_dialogue_rows([twice], VOCABULARY)
    with pytest.raises(ValueError, match="'assistant'"):
        build_dialogue_rows([Dialogue("d8", (Turn("assistant", "a"),))], VOCABULARY)
    rows = build_dialogue_rows([], VOCABULARY)
    with pytest.raises(ValueError, match="form must be"):
        rows.histories(5, "pupil")
    with pytest.raises(ValueError, match="max_tokens"):
        rows.histories(0, "student")
