"""The items before a response, as a plain loop finds them."""

from conkd_jax.data.corpus import Dialogue, Turn
from conkd_jax.data.mentioned_items import mentioned_before, mentioned_items, mentioned_with_token
from conkd_jax.data.tokenizers.bpe import train_bpe
from conkd_jax.data.vocabulary import Vocabulary

# Candidates 0 … 3, of which 3 and 1 have a token, in this order.
VOCABULARY = Vocabulary(train_bpe(["hello"], 257), [5, 6, 7, 8], ["A", "B", "C", "D"], [3, 1])


def turn(role: str, *items: int) -> Turn:
    return Turn(role, "", items)


DIALOGUE = Dialogue(
    "a",
    (
        turn("recommender", 1),  # opens the dialogue: no response
        turn("seeker", 0, 3),
        turn("recommender", 3, 2),
        turn("seeker", 1),
        turn("recommender", 0, 2),
    ),
)


def test_the_history_counts_and_the_response_does_not():
    assert mentioned_before(DIALOGUE, 2) == [1, 0, 3]
    assert mentioned_before(DIALOGUE, 4) == [0, 3, 2, 1]  # each once, the last mention counts
    assert mentioned_before(DIALOGUE, 0) == []


def test_items_are_numbered_by_their_tokens():
    assert VOCABULARY.item_numbers.tolist() == [-1, 1, -1, 0]
    assert mentioned_with_token(VOCABULARY, DIALOGUE, 2) == [1, 0]
    for candidate, number in enumerate(VOCABULARY.item_numbers):
        if number >= 0:
            assert VOCABULARY.item_ids[number] == VOCABULARY.candidate_item_ids[candidate]


def test_a_split_has_a_row_for_each_response():
    quiet = Dialogue("b", (turn("seeker", 2), turn("recommender", 1)))
    assert mentioned_items([DIALOGUE, quiet], VOCABULARY).tolist() == [[1, 0], [0, 1], [2, 2]]
    assert mentioned_items([quiet], VOCABULARY).tolist() == [[2]]
    assert mentioned_items([], VOCABULARY).shape == (0, 1)
