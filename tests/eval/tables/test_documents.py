"""Which files are read as runs, and where those that docs quote are kept."""

import json
from pathlib import Path

import pytest

from conkd_jax.eval.document import DocumentError
from conkd_jax.eval.tables.documents import (
    commit_path,
    keep_documents,
    portable_command,
    read_documents,
)
from conkd_jax.io.files import write_json
from tests.eval.scored import document

ROOT = Path(__file__).resolve().parents[3]


def write(path: Path, content: dict | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, document() if content is None else content)
    return path


def test_what_is_committed_lies_where_it_says():
    for path in (ROOT / "docs" / "results").rglob("seed*.json"):
        kept = json.loads(path.read_text(encoding="utf-8"))
        if "earlier" not in path.parts:  # of an earlier version, beside which newer ones lie there
            assert commit_path(kept) == path.relative_to(ROOT).as_posix()


def test_a_run_is_a_file_a_folder_or_a_folder_of_them(tmp_path):
    hard = write(tmp_path / "runs" / "hard" / "metrics.json")
    write(tmp_path / "runs" / "hard" / "test" / "metrics.json", document(split="test"))
    soft = write(
        tmp_path / "runs" / "deep" / "soft" / "seed1.json", document("dialogpt_soft", seed=1)
    )
    write(tmp_path / "runs" / ".hidden" / "metrics.json")
    write(tmp_path / "runs" / "earlier" / "eeee" / "metrics.json")  # moved aside
    write(tmp_path / "runs" / "deep" / "config.json", {})
    assert read_documents([hard]) == read_documents([hard.parent]) == [document()]
    both = read_documents([tmp_path / "runs"])
    assert [d["config"] for d in both] == ["dialogpt_soft", "dialogpt_hard"]
    assert read_documents([soft, tmp_path / "runs", soft]) == both  # each file once
    assert read_documents([hard.parent / "test"])[0]["split"] == "test"


def test_what_is_no_run_gets_one_message(tmp_path):
    for missing in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(DocumentError, match="expected a metrics.json, the folder of a run"):
            read_documents([missing])
    broken = tmp_path / "metrics.json"
    for content in (b"{", b"\xff\xfe"):
        broken.write_bytes(content)
        with pytest.raises(DocumentError, match="it is not JSON"):
            read_documents([broken])


def test_kept_runs_name_no_folder_and_hold_their_place(tmp_path):
    run = document(command="/opt/x/conkd_jax/train.py --workdir=/disk/1")
    assert keep_documents([run], tmp_path) == ["docs/results/mini/dialogpt_hard/seed0.json"]
    kept = json.loads((tmp_path / commit_path(run)).read_text())
    assert kept == run | {"command": "python -m conkd_jax.train --workdir=DIR"}
    keep_documents([document(metrics={"ppl": 9.0})], tmp_path)  # the same split: a newer run
    with pytest.raises(DocumentError, match=r"seed0.json has split valid, the run has test"):
        keep_documents([document(split="test")], tmp_path)
    with pytest.raises(DocumentError, match="one run for each file, got two"):
        keep_documents([document(seed=5), document(seed=5)], tmp_path)
    assert not (tmp_path / "docs/results/mini/dialogpt_hard/seed5.json").exists()


@pytest.mark.parametrize("config", ["", "../up", "a//b", "/abs"])
def test_only_configs_of_configs_have_a_place(config):
    with pytest.raises(DocumentError, match="expected a config by its path"):
        commit_path(document(config))


def test_commands_keep_no_folder_of_a_machine():
    command = (
        "/opt/me/conkd_jax/evaluate.py --config=/opt/me/configs/dialogpt.py:mini,backbone=dialogpt "
        "--config.artifacts_dir=/disk --workdir /disk/runs/a --config.corpus.raw_dir=gs://bucket/a "
        "--config.distill.eta=.3 --config.runs_dir=../runs"
    )
    assert portable_command(command) == (
        "python -m conkd_jax.evaluate --config=configs/dialogpt.py:mini,backbone=dialogpt "
        "--config.artifacts_dir=DIR --workdir DIR --config.corpus.raw_dir=gs://bucket/a "
        "--config.distill.eta=.3 --config.runs_dir=../runs"
    )
    plain = "python -m conkd_jax.train --config=configs/dialogpt.py:mini"
    assert portable_command(plain) == plain
