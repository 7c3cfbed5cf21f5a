"""A template holds what a split asks; a filled one is checked against the split."""

import json

import numpy as np
import pytest
from msgspec.structs import replace

from conkd_jax.cli.command_line import UsageError
from conkd_jax.data.corpus import (
    ConceptGraph,
    Corpus,
    CorpusError,
    Dialogue,
    ItemTable,
    KnowledgeGraph,
    Turn,
)
from conkd_jax.data.corpus_writing import write_corpus
from conkd_jax.eval.any_system import count_predictions
from conkd_jax.eval.convert import ConversionError
from conkd_jax.eval.predictions import PredictionError, read_predictions, write_predictions
from conkd_jax.eval.system_files import open_corpus
from tests.eval.predicted import A, B, C

TURNS = (
    Turn("seeker", f"I like @{A}", (0,)),
    Turn("recommender", f"Try @{B} &amp; @99.", (1,), (99,)),
    Turn("seeker", "Seen it"),
    Turn("recommender", "Can't help"),
)


@pytest.fixture
def corpus(tmp_path):
    write_corpus(
        tmp_path / "corpus",
        splits={"train": [], "test": [Dialogue("t", TURNS)]},
        items=ItemTable(
            np.array([A, B, C]),
            ["Alien (1979)", "Brazil (1985)", "The Alien (1979)"],
            np.arange(3, dtype=np.int32),
            np.ones(3, bool),
        ),
        graph=KnowledgeGraph(3, 1, ["r"], np.array([[0, 0, 1]], np.int32), "kgsf"),
        concept_graph=ConceptGraph(0, np.zeros((0, 2), np.int32), [], np.zeros(0, bool)),
        report={},
    )
    return tmp_path / "corpus"


def test_a_template_is_filled_in_and_scored(tmp_path, corpus, evaluated):
    path = tmp_path / "test.jsonl"
    evaluated("--template", split="test", graph=corpus, out=path)
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert (first["conversation_id"], first["turn"], second["turn"]) == ("t", 1, 3)
    assert first["context"] == [{"role": "seeker", "text": f"I like @{A}"}]
    assert (first["mentioned_items"], second["mentioned_items"]) == ([A], [A, B])
    assert (first["reference_items"], first["reference_items_out_of_vocabulary"]) == ([B], [99])
    assert (first["turn_type"], second["turn_type"]) == ("rec", "gen")
    assert (first["generated"], first["generated_items"], first["split"]) == ("", [], "test")
    with pytest.raises(PredictionError, match="'generated' is empty on all 2 lines"):
        evaluated(predictions=path, graph=corpus)
    first |= {"generated": f"See @{B}", "generated_items": [B]}
    path.write_text("".join(json.dumps(line) + "\n" for line in (second, first)))  # reordered
    out = evaluated(predictions=path, graph=corpus, out=tmp_path / "scored")
    assert "on test" in out and "Note: 1 of 2 responses are empty" in out
    document = json.loads((tmp_path / "scored" / "metrics.json").read_text())
    assert document["metrics"]["rer@1"] == 1
    assert document["counts"]["responses_of_split"] == 2


def filled(tmp_path, corpus, evaluated):
    path = tmp_path / "test.jsonl"
    evaluated("--template", split="test", graph=corpus, out=path)
    return path, [
        replace(p, generated="ok", generated_tokens=("ok",)) for p in read_predictions(path)
    ]


def test_a_short_file_is_refused_or_told(tmp_path, corpus, evaluated):
    path, run = filled(tmp_path, corpus, evaluated)
    write_predictions(path, run[1:])
    with pytest.raises(PredictionError, match=r"none for 1 of the 2 responses .*\('t', 1\)"):
        evaluated(predictions=path, graph=corpus)
    assert "Note: 1 of the 2 responses" in evaluated("--partial", predictions=path, graph=corpus)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"turn": 5}, "expected a response of the split 'test'"),
        ({"reference": f"Try @{B} @99"}, "field 'reference': expected"),
        ({"mentioned_items": (), "context": ()}, "field 'mentioned_items': expected"),
        (
            {"reference_items": (B, 99), "reference_items_out_of_vocabulary": ()},
            r"'reference_items': expected items of the catalogue, got \[99\]",
        ),
    ],
)
def test_another_gold_is_refused_by_line(tmp_path, corpus, evaluated, changes, message):
    path, run = filled(tmp_path, corpus, evaluated)
    write_predictions(path, [run[1], replace(run[0], **changes)])
    with pytest.raises(PredictionError, match=f"line 2: .*{message}"):
        evaluated(predictions=path, graph=corpus)


def test_two_systems_are_compared_on_the_same_gold(tmp_path, corpus, evaluated):
    path, run = filled(tmp_path, corpus, evaluated)
    others = [replace(run[0], reference=f"@{C}", reference_items=(C,)), run[1]]
    others[0] = replace(others[0], reference_items_out_of_vocabulary=())
    write_predictions(path, run)
    write_predictions(tmp_path / "other.jsonl", others)
    assert count_predictions(path).gold != count_predictions(tmp_path / "other.jsonl").gold


def test_options_of_template_and_convert(tmp_path, evaluated):
    with pytest.raises(UsageError, match="--template needs --split, --graph, --out"):
        evaluated("--template")
    with pytest.raises(UsageError, match="expected one of --workdir"):
        evaluated("--template", predictions="p")
    with pytest.raises(UsageError, match="--rankings needs --convert"):
        evaluated(predictions="p", rankings="r")
    with pytest.raises(UsageError, match="--convert needs --split, --graph, --out"):
        evaluated(predictions="p", convert="unicrs")


def test_a_corpus_is_found_in_a_run(tmp_path, corpus):
    links = tmp_path / "run" / "artifacts"
    links.mkdir(parents=True)
    (links / "artifacts.txt").write_text(f"corpus {corpus}\nstudent nowhere\n")
    assert open_corpus(tmp_path / "run", "test").directory == Corpus.open(corpus).directory
    (links / "artifacts.txt").write_text("student nowhere\n")
    with pytest.raises(CorpusError, match="expected the corpus of the run"):
        open_corpus(tmp_path / "run")
    with pytest.raises(CorpusError, match="Expected a corpus at"):
        open_corpus(tmp_path)


# --- files of other toolkits ---------------------------------------------------------------------


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return path


def test_unicrs_slots_are_filled_from_rankings(tmp_path, corpus, evaluated):
    theirs = write_lines(
        tmp_path / "unicrs_test.jsonl",
        [
            {
                "pred": "System: You should see <movie> or <movie> !",
                "label": "System: Try <movie> & @99.",
            },
            {"pred": "System: ok", "label": "System: Can't help"},
        ],
    )
    ours = tmp_path / "ours.jsonl"
    options = {"predictions": theirs, "split": "test", "graph": corpus, "out": ours}
    with pytest.raises(
        ConversionError, match=r"jsonl, line 1: .* has <movie>, and .*--rankings=FILE"
    ):
        evaluated(convert="unicrs", **options)
    assert not ours.exists()
    rankings = write_lines(tmp_path / "r.jsonl", [[B, "Alien (1979)"], []])
    evaluated(convert="unicrs", rankings=rankings, **options)
    first, second = read_predictions(ours)
    assert first.generated == f"You should see @{B} or @{A}!"
    assert first.generated_items == (B, A)
    assert [step.top for step in first.item_steps] == [(B, A), (A, B)]
    assert (first.recommender_top, second.recommender_top) == ((B, A), ())
    assert second.generated == "ok"
    assert "on test" in evaluated(predictions=ours, graph=corpus)


def test_unicrs_titles_become_items(tmp_path, corpus, evaluated):
    theirs = write_lines(
        tmp_path / "u.jsonl",
        [
            {
                "pred": "System: See The Alien (1979) , Alien  (1979)",
                "label": "System: Try Brazil (1985) & @99.",
            },
            {"pred": "System: Clue (1985)", "label": "System: Can't"},
        ],
    )
    ours = tmp_path / "ours.jsonl"
    evaluated(convert="unicrs", predictions=theirs, split="test", graph=corpus, out=ours)
    first, second = read_predictions(ours)
    assert (first.generated, first.generated_items) == (f"See @{C} , @{A}", (C, A))
    assert second.generated == "Clue (1985)"  # no title of the catalogue


def test_crslab_tokens_become_items(tmp_path, corpus, evaluated):
    theirs = write_lines(
        tmp_path / "c.jsonl",
        [
            {"pred": f"__start__ see @ {B} !", "label": f"Try @ {B} & @ 99 . __end__"},
            {"pred": "", "label": "Ca n't __unk__"},
        ],
    )
    ours = tmp_path / "ours.jsonl"
    evaluated(convert="crslab", predictions=theirs, split="test", graph=corpus, out=ours)
    first, second = read_predictions(ours)
    assert (first.generated, first.generated_items) == (f"see @{B} !", (B,))
    assert second.generated == ""


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"pred": "a", "label": "Try @11"}], "expected the 2 responses .* got 1"),
        (
            [{"pred": "a", "label": "Can't help"}, {"pred": "a", "label": "Try @ 11"}],
            r"jsonl, line 1: field 'label': expected the reference 'Try @11 .* got \"Can't help\"",
        ),
        (
            [{"pred": "a"}],
            "jsonl, line 1: expected a JSON object with the texts 'pred' and 'label'",
        ),
        (
            [{"pred": "see [ITEM]", "label": "Try"}, {"pred": "", "label": ""}],
            r"jsonl, line 1: .* has \[ITEM\]",
        ),
    ],
)
def test_a_file_that_is_not_of_the_split_is_refused(tmp_path, corpus, evaluated, lines, message):
    theirs, ours = write_lines(tmp_path / "c.jsonl", lines), tmp_path / "ours.jsonl"
    with pytest.raises(ConversionError, match=message):
        evaluated(convert="crslab", predictions=theirs, split="test", graph=corpus, out=ours)
