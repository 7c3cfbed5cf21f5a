"""Rows with reviews: a review follows each mention of its movie, in contexts alone."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.data.batches.language_model import LanguageModelBatches
from conkd_jax.data.batches.plan import BatchPlan
from conkd_jax.data.corpus import Dialogue, Turn
from conkd_jax.data.recommender_inputs import build_recommender_contexts
from conkd_jax.data.rows.contract import FILL
from conkd_jax.data.rows.response import build_response_rows
from conkd_jax.data.rows.reviewed import ReviewedRows
from conkd_jax.data.tokenizers.words import train_words
from conkd_jax.data.vocabulary import Vocabulary

VOCABULARY = Vocabulary(
    train_words(["hello there good movie a scary film !"] * 3),
    [1, 22, 333],
    ["One", "Two", "Three"],
)
END, UNK, PAD = VOCABULARY.end_id, VOCABULARY.unk_id, VOCABULARY.pad_id
REVIEWS = {1: "a scary film !", 22: "a unheard movie a"}
WORDS = {
    VOCABULARY.encode(f"@{movie}")[0]: VOCABULARY.encode(text) for movie, text in REVIEWS.items()
}
TEXTS = ("hello @1", "there @22 good", "@1 @333", "good @1 !", "hello")


def rows_of(texts=TEXTS, reviews=WORDS, max_context_tokens=100, **limits):
    roles = ("seeker", "recommender")
    turns = tuple(Turn(roles[i % 2], text) for i, text in enumerate(texts))
    dialogues = [Dialogue("d", turns)]
    contexts = build_recommender_contexts(
        dialogues, is_stop_word=np.zeros(5, bool), max_entities=3, max_concepts=3
    )
    plain = build_response_rows(
        dialogues,
        VOCABULARY,
        contexts,
        max_context_turns=9,
        max_context_tokens=max_context_tokens,
        max_response_tokens=9,
    )
    limits = {"max_retrieved_words": 8, "not_retrieved": [UNK], **limits}
    return plain, ReviewedRows.of(plain, reviews, max_context_tokens=max_context_tokens, **limits)


def words(ids):
    return VOCABULARY.encode(ids) if isinstance(ids, str) else [int(i) for i in ids]


def test_a_review_follows_its_movie_and_is_marked():
    plain, rows = rows_of()
    first, second = rows.encoder_tokens
    expected = words("hello @1") + words(REVIEWS[1]) + [END]
    assert first.tolist() == expected
    assert rows.is_review[0].tolist() == [False] * 2 + [True] * 4 + [False]
    text = words("hello @1") + words(REVIEWS[1]) + [END] + words("there @22") + words(REVIEWS[22])
    text += [*words("good"), END, *words("@1"), *words(REVIEWS[1]), *words("@333"), END]
    assert second.tolist() == text
    assert second[~rows.is_review[1]].tolist() == plain.context_tokens[1].tolist()
    assert rows.lengths.tolist() == [len(first), len(second)]


def test_retrieved_words_are_distinct_and_the_last_ones():
    _, rows = rows_of()
    assert rows.retrieved[0].tolist() == [*words(REVIEWS[1]), *[-1] * 4]
    in_order = [*words("movie"), *words(REVIEWS[1])]  # "a" was retrieved again
    assert rows.retrieved[1].tolist() == [*in_order, *[-1] * 3]
    assert rows_of(max_retrieved_words=2)[1].retrieved[1].tolist() == words("film !")


def test_responses_and_histories_have_no_reviews():
    """The response of the second row names a movie with a review."""
    plain, rows = rows_of()
    assert rows.targets.tolist() == plain.targets.tolist()
    for row in range(2):
        assert rows.response_targets(row).tolist() == [*words(TEXTS[2 * row + 1]), END]
    for ours, theirs in zip(
        rows.histories(6, "teacher"), plain.histories(6, "teacher"), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@given(st.lists(st.sampled_from("ab123"), max_size=12), st.integers(1, 20))
@settings(max_examples=50)
def test_text_that_is_cut_before_reviews_are_added_gives_the_same_tail(letters, limit):
    said = {"a": "good", "b": "hello", "1": "@1", "2": "@22", "3": "@333"}
    texts = (" ".join(said[letter] for letter in letters) or "hello", "there")
    whole, cut = rows_of(texts)[1], rows_of(texts, max_context_tokens=limit)[1]
    np.testing.assert_array_equal(cut.encoder_tokens[0], whole.encoder_tokens[0][-limit:])
    np.testing.assert_array_equal(cut.is_review[0], whole.is_review[0][-limit:])


def test_inputs_are_padded_and_cut_alike():
    _, rows = rows_of()
    inputs = rows.context_inputs(np.array([1, FILL, 0]), 9, PAD)
    assert inputs["review_mask"].shape == inputs["context_ids"].shape == (3, 9)
    assert not inputs["review_mask"][1].any() and (inputs["retrieved_ids"][1] == -1).all()
    np.testing.assert_array_equal(inputs["review_mask"][0], rows.is_review[1][-9:])
    np.testing.assert_array_equal(inputs["review_mask"][2, :7], rows.is_review[0])
    assert not (inputs["review_mask"] & ~inputs["context_mask"]).any()
    np.testing.assert_array_equal(inputs["retrieved_ids"][[2, 0]], rows.retrieved)


def test_a_batch_has_retrieved_words_for_each_response():
    _, rows = rows_of()
    plan = BatchPlan(rows.lengths, 3, (int(rows.lengths.max()),), seed=0)
    row_ids = np.array([1, FILL, 0])
    batch = LanguageModelBatches(rows, VOCABULARY, plan, "teacher")(
        row_ids, plan.bucket_lengths[0], row_ids
    )
    np.testing.assert_array_equal(batch["retrieved_ids"][:2], rows.retrieved[[1, 0]])
    assert (batch["retrieved_ids"][2:] == -1).all()


def test_reopened_responses_keep_their_reviews():
    _, rows = rows_of()
    again = rows.reopened([1], [VOCABULARY.rec_id])
    assert isinstance(again, ReviewedRows) and again.num_responses == 1
    before = rows.inputs(np.array([1]), 30, "student", PAD)[0]
    after = again.inputs(np.array([0]), 30, "student", PAD)[0]
    assert after.pop("response_ids")[0, 0] == VOCABULARY.rec_id
    for name, array in after.items():
        np.testing.assert_array_equal(array, before[name])


def test_without_reviews_the_encoder_reads_the_text():
    plain, rows = rows_of(reviews={})
    for ours, theirs in zip(rows.encoder_tokens, plain.context_tokens, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (rows.retrieved == -1).all()
    prompts = rows.prompts([0, 1], [END, END], 5, "teacher")
    assert prompts.lengths.tolist() == [3, 5]
    assert not prompts.inputs([0, 1], 5, 2)["review_mask"].any()
