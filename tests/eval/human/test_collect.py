"""Collect: sheets and the key become scores, or nothing is written."""

import pytest

from conkd_jax.eval.human import export
from conkd_jax.eval.human.collect import collect_scores
from conkd_jax.eval.human.study import StudyError
from conkd_jax.human import export_runs
from tests.eval.exported import fill


def test_an_export_that_was_cut_short_is_no_study(tmp_path, runs, monkeypatch):
    def full(path, document):
        raise OSError("No space left on device")

    monkeypatch.setattr(export, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        export_runs(runs, tmp_path / "out", num_contexts=4)
    with pytest.raises(StudyError, match="expected the key of a study, found none"):
        collect_scores(tmp_path / "out", ["sheet.csv"])
    monkeypatch.undo()
    export_runs(runs, tmp_path / "out", num_contexts=4)
    collect_scores(tmp_path / "out", fill(tmp_path / "out"))


def test_a_damaged_key_scores_nothing(tmp_path, runs):
    export_runs(runs, tmp_path / "out", num_contexts=4)
    files = fill(tmp_path / "out")
    path = tmp_path / "out" / "key.json"
    for content, message in (
        (b"{", "it is not JSON"),
        (b"\xff", "not JSON"),
        (b"{}", "is damaged"),
    ):
        path.write_bytes(content)
        with pytest.raises(StudyError, match=f"key.json: expected the key .*{message}"):
            collect_scores(tmp_path / "out", files)
    assert not (tmp_path / "out" / "scores.json").exists()
