"""The latency program on trained runs: its documents make the table, and what it refuses."""

import json
from pathlib import Path

import pytest

from conkd_jax import latency
from conkd_jax.eval.document import checked_document
from conkd_jax.eval.tables.build import build_table
from tests.fixtures.programs import refused

RATIOS = {"ms_per_token", "prefill_ms", "responses_per_second", "batched_responses_per_second"}


@pytest.fixture
def timed(call):
    """Times runs; returns what is printed."""

    def program(*runs, responses=1, repeats=1) -> str:
        options = [f"--responses={responses}", f"--repeats={repeats}"]
        code, output, errors = call(latency, *runs, *options)
        assert code == 0, errors
        return output

    return program


@pytest.fixture
def record(small_world) -> dict:
    return json.loads((small_world.folder / "config.json").read_text())


def write(folder: Path, record: dict, name: str | None = None, **settings) -> Path:
    """A run's folder with the record of a run that shares its artifacts."""
    folder.mkdir()
    record = {**record, "settings": {**record["settings"], **settings}}
    record["name"] = name or record["name"]
    (folder / "config.json").write_text(json.dumps(record))
    return folder


def test_a_student_is_timed_against_its_teacher(tmp_path, record, timed):
    teacher = write(
        tmp_path / "a", record, "dialogpt", system="dialogue_teacher", paper_row="DialoGPT"
    )
    student = write(tmp_path / "b", record, "dialogpt_hard")
    output = timed(teacher, student, responses=3, repeats=2)
    documents = [
        json.loads((folder / "latency" / "metrics.json").read_text())
        for folder in (teacher, student)
    ]
    for document in documents:
        assert checked_document(document, "latency") is document
        assert document["n_responses"] == 3 and document["counts"]["repeats"] == 2
        assert document["counts"]["tokens_per_response"] == 8
        assert document["split"] == "valid" and document["decoding"] == ""
        for name, value in document["metrics"].items():
            low, high = document["spread"][name]
            assert 0 < low <= value <= high
        assert document["ratios"]["to"] == "dialogpt seed 0"
        assert set(document["ratios"]) == {"to", *RATIOS}
    of_teacher, of_student = documents
    assert of_teacher["ratios"]["ms_per_token"] == [1, 1, 1]
    assert set(of_student["metrics"]) == {*RATIOS, "classifier_ms"}
    assert set(of_teacher["metrics"]) == RATIOS
    for words in ("ms per turn prefix", "dialogpt_hard seed 0", "0.971", "5.464", "6.100"):
        assert words in output, output
    rows = build_table("latency", documents).groups
    assert sorted(row.label for group in rows for row in group) == ["dialogpt", "dialogpt_hard"]


def test_one_run_has_no_ratios_to_print(tmp_path, record, timed):
    settings = record["settings"]
    decode = {**settings["decode"], "item_rule": "mass", "allow_repeated_items": False}
    run = write(tmp_path / "run", record, decode=decode)
    output = timed(run, run)
    assert "small_world-dialogpt+mass" in output and "Ratio" not in output
    assert "once" not in json.loads((run / "latency" / "metrics.json").read_text())["decoding"]


def test_what_can_t_be_timed_gets_one_message(tmp_path, record, call):
    run = write(tmp_path / "run", record)
    refused(call(latency), "expected one or more runs")
    refused(call(latency, tmp_path / "nowhere"), "found none")
    copy = write(tmp_path / "copy", record)
    refused(call(latency, run, copy), "expected every config, backbone and seed once")
    mini = write(tmp_path / "mini", record, preset="mini", seed=1)
    refused(call(latency, run, mini), "preset: expected the same for every run, got demo, mini")
    decode = {**record["settings"]["decode"], "max_tokens": 1}
    short = write(tmp_path / "1", record, decode=decode)
    refused(call(latency, short), "config.decode.max_tokens: expected 2 or more")
    elsewhere = write(tmp_path / "gone", record, artifacts_dir=str(tmp_path / "elsewhere"))
    words = ["can't be found in", "elsewhere", "corpus", "student", "turn_classifier"]
    refused(call(latency, elsewhere), *words)
    refused(call(latency, run, "--repeats=0"), "--repeats", "expected", "got '0'")
    assert not (run / "latency").exists()
