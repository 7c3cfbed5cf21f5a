"""The paper's example texts, written with the ids of a corpus."""

import numpy as np
import pytest

from conkd_jax.data.corpus import ItemTable
from conkd_jax.errors import UserError
from conkd_jax.eval.gate.examples import example_texts, greeting_for


def items(*titles: str) -> ItemTable:
    count = len(titles)
    item_ids = np.array([4, 7, 9][:count])
    return ItemTable(item_ids, list(titles), np.zeros(count, np.int32), np.zeros(count, bool))


def test_the_example_names_the_movie_by_the_corpus_own_id():
    corpus = items("Titanic (1953)", "Titanic  (1997)", "Alien  (1979)")
    assert example_texts("titanic", corpus) == [
        "If you like romance movies, I would recommend @7",
        "If you like romance movies, I would recommend you @7",
        "If you like romance movies, I would recommend some romantic comedies",
    ]


def test_only_a_corpus_of_movies_is_asked_for_a_movie():
    assert "movie" in greeting_for("redial") and "movie" in greeting_for("movieworld")
    assert "movie" not in greeting_for("custom") + greeting_for("opendialkg")


def test_a_corpus_without_the_movie_is_refused_with_one_of_its_own():
    with pytest.raises(UserError, match=r"'Titanic \(1997\)'.* @4\" recommends Alien"):
        example_texts("titanic", items("Alien (1979)"))
