"""Histories of utterances: what is kept, where each ends, and the copies with a movie marked."""

import numpy as np
import pytest

from conkd_jax.data.corpus import Dialogue, Turn
from conkd_jax.data.rows.contract import FILL
from conkd_jax.data.rows.utterances import (
    HistoryLimits,
    build_histories,
    build_utterance_rows,
)
from conkd_jax.data.tokenizers.words import train_words
from conkd_jax.data.vocabulary import Vocabulary

LIMITS = HistoryLimits(max_utterances=4, max_utterance_tokens=6, max_mentions=3)
SEEKER, RECOMMENDER = "seeker", "recommender"


def turn(role, text, *items):
    return Turn(role, text, items)


DIALOGUE = Dialogue(
    "a",
    (
        turn(SEEKER, "i like @1 and @2", 0, 1),
        turn(RECOMMENDER, "try @3", 2),
        turn(SEEKER, "no , not @3 . @1 yes", 2, 0),
        turn(RECOMMENDER, "ok", 2),
    ),
)


@pytest.fixture(scope="module")
def vocabulary():
    texts = [each.text for each in DIALOGUE.turns]
    return Vocabulary(train_words(texts), [1, 2, 3], ["One", "Two", "Three"])


@pytest.fixture(scope="module")
def histories(vocabulary):
    return build_histories([DIALOGUE], vocabulary, LIMITS)


def words(vocabulary, tokens):
    return [
        f"@{vocabulary.item_ids[t - vocabulary.num_words]}"
        if t >= vocabulary.num_words
        else vocabulary.tokenizer.id_to_token(t)
        for t in map(int, tokens)
    ]


def test_a_history_is_what_was_said_before(vocabulary, histories):
    assert histories.keys == [("a", 1), ("a", 3)]
    first, second = histories.histories
    end = "<|endoftext|>"
    assert words(vocabulary, first.tokens) == ["i", "like", "@1", "and", "@2", end]
    assert first.ends.tolist() == [5] and first.senders.tolist() == [-1]
    assert second.ends.tolist() == [5, 8, 14] and second.senders.tolist() == [-1, 1, -1]
    # The third utterance is cut to five words and END: its @1 is not read.
    assert words(vocabulary, second.tokens[9:]) == ["no", ",", "not", "@3", ".", end]


def test_every_mention_has_a_copy_in_which_its_movie_is_marked(vocabulary, histories):
    history = histories.histories[1]
    # Four pairs, of which the last three are kept: @2 in 0, @3 in 1, @3 in 2.
    assert history.movies.tolist() == [1, 2]
    assert history.mentions.tolist() == [[0, 0], [1, 1], [1, 2]]
    assert history.mention_ends.tolist() == [5, 8, 14]
    marked = words(vocabulary, history.mention_tokens[history.mention_marks])
    assert marked == ["@2", "@3", "@3"]
    assert np.flatnonzero(history.mention_marks).tolist() == [4, 7, 12]


def test_only_the_last_utterances_are_kept(vocabulary):
    limits = HistoryLimits(max_utterances=2, max_utterance_tokens=6, max_mentions=3)
    history = build_histories([DIALOGUE], vocabulary, limits).histories[1]
    assert history.senders.tolist() == [1, -1]
    assert history.movies.tolist() == [2]


def test_a_whole_dialogue_is_a_history(vocabulary):
    whole = build_histories([DIALOGUE], vocabulary, LIMITS, whole=True)
    assert whole.keys == [("a", 4)] and len(whole.histories[0].ends) == 4


def test_arrays_are_padded(histories):
    arrays = histories.inputs(np.array([1, FILL, 0]), 20, pad_id=99)
    assert arrays["context_ids"].shape == (3, 20) and (arrays["context_ids"][1] == 99).all()
    assert arrays["utterance_starts"].tolist() == [[0, 6, 9, -1], [-1] * 4, [0, -1, -1, -1]]
    assert arrays["utterance_ends"][0].tolist() == [5, 8, 14, -1]
    assert arrays["senders"][0].tolist() == [-1, 1, -1, 0]
    assert arrays["movies"].tolist() == [[1, 2, -1], [-1] * 3, [0, 1, -1]]
    assert arrays["mention_movies"][0].tolist() == [0, 1, 1]
    assert arrays["mention_utterances"][0].tolist() == [0, 1, 2]
    assert not arrays["mention_marks"][1].any()
    assert {arrays[name].dtype for name in arrays} == {
        np.dtype(kind) for kind in (np.int32, np.float32, bool)
    }


def test_a_history_is_not_cut(vocabulary, histories):
    with pytest.raises(ValueError, match="history 1 has 15 tokens, but length is 14"):
        histories.inputs(np.array([1]), 14, 0)
    with pytest.raises(ValueError, match="limits of at least 1"):
        build_histories([], vocabulary, HistoryLimits(0, 1, 1))


def test_rows_hold_a_response_and_its_history(vocabulary):
    rows = build_utterance_rows([DIALOGUE], vocabulary, LIMITS, max_response_tokens=5)
    assert rows.lengths.tolist() == [12, 15]  # of the first, the copies are longer
    inputs, first = rows.inputs(np.array([1, FILL]), 16, "teacher", 0)
    assert first.tolist() == [0]
    assert inputs["response_ids"].shape == (2, 5)
    assert words(vocabulary, inputs["response_ids"][0, :2]) == ["<|endoftext|>", "ok"]
    other = rows.reopened([1], [vocabulary.rec_id])
    assert other.said.keys == [("a", 3)] and other.lengths.tolist() == [15]
    given, _ = other.inputs(np.array([0]), 16, "student", 0)
    assert given["response_ids"][0, 0] == vocabulary.rec_id
    np.testing.assert_array_equal(given["context_ids"][0], inputs["context_ids"][0])


def test_a_prompt_is_the_history_and_the_opening_token(vocabulary):
    rows = build_utterance_rows([DIALOGUE], vocabulary, LIMITS, max_response_tokens=5)
    prompts = rows.prompts([1, 0], [7, 8], LIMITS.max_tokens, "teacher")
    assert prompts.lengths.tolist() == [15, 12]
    arrays = prompts.inputs([1], 16, batch_size=2)
    assert arrays["first_token"].tolist() == [8, 0]
    assert arrays["movies"].tolist() == [[0, 1, -1], [-1, -1, -1]]


def test_the_response_is_not_in_its_history(vocabulary):
    """Neither its words nor the movies that it names: all is one utterance behind."""
    other = Dialogue("a", (*DIALOGUE.turns[:3], turn(RECOMMENDER, "try @2 yes", 1)))
    one, another = (
        build_histories([each], vocabulary, LIMITS).inputs(np.array([1]), 20, 0)
        for each in (DIALOGUE, other)
    )
    for name in one:
        np.testing.assert_array_equal(one[name], another[name], err_msg=name)
