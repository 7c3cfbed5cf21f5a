"""Export: who is judged, what is sent out, titles, refusals."""

import hashlib
from pathlib import Path

import pytest

from conkd_jax.eval.human.study import StudyError
from conkd_jax.eval.predictions import PredictionError
from conkd_jax.eval.system_files import TitleError
from conkd_jax.human import export_runs
from conkd_jax.runs.finished import RunError
from tests.eval.exported import csv_rows, key, sent, write_items, write_run


def test_the_key_names_what_was_judged(tmp_path, runs):
    export_runs(runs, tmp_path / "out", num_contexts=4, num_annotators=2)
    study = key(tmp_path / "out")
    for run, system in zip(runs, study.systems, strict=True):
        assert (system.config, system.corpus) == (run.name, "redial")
        content = (run / "predictions.jsonl").read_bytes()
        assert system.sha256 == hashlib.sha256(content).hexdigest()


def test_what_is_sent_is_blind(tmp_path, runs):
    export_runs(runs, tmp_path / "out", num_contexts=4, num_annotators=2)
    study = key(tmp_path / "out")
    for name, content in sent(tmp_path / "out").items():
        for told in ("dialogpt", "redial", "mini-seed", "predictions", str(tmp_path)):
            assert told.encode() not in content.lower(), f"{name} says {told}"
        for system in study.systems:
            assert system.sha256.encode() not in content


def test_the_seed_says_what_is_sent(tmp_path, runs):
    options = {"num_contexts": 4, "num_annotators": 2}
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        export_runs(runs, tmp_path / name, seed=seed, **options)
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
    export_runs([*runs, copy, ablation], tmp_path / "out", num_contexts=2)
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
    lines = export_runs(runs, tmp_path / "out", num_contexts=4)
    assert "Gladiator (2000)" in responses(tmp_path / "out")
    assert "@7" not in responses(tmp_path / "out")
    assert not any("no title" in line for line in lines)


def test_titles_can_be_given(tmp_path, runs):
    movies = tmp_path / "movies.csv"
    movies.write_text('\ufeffmovieId,movieName,nbMentions\n7,"Alien,  again (1979)",3\n\n')
    for number, given in enumerate((movies, write_items(tmp_path / "corpus", "Brazil (1985)"))):
        export_runs(runs, tmp_path / f"out{number}", num_contexts=4, titles=str(given))
    assert "Alien, again (1979)" in responses(tmp_path / "out0")
    assert "Brazil (1985)" in responses(tmp_path / "out1")


def test_items_without_a_title_are_told(tmp_path, runs):
    lines = export_runs(runs, tmp_path / "out", num_contexts=4)
    assert "@7" in responses(tmp_path / "out")
    assert lines[-1] == (
        "Note: items without a title: 1, shown like @7; --titles=FILE gives them titles."
    )


def test_titles_that_are_none_are_refused(tmp_path, runs):
    wrong = tmp_path / "movies.csv"
    wrong.write_text("movieId,movieName\n7,Alien (1979)\nseven,Alien (1979)\n")
    with pytest.raises(TitleError, match=r"movies.csv, line 3: expected item id and title"):
        export_runs(runs, tmp_path / "out", num_contexts=4, titles=str(wrong))
    with pytest.raises(TitleError, match="nowhere: expected a CSV file"):
        export_runs(runs, tmp_path / "out", num_contexts=4, titles=str(tmp_path / "nowhere"))
    assert not (tmp_path / "out").exists()


def test_a_study_is_not_overwritten(tmp_path, runs):
    export_runs(runs, tmp_path / "out", num_contexts=4)
    before = (tmp_path / "out" / "key.json").read_bytes()
    with pytest.raises(StudyError, match="expected a folder without a study, found key.json"):
        export_runs(runs, tmp_path / "out", num_contexts=4, seed=1)
    assert (tmp_path / "out" / "key.json").read_bytes() == before


def test_what_is_no_run_gets_one_message(tmp_path, runs):
    for missing in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(PredictionError, match="expected a predictions.jsonl, or a folder"):
            export_runs([missing], tmp_path / "out")
    for content in ("{", "[]", '{"name": "dialogpt"}', '{"name": 3, "settings": {}}'):
        (runs[0] / "config.json").write_text(content)
        with pytest.raises(RunError, match="config.json is not the config of a run"):
            export_runs(runs, tmp_path / "out", num_contexts=4)
    (runs[1] / "predictions.jsonl").write_text("{}\n")
    with pytest.raises(PredictionError, match="line 1"):
        export_runs(runs[1:], tmp_path / "out", num_contexts=4)
