"""The human evaluation program: export, judge, collect; titles, blindness, refusals."""

import csv
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from absl import app, flags
from absl.testing import flagsaver

from conkd_jax import human as program
from conkd_jax.data.corpus import ConceptGraph, ItemTable, KnowledgeGraph, write_corpus
from conkd_jax.eval.human import study as human_study
from conkd_jax.eval.human.study import Study, StudyError
from conkd_jax.eval.predictions import PredictionError, write_predictions
from tests.eval import judged

SMALL = {"num_contexts": 4, "annotators": 2}


def write_run(folder: Path, system: str = "dialogpt_hard", corpus: str = "redial") -> Path:
    """What conkd_jax.train leaves, as far as a human evaluation reads it."""
    folder.mkdir(parents=True)
    name = judged.NAMES[0] if system == "dialogpt" else judged.NAMES[1]
    write_predictions(folder / "predictions.jsonl", judged.answers(name).values())
    settings = {
        "preset": "mini",
        "backbone": "dialogpt",
        "seed": 0,
        "corpus": {"name": corpus},
        "decode": {
            "item_rule": "argmax",
            "allow_mentioned_items": True,
            "allow_repeated_items": True,
        },
    }
    record = {"name": system, "settings": settings, "split": "valid"}
    (folder / "config.json").write_text(json.dumps(record))
    return folder


def write_items(folder: Path, title: str = "Gladiator (2000)") -> Path:
    write_corpus(
        folder,
        splits={"train": []},
        items=ItemTable(
            np.array([7], np.int64), [title], np.array([0], np.int32), np.array([True])
        ),
        graph=KnowledgeGraph(1, 1, ["loop"], np.array([[0, 0, 0]], np.int32), "kgsf"),
        concept_graph=ConceptGraph(0, np.zeros((0, 2), np.int32), [], np.zeros(0, bool)),
        report={},
    )
    return folder


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    return [write_run(tmp_path / "x" / name, name) for name in ("dialogpt", "dialogpt_hard")]


def called(*arguments, **options) -> None:
    """The program with its options set."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["human"])
    with flagsaver.flagsaver(**options):
        program.main(["human", *map(str, arguments)])


def key(out: Path) -> Study:
    return human_study.from_document(json.loads((out / "key.json").read_text()), where="key.json")


def fill(out: Path, **form) -> list[Path]:
    """Every annotator's sheet, judged by the rule of `judged.scores`."""
    study = key(out)
    files = []
    for annotator in range(1, len(study.sheets) + 1):
        files.append(out.parent / f"{out.name}_{annotator}_judged.csv")
        files[-1].write_bytes(judged.csv_bytes(judged.rows(study, annotator), **form))
    return files


def csv_rows(out: Path, annotator: int) -> list[dict[str, str]]:
    name = f"annotator_{annotator}"
    text = (out / name / f"{name}.csv").read_text(encoding="utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def sent(out: Path) -> dict[str, bytes]:
    """Everything that goes to annotators."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes() for path in out.glob("annotator_*/*")
    }


# --- there and back -------------------------------------------------------------------------


def test_export_judge_collect(tmp_path, runs, capsys):
    out = tmp_path / "out"
    called("export", *runs, out=str(out), **SMALL)
    told = capsys.readouterr().out
    assert "4 contexts, 2 systems, 2 annotators: 8 responses each." in told
    assert f"Keep to yourself: {out}/key.json" in told
    assert {path.name for path in out.iterdir()} == {"annotator_1", "annotator_2", "key.json"}
    assert {Path(name).name for name in sent(out)} == {
        "annotator_1.csv", "annotator_1.html", "annotator_2.csv", "annotator_2.html",
        "instructions.md",
    }  # fmt: skip
    called("collect", out, *fill(out, delimiter=";", encoding="utf-8-sig"))
    text = capsys.readouterr().out
    assert (out / "scores.md").read_text() == text
    document = json.loads((out / "scores.json").read_text())
    scores = judged.scores(key(out))
    for place, name in enumerate(judged.NAMES):
        system = document["systems"][place]
        assert system["name"] == name and f"| `{name}` |" in text
        means = [scores[:, :, place, scale].mean() for scale in range(3)]
        assert list(system["metrics"].values()) == pytest.approx([*means, np.mean(means)])
    assert "| paper: DialoGPT + ConKD (hard) | 1.894 |" in text
    assert not list(out.glob("*.partial"))


def test_the_key_names_what_was_judged(tmp_path, runs):
    program.export(runs, tmp_path / "out", num_contexts=4, num_annotators=2)
    study = key(tmp_path / "out")
    for run, system in zip(runs, study.systems, strict=True):
        assert (system.config, system.corpus) == (run.name, "redial")
        content = (run / "predictions.jsonl").read_bytes()
        assert system.sha256 == hashlib.sha256(content).hexdigest()


def test_what_is_sent_is_blind(tmp_path, runs):
    program.export(runs, tmp_path / "out", num_contexts=4, num_annotators=2)
    study = key(tmp_path / "out")
    for name, content in sent(tmp_path / "out").items():
        for told in ("dialogpt", "redial", "mini-seed", "predictions", str(tmp_path)):
            assert told.encode() not in content.lower(), f"{name} says {told}"
        for system in study.systems:
            assert system.sha256.encode() not in content


def test_the_seed_says_what_is_sent(tmp_path, runs):
    options = {"num_contexts": 4, "num_annotators": 2}
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        program.export(runs, tmp_path / name, seed=seed, **options)
    first, again, other = (sent(tmp_path / name) for name in "abc")
    assert first == again
    assert all(first[name] != other[name] for name in first if not name.endswith(".md"))
    rows = [csv_rows(tmp_path / "a", annotator) for annotator in (1, 2)]
    texts = [[(row["context"], row["response"]) for row in each] for each in rows]
    assert sorted(texts[0]) == sorted(texts[1]) and texts[0] != texts[1]


def test_systems_are_named_by_their_config_else_by_their_file(tmp_path, runs):
    (runs[0] / "config.json").unlink()
    copy = tmp_path / "copies" / "soft.jsonl"
    copy.parent.mkdir()
    copy.write_bytes((runs[1] / "predictions.jsonl").read_bytes())
    ablation = write_run(tmp_path / "y", "ablations/vanilla", "movieworld")
    program.export([*runs, copy, ablation], tmp_path / "out", num_contexts=2)
    names = [system.name for system in key(tmp_path / "out").systems]
    assert names == [
        "dialogpt", "dialogpt_hard-mini-seed0", "soft", "ablations-vanilla-dialogpt-mini-seed0",
    ]  # fmt: skip


# --- titles ---------------------------------------------------------------------------------


def responses(out: Path) -> str:
    return sent(out)["annotator_1/annotator_1.csv"].decode()


def test_titles_come_from_the_corpus_of_a_run(tmp_path, runs):
    corpus = write_items(tmp_path / "corpus")
    (runs[1] / "artifacts").mkdir()
    (runs[1] / "artifacts" / "corpus").symlink_to(corpus)
    told = program.export(runs, tmp_path / "out", num_contexts=4)
    assert "Gladiator (2000)" in responses(tmp_path / "out")
    assert "@7" not in responses(tmp_path / "out")
    assert not any("no title" in line for line in told)


def test_titles_can_be_given(tmp_path, runs):
    movies = tmp_path / "movies.csv"
    movies.write_text('\ufeffmovieId,movieName,nbMentions\n7,"Alien,  again (1979)",3\n\n')
    for number, given in enumerate((movies, write_items(tmp_path / "corpus", "Brazil (1985)"))):
        program.export(runs, tmp_path / f"out{number}", num_contexts=4, titles=str(given))
    assert "Alien, again (1979)" in responses(tmp_path / "out0")
    assert "Brazil (1985)" in responses(tmp_path / "out1")


def test_items_without_a_title_are_told(tmp_path, runs):
    told = program.export(runs, tmp_path / "out", num_contexts=4)
    assert "@7" in responses(tmp_path / "out")
    assert told[-1] == ("Note: 1 items have no title and stand as @7; --titles=FILE names them.")


def test_titles_that_are_none_are_refused(tmp_path, runs):
    wrong = tmp_path / "movies.csv"
    wrong.write_text("movieId,movieName\n7,Alien (1979)\nseven,Alien (1979)\n")
    with pytest.raises(StudyError, match=r"movies.csv, row 3: expected movie id and title"):
        program.export(runs, tmp_path / "out", num_contexts=4, titles=str(wrong))
    with pytest.raises(StudyError, match="--titles=.*nowhere: expected a CSV file"):
        program.export(runs, tmp_path / "out", num_contexts=4, titles=str(tmp_path / "nowhere"))
    assert not (tmp_path / "out").exists()


# --- refusals -------------------------------------------------------------------------------


def test_a_study_is_not_overwritten(tmp_path, runs):
    program.export(runs, tmp_path / "out", num_contexts=4)
    before = (tmp_path / "out" / "key.json").read_bytes()
    with pytest.raises(StudyError, match="expected a folder without a study, found key.json"):
        program.export(runs, tmp_path / "out", num_contexts=4, seed=1)
    assert (tmp_path / "out" / "key.json").read_bytes() == before


def test_an_export_that_was_cut_short_is_no_study(tmp_path, runs, monkeypatch):
    def full(path, document):
        raise OSError("No space left on device")

    monkeypatch.setattr(program.report, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        program.export(runs, tmp_path / "out", num_contexts=4)
    with pytest.raises(StudyError, match="expected the key of a study, found none"):
        program.collect(tmp_path / "out", ["sheet.csv"])
    monkeypatch.undo()
    program.export(runs, tmp_path / "out", num_contexts=4)
    program.collect(tmp_path / "out", fill(tmp_path / "out"))


def test_what_is_no_run_gets_one_message(tmp_path, runs):
    for missing in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(StudyError, match="expected a predictions.jsonl, or the folder"):
            program.export([missing], tmp_path / "out")
    for content in ("{", "[]", '{"name": "dialogpt"}', '{"name": 3, "settings": {}}'):
        (runs[0] / "config.json").write_text(content)
        with pytest.raises(StudyError, match="config.json is not the config of a run"):
            program.export(runs, tmp_path / "out", num_contexts=4)
    (runs[1] / "predictions.jsonl").write_text("{}\n")
    with pytest.raises(PredictionError, match="line 1"):
        program.export(runs[1:], tmp_path / "out", num_contexts=4)


def test_a_damaged_key_scores_nothing(tmp_path, runs):
    program.export(runs, tmp_path / "out", num_contexts=4)
    files = fill(tmp_path / "out")
    path = tmp_path / "out" / "key.json"
    for content, message in ((b"{", "it is no JSON"), (b"\xff", "no JSON"), (b"{}", "is damaged")):
        path.write_bytes(content)
        with pytest.raises(StudyError, match=f"key.json: expected the key .*{message}"):
            program.collect(tmp_path / "out", files)
    assert not (tmp_path / "out" / "scores.json").exists()


def test_a_mistake_ends_in_one_message(tmp_path, runs):
    program.export(runs, tmp_path / "out", num_contexts=4)
    with pytest.raises(SystemExit, match=r"^conkd_jax.human: .*nothere.csv: expected a filled"):
        called("collect", tmp_path / "out", tmp_path / "nothere.csv")
    with pytest.raises(SystemExit, match="^conkd_jax.human: .*expected a folder without a study"):
        called("export", *runs, out=str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), {}, "expected export or collect"),
        (("judge",), {}, "expected export or collect"),
        (("export",), {"out": "x"}, "expected runs and a folder"),
        (("export", "run"), {}, "expected runs and a folder"),
        (("collect", "DIR"), {}, "expected the folder of an export and sheets"),
    ],
)
def test_calls_that_ask_for_nothing_clear_are_refused(arguments, options, message):
    with pytest.raises(app.UsageError, match=message):
        called(*arguments, **options)
