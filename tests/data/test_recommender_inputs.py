"""Contexts and targets of the recommender: who counts, in which order, and what is padding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conkd_jax.data.corpus import Corpus, Dialogue, Turn
from conkd_jax.data.recommender_inputs import (
    NodeIndex,
    RecommenderContexts,
    build_recommender_contexts,
    build_recommender_targets,
    last_distinct,
)
from data_prep.redial import build_redial

STOP = np.array([False, False, True, False])  # concept 2 is a stop word
DIALOGUES = [
    Dialogue(
        "a",
        (
            Turn("recommender", "hi", concepts=(3,)),  # the first turn is no response
            Turn("seeker", "I like @1", items=(1,), entities=(11, 7), concepts=(0, 2, 1, 0)),
            Turn("recommender", "@2 or @1 or @2", items=(2, 1, 2), entities=(12, 11, 12)),
            Turn("seeker", "no"),
            Turn("recommender", "bye"),
        ),
    ),
    Dialogue("b", (Turn("seeker", "hello"), Turn("recommender", "@0", items=(0,), entities=(10,)))),
]


def contexts(max_entities=3, max_concepts=2, **options):
    limits = {"max_entities": max_entities, "max_concepts": max_concepts}
    return build_recommender_contexts(DIALOGUES, is_stop_word=STOP, **limits, **options)


def test_contexts_hold_all_earlier_turns_and_nothing_else():
    actual = contexts()
    assert actual.keys == [("a", 2), ("a", 4), ("b", 1)]
    # Most recent last; 12 and 11 of the first response are history of the second.
    np.testing.assert_array_equal(actual.entities, [[11, 7, -1], [7, 11, 12], [-1, -1, -1]])
    # Concepts 3, 0, 1, 0 without the stop word: the last two distinct ones are 1, then 0.
    np.testing.assert_array_equal(actual.concepts, [[1, 0], [1, 0], [-1, -1]])
    assert actual.entities.dtype == np.int32


def test_the_limit_keeps_what_was_said_last():
    np.testing.assert_array_equal(contexts(max_entities=1).entities[:, 0], [7, 12, -1])


def test_contexts_of_items_alone_leave_out_what_else_was_mentioned():
    actual = build_recommender_contexts(
        DIALOGUES,
        is_stop_word=STOP,
        max_entities=3,
        max_concepts=0,
        item_entities=np.array([10, 11, 12]),
    )
    # 7, which is no item's, is gone; the items of a turn count in their own order.
    np.testing.assert_array_equal(actual.entities, [[11, -1, -1], [11, 12, -1], [-1, -1, -1]])
    assert actual.concepts.shape == (3, 0)


def test_concepts_of_reviews_are_said_with_their_items():
    """After the turn's own; of a response's items, they count from the next response on."""
    actual = contexts(max_concepts=4, review_concepts={1: (3, 2), 2: (0,)})
    # 3, 0, 1, 0 and the review of 1: the stop word 2 is left out.
    expected = [[1, 0, 3, -1], [1, 3, 0, -1], [-1] * 4]
    np.testing.assert_array_equal(actual.concepts, expected)
    np.testing.assert_array_equal(actual.entities, contexts().entities)


def test_one_sample_per_mention():
    targets = build_recommender_targets(DIALOGUES)
    np.testing.assert_array_equal(targets.response, [0, 0, 0, 2])
    np.testing.assert_array_equal(targets.item, [2, 1, 2, 0])
    np.testing.assert_array_equal(targets.is_novel, [True, False, True, True])
    assert len(build_recommender_targets([])) == 0


def test_one_sample_per_distinct_movie_of_a_response():
    targets = build_recommender_targets(DIALOGUES, distinct=True)
    np.testing.assert_array_equal(targets.response, [0, 0, 2])
    np.testing.assert_array_equal(targets.item, [2, 1, 0])
    np.testing.assert_array_equal(targets.is_novel, [True, False, True])


@given(st.lists(st.integers(0, 9)), st.integers(1, 12))
def test_last_distinct_is_the_tail_of_last_appearances(ids, limit):
    kept = last_distinct(ids, limit)
    last_places = [len(ids) - 1 - ids[::-1].index(i) for i in kept]
    assert len(kept) == min(limit, len(set(ids)))
    assert last_places == sorted(set(last_places))
    dropped = set(ids) - set(kept)
    assert all(len(ids) - 1 - ids[::-1].index(i) < min(last_places) for i in dropped)


def test_index_keeps_items_first_and_what_is_mentioned():
    items = np.array([12, 10, 11])
    index = NodeIndex.build(items, [contexts()], num_entities=20, num_concepts=4)
    np.testing.assert_array_equal(index.entities, [12, 10, 11, 7])
    np.testing.assert_array_equal(index.concepts, [0, 1])
    np.testing.assert_array_equal(
        index.entity_rows(np.array([[7, -1], [10, 3]])), [[3, -1], [1, -1]]
    )
    np.testing.assert_array_equal(index.concept_rows(np.array([[1, 3, -1]])), [[1, -1, -1]])


def test_index_of_all_entities():
    index = NodeIndex.build(np.array([4, 2]), [], num_entities=5, num_concepts=1, all_entities=True)
    np.testing.assert_array_equal(index.entities, [4, 2, 0, 1, 3])
    assert len(index.concepts) == 0


def test_two_items_may_share_a_node():
    index = NodeIndex.build(np.array([4, 2, 4]), [], num_entities=5, num_concepts=1)
    np.testing.assert_array_equal(index.entity_rows(np.array([4, 2, 4])), [0, 1, 0])


def test_contexts_know_their_number():
    empty = np.zeros((0, 3), np.int32)
    assert len(RecommenderContexts(empty, empty, [])) == 0 and len(contexts()) == 3


@pytest.mark.real_data
@pytest.mark.slow
def test_sample_counts_of_the_valid_file(raw_dir, tmp_path):
    """KGSF's validation file: 5,076 responses, 3,551 mentions of movies, 3,013 of them linked."""
    build_redial(raw_dir, tmp_path / "corpus")
    corpus = Corpus.open(tmp_path / "corpus")
    dialogues = corpus.dialogues("valid")
    targets = build_recommender_targets(dialogues)
    stop = corpus.concept_graph.is_stop_word
    rows = build_recommender_contexts(
        dialogues, is_stop_word=stop, max_entities=50, max_concepts=48
    )
    assert len(rows) == 5_076
    assert len(targets) == 3_551
    assert corpus.items.is_linked[targets.item].sum() == 3_013
    assert (~targets.is_novel).sum() == 321
    assert not stop[rows.concepts[rows.concepts >= 0]].any()
