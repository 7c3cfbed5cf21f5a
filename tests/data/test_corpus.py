"""A corpus folder gives back what was written, or says what is wrong with it."""

import json

import numpy as np
import pytest

from conkd_jax.data import corpus as corpus_lib
from conkd_jax.data.corpus import (
    ConceptGraph,
    Corpus,
    CorpusError,
    Dialogue,
    ItemTable,
    KnowledgeGraph,
    Turn,
    responses,
    write_corpus,
)

DIALOGUES = [
    Dialogue(
        "7",
        (
            Turn("recommender", "Hello"),
            Turn("seeker", "I like @10 😀", (0,), (), (5, 0), (1, 1)),
            Turn("recommender", "", (), (2**62,), (), ()),
            Turn("seeker", "bye @99", (), (99,), (), (0,)),
            Turn("recommender", "@10 @11", (0, 1), (), (0, 1), ()),
        ),
    ),
    Dialogue("p0001", (Turn("seeker", "alone"),)),
]

EDGES = np.array([[0, 0, 1], [2, 1, 2]], np.int32)


def write(directory, splits=None):
    write_corpus(
        directory,
        splits=splits or {"valid": DIALOGUES[:1], "train": DIALOGUES},
        items=ItemTable(
            np.array([10, 11], np.int64),
            ["Alpha (1990)", "Bêta (1991)"],
            np.array([0, 1], np.int32),
            np.array([True, False]),
        ),
        graph=KnowledgeGraph(
            3, 2, ["a", "loop"], np.array([[0, 0, 1], [2, 1, 2]], np.int32), "all"
        ),
        concept_graph=ConceptGraph(
            2, np.array([[0, 1]], np.int32), ["cat", "dog"], np.array([False, True])
        ),
        report={"splits": {"train": {"dialogues": 2}}},
        entity_names=["Alpha", "Bêta", "x"],
    )
    return directory


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "corpus")


def test_dialogues_come_back(folder):
    corpus = Corpus.open(folder)
    assert corpus.splits == ("train", "valid")
    assert corpus.dialogues("train") == DIALOGUES
    assert corpus.dialogues("valid") == DIALOGUES[:1]
    assert corpus.dialogues("train") is corpus.dialogues("train")
    turn = corpus.dialogues("train")[0].turns[1]
    assert type(turn.items[0]) is int and type(turn.text) is str


def test_tables_come_back(folder):
    corpus = Corpus.open(folder)
    assert corpus.items.titles == ["Alpha (1990)", "Bêta (1991)"] and len(corpus.items) == 2
    assert corpus.items.movie_ids.tolist() == [10, 11]
    assert corpus.items.movie_ids.dtype == np.int64
    assert corpus.items.is_linked.tolist() == [True, False]
    assert (corpus.graph.num_entities, corpus.graph.num_relations) == (3, 2)
    assert corpus.graph.edges.dtype == np.int32 and corpus.graph.rule == "all"
    assert corpus.concept_graph.words == ["cat", "dog"]
    assert corpus.concept_graph.is_stop_word.tolist() == [False, True]
    assert corpus.entity_names == ["Alpha", "Bêta", "x"]
    assert corpus.report == {"splits": {"train": {"dialogues": 2}}}


def test_responses_are_recommender_turns_with_a_history():
    assert responses(DIALOGUES[0]) == (2, 4)
    assert responses(DIALOGUES[1]) == ()
    assert responses(Dialogue("0", ())) == ()


def test_the_same_corpus_has_the_same_bytes(folder, tmp_path):
    other = write(tmp_path / "again")
    files = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    assert len(files) >= 10
    for name in files:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name


def test_an_unknown_split_is_refused(folder, tmp_path):
    with pytest.raises(CorpusError, match=r"no split 'test'; it has train, valid\. .*test_data"):
        Corpus.open(folder).dialogues("test")
    with pytest.raises(ValueError, match="got eval"):
        write(tmp_path / "x", {"eval": []})


def test_a_folder_without_corpus_says_how_to_build_one(tmp_path):
    with pytest.raises(CorpusError, match="data_prep.redial"):
        Corpus.open(tmp_path)


def test_a_build_cut_short_is_no_corpus(folder, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(corpus_lib.records, "write_shards", fail)
    with pytest.raises(OSError, match="No space"):
        write(folder)
    monkeypatch.undo()
    with pytest.raises(CorpusError, match="found no corpus.json"):
        Corpus.open(folder)


def test_another_format_is_refused(folder):
    (folder / "corpus.json").write_text(json.dumps({"format_version": 0, "splits": []}))
    with pytest.raises(CorpusError, match="expected format version 1, found 0"):
        Corpus.open(folder)
    (folder / "corpus.json").write_text("[]")
    with pytest.raises(CorpusError, match="found list"):
        Corpus.open(folder)
    (folder / "corpus.json").write_text('{"format')
    with pytest.raises(CorpusError, match="damaged"):
        Corpus.open(folder)


@pytest.mark.parametrize("name", ["items.npz", "graph.json"])
def test_a_damaged_table_is_named(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:30])
    corpus = Corpus.open(folder)
    with pytest.raises(CorpusError, match=name.split(".")[0]):
        _ = corpus.items, corpus.graph


def test_a_truncated_shard_is_refused(folder):
    (shard,) = (folder / "dialogues").glob("*train*")
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(ValueError, match="truncated"):
        Corpus.open(folder).dialogues("train")
