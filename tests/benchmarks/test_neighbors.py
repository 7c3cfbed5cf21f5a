"""What a sample of the neighbours costs, on a trained recommender, and the page that says so."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import neighbors
from conkd_jax.runs.finished import Run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run(small_world):
    return Run.open(small_world.folder)


def test_smaller_samples_have_fewer_edges_and_larger_errors(run, tmp_path, capsys):
    path = tmp_path / "neighbors.json"
    folder = str(run.directory("rec_teacher"))
    sizes = ["--sizes", "0", "4", "1"]
    arguments = [str(run.home), *sizes, "--trained", folder, f"--json={path}"]
    assert neighbors.main(arguments) == 0
    document = json.loads(path.read_text())
    *sampled, trained = document["rows"]
    assert [row["max_neighbors"] for row in sampled] == [0, 4, 1]
    errors = [row["error"] for row in sampled]
    assert errors[0] == 0 and (np.diff(errors) >= 0).all() and errors[-1] > 0.01
    for name in ("edges", "basis_rows", "basis_bytes"):
        assert (np.diff([row[name] for row in sampled]) <= 0).all()
    # The whole graph, after sampling nothing, is the recommender itself.
    assert {**trained, "error": 0} == sampled[0]
    metrics = json.loads((run.directory("rec_teacher") / "rec_teacher.json").read_text())["metrics"]
    assert trained["recall@10"] == metrics["valid_recall@10"]
    assert neighbors.table(document) in capsys.readouterr().out
    assert "DIR" not in document["command"] and str(tmp_path) not in document["command"]


def test_the_page_has_what_was_measured():
    document = json.loads((ROOT / "docs/results/neighbors.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs/howto/large_catalogues.md").read_text(encoding="utf-8")
    assert neighbors.table(document).strip() in page
