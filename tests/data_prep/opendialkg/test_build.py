"""The corpus of OpenDialKG: items, mentions, graphs and splits, from both layouts."""

import pytest

from conkd_jax.data.corpus import Corpus, responses
from conkd_jax.data.mentions import tokens
from data_prep.opendialkg.__main__ import main
from data_prep.opendialkg.build import build_opendialkg, opendialkg_fingerprint
from data_prep.sources import MissingDataError
from tests.data_prep.opendialkg.handmade import (
    CONVERSATION,
    LINES,
    NODES,
    write_official,
    write_processed,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    root = tmp_path_factory.mktemp("opendialkg")
    write_processed(root / "raw", test=LINES["test"])
    build_opendialkg(root / "raw", root / "corpus")
    return Corpus.open(root / "corpus")


def test_items_are_numbered_as_published_and_have_years(corpus):
    assert corpus.items.item_ids.tolist() == [0, 1, 2, 3]
    # Beta has two years in the graph.
    assert corpus.items.titles == ["Alpha Rising (1990)", "Beta", "Her", "The Gamma Letters"]
    assert corpus.items.is_linked.all()


def test_text_has_mentions_entities_and_concepts(corpus):
    turns = {t.text: t for d in corpus.dialogues("train") for t in d.turns}
    turn = turns["Any film with Jane Doe?"]
    assert turn.entities == (NODES["Jane Doe"],)
    assert [corpus.concept_graph.words[c] for c in turn.concepts] == ["film"]
    said = turns['He made "@1".']
    assert said.items == (1,) and said.entities == (NODES["Beta"],)
    assert said.role == "recommender"
    assert "A film for her?" in turns and "She may like @2." in turns


def test_the_graph_keeps_all_relations(corpus):
    assert corpus.graph.relation_names == [
        *("release_year", "starred_actors", "directed_by", "has_genre", "written_by"),
        "self_loop",
    ]
    both_ways = {(h, t) for h, r, t in corpus.graph.edges.tolist() if r == 1}
    assert (NODES["Her"], NODES["Jane Doe"]) in both_ways
    assert (NODES["Jane Doe"], NODES["Her"]) in both_ways


def test_word_graph_has_words_of_the_training_text_only(corpus):
    assert corpus.concept_graph.words == ["film", "movie"]
    assert corpus.concept_graph.edges.tolist() == [[0, 1]]


def test_the_report_says_what_is_left_out_and_what_means_nothing(corpus):
    report = corpus.report
    assert report["left_out"] == {"train_in_valid": 1, "test_in_train_or_valid": 1}
    assert "Rec Ratio" in report["without_meaning"]["rec_ratio"]
    assert report["marked"]["valid"] == {
        "recommending_responses": 2,
        "recommended": 3,
        "not_an_item": 1,  # "Nowhere"
        "not_in_text": 0,
    }
    assert any("Rec Ratio" in warning for warning in report["warnings"])


def test_every_item_of_a_response_is_in_its_text(corpus):
    for split in corpus.splits:
        for dialogue in corpus.dialogues(split):
            for turn in (dialogue.turns[i] for i in responses(dialogue)):
                said = [word for word in tokens(turn.text) if word.startswith("@")]
                assert said == [f"@{corpus.items.item_ids[i]}" for i in turn.items]


def test_the_official_layout_gives_a_corpus_of_whole_dialogues(tmp_path):
    write_official(tmp_path / "raw", *[CONVERSATION] * 60)
    report = build_opendialkg(tmp_path / "raw", tmp_path / "corpus")
    corpus = Corpus.open(tmp_path / "corpus")
    assert report["layout"] == "official" and "without_meaning" not in report
    assert set(corpus.splits) == {"train", "dev", "valid", "test"}
    first = corpus.dialogues("train")[0].turns
    assert [turn.role for turn in first] == ["seeker", "recommender", "seeker"]
    (item,) = first[1].items
    assert corpus.items.titles[item] == "Alpha Rising (1990 Film)"


def test_the_hash_of_the_files_ignores_the_test_file_unless_it_is_used(tmp_path):
    raw = write_processed(tmp_path)
    before = opendialkg_fingerprint(raw, use_test=False)
    write_processed(tmp_path, test=LINES["test"])
    assert opendialkg_fingerprint(raw, use_test=False) == before
    assert set(opendialkg_fingerprint(raw)) - set(before) == {"test_data_processed.jsonl"}


@pytest.mark.parametrize("missing", ["kg.json", "valid_data_processed.jsonl"])
def test_a_missing_file_is_named(tmp_path, missing):
    (write_processed(tmp_path) / "opendialkg" / missing).unlink()
    with pytest.raises(MissingDataError, match=f"no {missing}"):
        build_opendialkg(tmp_path, None)


def test_a_folder_without_the_files_says_what_to_do(tmp_path):
    with pytest.raises(MissingDataError, match=r"(?s)neither train_data.* iEvaLM-CRS"):
        build_opendialkg(tmp_path, None)


def test_the_program_builds_and_reports(tmp_path, capsys):
    write_processed(tmp_path / "raw")
    assert main([f"--raw_dir={tmp_path}/raw", f"--out_dir={tmp_path}/corpus"]) == 0
    assert "valid 2 dialogues with 3 responses" in capsys.readouterr().err
    assert main([f"--raw_dir={tmp_path}/nothing", "--report"]) == 2
    assert "error: OpenDialKG's raw files were not found" in capsys.readouterr().err


# --- the real files ----------------------------------------------------------------------------

TRAIN = {"dialogues": 3557, "response_samples": 6569}
VALID = {
    "dialogues": 1124,
    "utterances": 4061,
    "response_samples": 2030,
    "responses_with_item": 1600,
    "item_mentions": 1728,
    "unknown_movie_ids": 0,
}
GRAPH = {"entities": 12_460, "triples": 46_402, "edges": 99_342, "relations": 7, "items": 2_965}


@pytest.mark.real_data
def test_the_published_files(raw_dir):
    report = build_opendialkg(raw_dir, None)
    assert {key: report["splits"]["train"][key] for key in TRAIN} == TRAIN
    assert {key: report["splits"]["valid"][key] for key in VALID} == VALID
    assert {key: report["graph"][key] for key in GRAPH} == GRAPH
    assert report["graph"]["items_linked"] == report["graph"]["items"]
    assert report["left_out"]["train_in_valid"] == 543
    marked = report["marked"]["valid"]
    assert (marked["recommending_responses"], marked["recommended"]) == (1188, 1254)
    for split in report["marked"].values():  # 98 % of what is recommended is found in the text
        assert split["not_in_text"] + split["not_an_item"] < 0.02 * split["recommended"]
