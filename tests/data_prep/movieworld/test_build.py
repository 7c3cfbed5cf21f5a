"""MovieWorld is the same for a seed, varied over seeds, and explained by its graph."""

import collections
from pathlib import Path

import numpy as np
import pytest

from conkd_jax.data.corpus import Corpus, responses
from data_prep.movieworld.build import MovieWorldError, build_movieworld
from data_prep.movieworld.words import GENRES
from data_prep.movieworld.world import make_world


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("movieworld")
    build_movieworld(folder, seed=0, num_dialogues=500, num_movies=120)
    return Corpus.open(folder)


def test_the_same_seed_gives_the_same_bytes(corpus, tmp_path):
    build_movieworld(tmp_path / "again")
    files = [p for p in Path(corpus.directory).rglob("*") if p.is_file()]
    assert len(files) >= 10
    for path in files:
        again = tmp_path / "again" / path.relative_to(corpus.directory)
        assert path.read_bytes() == again.read_bytes(), path.name


def test_reviews_change_nothing_else_and_tell_what_the_graph_knows(corpus, tmp_path):
    report = build_movieworld(tmp_path, with_reviews=True)
    files = {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()}
    for path in files - {Path("reviews.json"), Path("report.json")}:
        assert (tmp_path / path).read_bytes() == (corpus.directory / path).read_bytes(), path
    reviewed = Corpus.open(tmp_path)
    assert not corpus.reviews and len(reviewed.reviews) == report["reviews"]["movies"] == 90
    movies = make_world(0, 120).movies
    for item, review in reviewed.reviews.items():
        movie = movies[item]
        assert any(person in review.text for person in movie.people)
        assert {reviewed.concept_graph.words[c] for c in review.concepts} & set(GENRES[movie.genre])


def test_the_splits_are_all_there(corpus):
    sizes = {split: len(corpus.dialogues(split)) for split in corpus.splits}
    assert set(sizes) == {"train", "dev", "valid", "test"}
    assert sum(sizes.values()) == 500 and sizes["valid"] == sizes["test"] == 50
    assert sizes["dev"] > 5
    ids = [d.conversation_id for split in corpus.splits for d in corpus.dialogues(split)]
    assert len(set(ids)) == 500


def test_dialogues_are_varied_and_well_formed(corpus):
    train = corpus.dialogues("train")
    texts = [turn.text for dialogue in train for turn in dialogue.turns]
    assert len(set(texts)) > 1000
    assert not any("{" in text or "}" in text for text in texts)
    for dialogue in train:
        roles = [turn.role for turn in dialogue.turns]
        assert all(a != b for a, b in zip(roles, roles[1:], strict=False))
        assert responses(dialogue)
    with_item = [bool(d.turns[i].items) for d in train for i in responses(d)]
    assert 0.6 < np.mean(with_item) < 0.9
    said = {item for d in train for turn in d.turns for item in turn.items}
    assert len(said) == 120


def test_people_genres_and_themes_are_linked(corpus):
    words = collections.Counter(
        corpus.entity_names[node]
        for dialogue in corpus.dialogues("train")
        for turn in dialogue.turns
        for node in turn.entities
    )
    people = make_world(0, 120).people
    assert sum(words[person] > 0 for person in people) > 0.8 * len(people)
    assert words["western"] > 0 and words["space opera"] > 0
    concepts = {c for d in corpus.dialogues("train") for t in d.turns for c in t.concepts}
    assert len(concepts) > 50


def ranks(corpus, score):
    """Rank of each recommended movie among those not yet mentioned, by a score of the context."""
    found = []
    for dialogue in corpus.dialogues("valid") + corpus.dialogues("test"):
        mentioned, entities = [], []
        answers = responses(dialogue)
        for index, turn in enumerate(dialogue.turns):
            if index in answers and turn.items:
                values = score(mentioned, entities)
                values[mentioned] = -np.inf
                found += [int((values > values[item]).sum()) for item in turn.items]
            mentioned += turn.items
            entities += turn.entities
    return np.array(found)


def test_the_graph_tells_more_than_words_that_go_together(corpus):
    size = len(corpus.items)
    together, popularity = np.zeros((size, size)), np.zeros(size)
    for dialogue in corpus.dialogues("train"):
        items = [item for turn in dialogue.turns for item in turn.items]
        for item in items:
            popularity[item] += 1
            together[item, items] += 1
    adjacent = np.zeros((size, corpus.graph.num_entities))
    weight = {"directed_by": 1.0, "starring": 1.0, "genre": 0.7, "decade": 0.1, "self_loop": 0.0}
    for source, relation, target in corpus.graph.edges.tolist():
        if source < size:
            adjacent[source, target] = weight[corpus.graph.relation_names[relation]]

    def by_popularity(mentioned, entities):
        return popularity.copy()

    def by_company(mentioned, entities):
        return together[mentioned].sum(0) + popularity * 1e-3

    def by_graph(mentioned, entities):
        known = np.zeros(corpus.graph.num_entities)
        known[entities] = 1
        known = np.maximum(known, (adjacent[mentioned] > 0).any(0))
        return adjacent @ known + popularity * 1e-3

    hits = {
        f.__name__: (ranks(corpus, f) < 10).mean() for f in (by_popularity, by_company, by_graph)
    }
    assert hits["by_graph"] > hits["by_company"] + 0.05
    assert hits["by_company"] > hits["by_popularity"] + 0.2


def test_a_tiny_world_is_whole(tmp_path):
    report = build_movieworld(tmp_path / "c", seed=5, num_dialogues=20, num_movies=20)
    corpus = Corpus.open(tmp_path / "c")
    assert all(len(corpus.dialogues(split)) for split in ("train", "dev", "valid", "test"))
    assert corpus.graph.edges.max() < corpus.graph.num_entities
    assert report["graph"]["items"] == 20


@pytest.mark.parametrize("sizes", [{"num_dialogues": 5}, {"num_movies": 3}, {"num_movies": 10**6}])
def test_sizes_out_of_range_are_refused(sizes):
    with pytest.raises(MovieWorldError, match=f"expected {next(iter(sizes))}"):
        build_movieworld(None, **sizes)
