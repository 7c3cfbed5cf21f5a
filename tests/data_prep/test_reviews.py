"""Reviews from RevCore's pickle and from JSON lines, and what is said when they can't be read."""

import json
import pickle

import numpy as np
import pytest

from conkd_jax.data.corpus import Corpus, ItemTable
from data_prep.pickles import UnsafePickleError
from data_prep.redial import build_redial
from data_prep.reviews import RawReviews, ReviewError, coverage, find_reviews, read_reviews
from data_prep.sources import MissingDataError
from tests.data_prep.raw_files import dialogue, simple, write_raw

NLTK = ["``", "It", "'s", "not", "bad", "''", ",", "do", "n't", "miss", "'The", "Taste", "'"]


def write_pickle(path, table):
    path.write_bytes(pickle.dumps(table))
    return path


def write_lines(path, *entries):
    lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_tokens_of_revcore_become_text(tmp_path):
    table = {"10": NLTK, "11": [" "] * 20, 12: ["Good"]}
    reviews = read_reviews(write_pickle(tmp_path / "helpful.pkl", table))
    assert reviews.texts == {10: "\" It's not bad \" , don't miss 'The Taste '", 12: "Good"}
    assert reviews.source == "helpful.pkl"


@pytest.mark.parametrize(
    "table", [["a"], {"a": ["b"]}, {"10": "text"}, {"10": [1]}, {}, {"10": [" "]}]
)
def test_another_pickle_is_refused(tmp_path, table):
    with pytest.raises(ReviewError, match=r"x\.pkl: expected (RevCore's )?reviews"):
        read_reviews(write_pickle(tmp_path / "x.pkl", table))


def test_no_code_of_a_pickle_is_run(tmp_path):
    with pytest.raises(UnsafePickleError, match="No code of it was run"):
        read_reviews(write_pickle(tmp_path / "x.pkl", {"10": np.zeros(3)}))


def test_the_first_review_that_is_not_rated_low_is_used(tmp_path):
    path = write_lines(
        tmp_path / "own.jsonl",
        {"movie_id": 10, "text": "Dull.", "rating": 5.5},
        {"movie_id": "10", "text": " Fine. ", "rating": 6},
        {"movie_id": 10, "text": "Better."},
        {"movie_id": 11, "text": " "},
        {"movie_id": 12, "text": "Awful.", "rating": 1},
    )
    assert read_reviews(path) == RawReviews("own.jsonl", {10: "Fine."}, low_ratings=2)
    with pytest.raises(ReviewError, match="found none \\(1 were left out, rated below 6"):
        read_reviews(write_lines(path, {"movie_id": 12, "text": "Awful.", "rating": 1}))


@pytest.mark.parametrize(
    "entry",
    [
        "{",
        [1],
        {"movie_id": "a", "text": ""},
        {"movie_id": True, "text": ""},
        {"movie_id": 1.5, "text": ""},
        {"movie_id": 1, "text": 2},
        {"movie_id": 1, "text": "", "rating": 11},
        {"movie_id": 1, "text": "", "rating": "8"},
    ],
)
def test_the_line_that_is_wrong_is_named(tmp_path, entry):
    path = write_lines(tmp_path / "own.jsonl", {"movie_id": 1, "text": "a"}, entry)
    with pytest.raises(ReviewError, match=r'own\.jsonl, line 2: expected \{"movie_id": 1'):
        read_reviews(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "reviews.csv").write_text("1,good\n")
    with pytest.raises(ReviewError, match=r"a \.pkl \(RevCore's\) or a \.jsonl"):
        read_reviews(tmp_path / "reviews.csv")


def test_a_file_is_found_by_path_and_among_the_raw_files(tmp_path, monkeypatch):
    (tmp_path / "raw" / "reviews").mkdir(parents=True)
    path = write_lines(tmp_path / "raw" / "reviews" / "own.jsonl", {"movie_id": 1, "text": "a"})
    assert find_reviews("own.jsonl", tmp_path / "raw") == path == find_reviews(str(path))
    monkeypatch.setenv("CONKD_RAW_DIR", str(tmp_path / "raw"))
    assert find_reviews("own.jsonl") == path
    with pytest.raises(MissingDataError, match=r"config\.corpus\.reviews: .*found no other\.pkl"):
        find_reviews("other.pkl")


def test_a_corpus_holds_the_reviews_of_its_movies_with_their_concepts(tmp_path):
    """Items 0 and 1 are the movies 10 and 11; "cat" and "dog" are concepts, "the" a stop word."""
    raw = write_raw(tmp_path / "raw", [simple(1), dialogue(3, (0, "@10"), (1, "@12"))])
    own = write_lines(
        tmp_path / "own.jsonl",
        {"movie_id": 10, "text": "The dog and a Cat"},
        {"movie_id": 99, "text": "of no movie"},
    )
    report = build_redial(raw, tmp_path / "with", graph_rule="all", reviews=own)
    assert report["reviews"]["movies"] == report["reviews"]["unknown_movies"] == 1
    assert report["reviews"]["candidates"] == 6
    corpus = Corpus.open(tmp_path / "with")
    (item, review), *others = corpus.reviews.items()
    assert item == 0 and not others and review.text == "The dog and a Cat"
    assert [corpus.concept_graph.words[c] for c in review.concepts] == ["dog", "cat"]
    build_redial(raw, tmp_path / "with", graph_rule="all")
    assert not Corpus.open(tmp_path / "with").reviews


def test_coverage_counts_movies_and_mentions():
    nodes = np.arange(3, dtype=np.int32)
    items = ItemTable(np.array([10, 11, 12]), ["A", "B", "C"], nodes, np.ones(3, bool))
    reviews = RawReviews("x.jsonl", {10: "a", 99: "b"})
    report = reviews.report(items, {10: 3, 11: 1})
    assert coverage(report) == (
        "reviews (x.jsonl) of 1 of 3 movies (33.3%), to which 75.0% of the mentions in training "
        "belong"
    )


@pytest.mark.real_data
def test_revcores_own_reviews(raw_dir):
    reviews = read_reviews(find_reviews("movie2tokenreview_helpful.pkl", raw_dir))
    assert len(reviews.texts) == 2711 - 18  # as many are blank
    assert reviews.texts[148527].startswith("I read the first two books who were Amazing , well")
    assert not [text for text in reviews.texts.values() if "``" in text or " n't" in text]
