"""ReDial's raw files become a corpus: by hand-counted small files, and by the published figures."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys

import pytest

from conkd_jax.data.corpus import Corpus, CorpusError
from conkd_jax.errors import UserError
from data_prep import redial, split_ids
from data_prep.download import default_cache
from tests.data_prep.raw_files import dialogue, simple, write_jsonl, write_raw

DEV_ID, TRAIN_ID, VALID_ID = "14", "15", "6712"


@pytest.fixture
def raw(tmp_path):
    long_answer = "no " * 29 + "@10 @11"
    train = [
        simple(TRAIN_ID),
        simple(DEV_ID),
        dialogue(
            "16", (1, "hi"), (0, "the Dog @10"), (1, "@10 @14"), (1, "@99"), (0, "x"), (1, "y")
        ),
        dialogue("17", (0, "@12"), (1, long_answer)),
        b"{broken",
        dialogue("18"),
    ]
    return write_raw(tmp_path / "raw", train, valid=[simple("v1")])


def test_splits_and_counts(raw, tmp_path):
    assert split_ids.is_dev(DEV_ID) and not split_ids.is_dev(TRAIN_ID)
    report = redial.build_redial(raw, tmp_path / "corpus")
    corpus = Corpus.open(tmp_path / "corpus")
    assert corpus.splits == ("train", "dev", "valid")
    assert [d.conversation_id for d in corpus.dialogues("train")] == [TRAIN_ID, "16", "17"]
    assert [d.conversation_id for d in corpus.dialogues("dev")] == [DEV_ID]
    assert corpus.report == report
    train = report["splits"]["train"]  # dev counts as train here
    assert {key: train[key] for key in COUNTS} == COUNTS
    assert train["mean_response_tokens"] == pytest.approx((5 + 5 + 3 + 1 + 31) / 5)
    assert report["dev"]["dialogues"] == 1
    assert report["problems"]["malformed_lines"] == 1
    assert report["problems"]["empty_dialogues"] == 1
    assert report["problems"]["unknown_movie_ids"] == 1
    assert report["problems"]["responses_over_30_tokens"] == 1
    (problems,) = (f for n, f in report["problems"]["files"].items() if n == "train_data.jsonl")
    assert "train_data.jsonl, line 5" in problems["examples"][0]
    assert report["splits"]["train"]["unknown_movie_examples"] == ["16: @99"]


COUNTS = {
    "dialogues": 4,
    "utterances": 3 + 3 + 6 + 2,
    "response_samples": 5,
    "responses_with_item": 4,
    "item_mentions": 1 + 1 + 2 + 2,
    "rec_samples": 1 + 1 + 1 + 2,
    "mentions_repeated": 1,
    "responses_over_30_tokens": 1,
    "item_mentions_past_30_tokens": 1,
    "unknown_movie_ids": 1,
}


def test_a_dialogue_is_linked(raw, tmp_path):
    redial.build_redial(raw, tmp_path / "corpus")
    corpus = Corpus.open(tmp_path / "corpus")
    first, second = corpus.dialogues("train")[:2]
    assert corpus.items.titles[1] == "Beta, the Return (1991)"
    assert corpus.items.is_linked.tolist() == [True, True, True, True, False, False]
    assert first.turns[1].items == (1,)
    assert [corpus.entity_names[e] for e in first.turns[1].entities] == [
        "Beta, the Return (1991)",
        "Jane Doe (actress)",
    ]
    assert [turn.role for turn in second.turns][:3] == ["recommender", "seeker", "recommender"]
    assert second.turns[2].text == "@10 @14 @99"
    assert second.turns[2].unknown_items == (99,)
    words = [corpus.concept_graph.words[c] for c in second.turns[1].concepts]
    assert words == ["dog"]  # "the" is a stop word
    assert corpus.graph.num_entities == 18


def test_without_a_valid_file_the_list_decides(tmp_path):
    train = [simple(VALID_ID), simple(TRAIN_ID), simple("19261"), simple("17")]
    raw = write_raw(tmp_path / "raw", train, test=[simple("t"), simple(TRAIN_ID)])
    redial.build_redial(raw, tmp_path / "corpus")
    corpus = Corpus.open(tmp_path / "corpus")
    assert [d.conversation_id for d in corpus.dialogues("valid")] == [VALID_ID, "19261"]
    assert [d.conversation_id for d in corpus.dialogues("test")] == ["t", TRAIN_ID]
    assert [d.conversation_id for d in corpus.dialogues("train")] == ["17"]
    found = corpus.report["valid_ids"]
    assert (found["found"], found["read_from"]) == (2, "train_data.jsonl")
    assert found["held_out_of_train"] == 3


def test_inferred_order_is_a_split_of_its_own(raw, tmp_path):
    write_jsonl(
        raw / "redial" / "train_inferred_order.jsonl",
        [simple("i1"), simple(VALID_ID), simple(TRAIN_ID), simple("v1")],
    )
    redial.build_redial(raw, tmp_path / "without")
    with pytest.raises(CorpusError, match="use_inferred_order"):
        Corpus.open(tmp_path / "without").dialogues("inferred")
    redial.build_redial(raw, tmp_path / "with", use_inferred_order=True)
    corpus = Corpus.open(tmp_path / "with")
    assert [d.conversation_id for d in corpus.dialogues("inferred")] == ["i1"]
    assert corpus.dialogues("train") == Corpus.open(tmp_path / "without").dialogues("train")


def test_a_movie_list_is_made_where_there_is_none(raw, tmp_path):
    (raw / "redial" / "movies_with_mentions.csv").unlink()
    (raw / "kg" / "stopwords.txt").unlink()
    titled = {**simple("20"), "movieMentions": {"10": "Alpha (1990)"}}
    write_jsonl(raw / "redial" / "train_data.jsonl", [titled])
    redial.build_redial(raw, tmp_path / "corpus")
    corpus = Corpus.open(tmp_path / "corpus")
    assert corpus.items.item_ids.tolist() == [10, 11, 12, 13, 14]
    assert corpus.items.titles[:2] == ["Alpha (1990)", "Movie 11"]


def test_a_very_long_dialogue_is_kept(tmp_path):
    long = dialogue("15", *((i % 2, f"m{i} @10 😀\x07") for i in range(10_000)))
    redial.build_redial(write_raw(tmp_path / "raw", [long]), tmp_path / "corpus")
    (found,) = Corpus.open(tmp_path / "corpus").dialogues("train")
    assert len(found.turns) == 10_000
    assert found.turns[9_999].text == "m9999 @10 😀"
    report = Corpus.open(tmp_path / "corpus").report
    assert report["problems"]["over_long_dialogues"] == 1
    assert report["problems"]["control_characters"] == 10_000
    assert report["splits"]["train"]["response_samples"] == 5_000


def test_building_again_gives_the_same_bytes(raw, tmp_path):
    for name in ("a", "b"):
        redial.build_redial(raw, tmp_path / name)
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_report_is_one_json_object_and_writes_nothing(raw, capsys):
    before = sorted(raw.rglob("*"))
    assert redial.main([f"--raw_dir={raw}", "--report"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert set(out["splits"]) == {"train", "valid"}
    graph_keys = {"entities", "triples", "edges", "relations", "items", "items_linked"}
    assert graph_keys | {"concepts", "concept_edges"} <= set(out["graph"])
    assert sorted(raw.rglob("*")) == before


def test_bad_requests_end_in_words(raw, tmp_path, capsys):
    assert redial.main([f"--raw_dir={tmp_path / 'none'}", "--report"]) == 2
    assert "CONKD_RAW_DIR" in capsys.readouterr().err
    assert redial.main([f"--raw_dir={raw}"]) == 2
    assert "--out_dir" in capsys.readouterr().err
    (raw / "kg" / "subkg.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert redial.main([f"--raw_dir={raw}", "--report"]) == 2
    assert "os.system" in capsys.readouterr().err
    with pytest.raises(ValueError, match="got 'mine'"):
        redial.build_redial(raw, None, graph_rule="mine")


def reassigned(raw, change):
    """A dialogue whose two worker ids, but not those of its messages, are changed."""
    ids = ("initiatorWorkerId", "respondentWorkerId")
    return raw | {key: change(raw[key]) for key in ids}


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "expected one dialogue on each line, got an empty file"),
        (b"\xef\xbb\xbf\n\n", "expected one dialogue on each line, got an empty file"),
        (json.dumps(simple("1"), indent=1).encode(), "usable lines: 0, others: .*jsonl, line 1: "),
        (json.dumps([simple("1")]).encode(), "usable lines: 0, others: 1, .*got list.*jq"),
        (
            [reassigned(simple("1"), str)],
            'jsonl, line 1: initiatorWorkerId: expected an integer, got "0"',
        ),
        ([reassigned(simple("1"), float)], "expected an integer, got 0.0"),
        ([reassigned(simple("1"), lambda _: None)], "expected an integer, got null"),
        ([simple("1")] * 3, "usable lines: 1, others: 2, .*duplicate_ids: .*jsonl, line 2: 1"),
        (
            [reassigned(simple("1"), lambda i: i + 7)],
            "responses in the split train.*senderWorkerId",
        ),
    ],
)
def test_dialogues_of_another_form_are_refused(raw, tmp_path, content, message, capsys):
    path = raw / "redial" / "train_data.jsonl"
    write_jsonl(path, content) if isinstance(content, list) else path.write_bytes(content)
    assert redial.main([f"--raw_dir={raw}", f"--out_dir={tmp_path / 'corpus'}"]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "corpus").exists()


def test_a_corpus_needs_something_to_train_on(tmp_path):
    raw = write_raw(tmp_path / "raw", [simple("v1")], valid=[simple("v1")])
    with pytest.raises(UserError, match="every dialogue of the training file belongs to"):
        redial.build_redial(raw, None)


def test_a_mark_and_a_blank_line_change_nothing(raw):
    path = raw / "redial" / "train_data.jsonl"
    before = redial.build_redial(raw, None)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\n\n")
    assert redial.build_redial(raw, None) == before


def test_the_summary_counts_responses_and_says_what_is_missing(raw, tmp_path, capsys):
    concepts = raw / "kg" / "conceptnet_one_hop_edges.txt"
    concepts.rename(raw / "kg" / "conceptnet_edges2nd.txt").write_text("IsA\tqwx/n\tzzz/n\n")
    out = tmp_path / "corpus"
    assert redial.main([f"--raw_dir={raw}", f"--out_dir={out}"]) == 0
    said = capsys.readouterr().err
    assert "train 4 dialogues with 5 responses; valid 1 dialogues with 1 responses" in said
    for warning in (
        "2 lines of train_data.jsonl were left out, for example malformed_lines: ",
        "0 of the 901 published validation dialogues were found (in valid_data.jsonl)",
        "graph_rule=kgsf keeps 0 of 3 triples and 0 of 2 relations",
        "none of the 2 words of the concept graph occurs",
    ):
        assert f"warning: {warning}" in said
    assert len(Corpus.open(out).report["warnings"]) == 4
    concepts = raw / "kg" / "conceptnet_edges2nd.txt"
    concepts.write_text("/r/IsA\t/c/de/hund\t/c/de/tier\n")
    ids = dict.fromkeys(range(20))
    (raw / "kg" / "id2entity.pkl").write_bytes(pickle.dumps(ids))
    rows = "".join(f"{movie},Movie,1\n" for movie in range(3))
    (raw / "redial" / "movies_with_mentions.csv").write_text(f"movieId,movieName,n\n{rows}")
    said = " ".join(redial.build_redial(raw, None, graph_rule="all")["warnings"])
    for warning in (
        "ConceptNet edges",
        "none of the 3 items is linked",
        "id2entity.pkl and entity2entityId.pkl belong to the movie list",
        "items of the list 0 ",
    ):
        assert warning in said
    assert "graph_rule" not in said


def test_the_home_folder_may_be_written_as_a_tilde(raw, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert redial.main(["--raw_dir=~/raw", "--out_dir=~/corpus", "--graph_rule=all"]) == 0
    assert Corpus.open(tmp_path / "corpus").graph.rule == "all"
    monkeypatch.setenv("CONKD_RAW_DIR", "~/raw")
    monkeypatch.setenv("CONKD_CACHE_DIR", "~/cache")
    assert redial.redial_fingerprint() == redial.redial_fingerprint(raw)
    assert default_cache() == tmp_path / "cache"


# --- the published files -----------------------------------------------------------------------

VALID = {
    "dialogues": 901,
    "utterances": 16_397,
    "response_samples": 5_076,
    "responses_with_item": 2_650,
    "item_mentions": 3_551,
    "rec_samples": 3_013,
    "mentions_repeated": 321,
}
GRAPH = {
    "entities": 64_368,
    "triples": 165_696,
    "edges": 365_028,
    "relations": 46,
    "items": 6_924,
    "items_linked": 6_112,
    "concepts": 28_208,
    "concept_edges": 47_023,
}


@pytest.mark.real_data
def test_the_published_figures(raw_dir):
    command = [sys.executable, "-m", "data_prep.redial", f"--raw_dir={raw_dir}", "--report"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    report = json.loads(done.stdout)
    valid = report["splits"]["valid"]
    assert {key: valid[key] for key in VALID} == VALID
    assert round(valid["mean_response_tokens"], 1) == 11.8
    assert {key: report["graph"][key] for key in GRAPH} == GRAPH
    assert report["valid_ids"]["found"] == 901
    assert report["problems"]["malformed_lines"] == 0


@pytest.mark.real_data
def test_kbrd_rule_on_the_published_graph(raw_dir):
    graph = redial.build_redial(raw_dir, None, graph_rule="kbrd")["graph"]
    assert (graph["relations"], graph["edges"]) == (35, 358_238)


@pytest.mark.real_data
def test_the_official_layout_finds_the_same_validation_dialogues(raw_dir, tmp_path):
    """The official archive has no validation file: its dialogues lie in the training file."""
    for folder in ("kg", "redial"):
        shutil.copytree(raw_dir / folder, tmp_path / "raw" / folder)
    valid = tmp_path / "raw" / "redial" / "valid_data.jsonl"
    train = tmp_path / "raw" / "redial" / "train_data.jsonl"
    train.chmod(0o644)
    valid.parent.chmod(0o755)
    train.write_bytes(valid.read_bytes() + train.read_bytes())
    valid.unlink()
    report = redial.build_redial(tmp_path / "raw", None)
    assert {key: report["splits"]["valid"][key] for key in VALID} == VALID
    assert report["splits"]["train"]["dialogues"] == 4_376


@pytest.mark.real_data
def test_text_links_people_and_genres_but_no_everyday_words(raw_dir, tmp_path):
    redial.build_redial(raw_dir, tmp_path / "corpus")
    corpus = Corpus.open(tmp_path / "corpus")
    movies = set(corpus.items.entity_ids.tolist())
    named = {
        corpus.entity_names[node]
        for split in corpus.splits
        for dialogue in corpus.dialogues(split)
        for turn in dialogue.turns
        for node in turn.entities
        if node not in movies
    }
    assert {"Tom Hanks", "Adam Sandler", "Comedy", "Romantic comedy", "Thriller (genre)"} <= named
    everyday = ("Friend", "Friends", "Actor", "Director", "DVD", "Soundtrack", "Cars", "Animal")
    for word in (*everyday, "History", "Serial", "Movie", "Film", "Movies"):
        assert not any(name == word or name.startswith(f"{word} (") for name in named), word
