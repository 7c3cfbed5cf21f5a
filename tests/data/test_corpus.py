"""A corpus folder gives back what was written, or says what is wrong with it."""

import json

import numpy as np
import pytest

from conkd_jax.data.corpus import (
    ConceptGraph,
    Corpus,
    CorpusError,
    Dialogue,
    ItemTable,
    KnowledgeGraph,
    Turn,
    responses,
)
from conkd_jax.data.corpus_writing import write_corpus

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
    opened = Corpus.open(folder)
    assert opened.splits == ("train", "valid")
    assert opened.dialogues("train") == DIALOGUES
    assert opened.dialogues("valid") == DIALOGUES[:1]
    assert opened.dialogues("train") is opened.dialogues("train")
    turn = opened.dialogues("train")[0].turns[1]
    assert type(turn.items[0]) is int and type(turn.text) is str


def test_tables_come_back(folder):
    opened = Corpus.open(folder)
    assert opened.items.titles == ["Alpha (1990)", "Bêta (1991)"] and len(opened.items) == 2
    assert opened.items.item_ids.tolist() == [10, 11]
    assert opened.items.item_ids.dtype == np.int64
    assert opened.items.is_linked.tolist() == [True, False]
    assert (opened.graph.num_entities, opened.graph.num_relations) == (3, 2)
    assert opened.graph.edges.dtype == np.int32 and opened.graph.rule == "all"
    assert opened.concept_graph.words == ["cat", "dog"]
    assert opened.concept_graph.is_stop_word.tolist() == [False, True]
    assert opened.entity_names == ["Alpha", "Bêta", "x"]
    assert opened.report == {"splits": {"train": {"dialogues": 2}}}


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

    monkeypatch.setattr("conkd_jax.data.corpus_writing.write_dataset", fail)
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
    with pytest.raises(CorpusError, match="expected a JSON object, got list"):
        Corpus.open(folder)
    (folder / "corpus.json").write_text('{"format')
    with pytest.raises(CorpusError, match="damaged"):
        Corpus.open(folder)


@pytest.mark.parametrize("name", ["items.npz", "graph.json"])
def test_a_damaged_table_is_named(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:30])
    opened = Corpus.open(folder)
    with pytest.raises(CorpusError, match=name.split(".")[0]):
        _ = opened.items, opened.graph


def test_a_truncated_shard_is_refused(folder):
    (shard,) = (folder / "dialogues").glob("*train*")
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(ValueError, match="truncated"):
        Corpus.open(folder).dialogues("train")
