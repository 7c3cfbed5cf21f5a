"""What hashing costs: measured at a tiny size, and told on the page of the decision."""

import json
from pathlib import Path

from benchmarks import integrity

ROOT = Path(__file__).parents[2]


def test_everything_is_measured(tmp_path, capsys):
    assert integrity.main(["--size=tiny", "--rounds=1", f"--json={tmp_path / 'x.json'}"]) == 0
    found = json.loads((tmp_path / "x.json").read_text())
    assert integrity.table(found) in capsys.readouterr().out
    for part in ("weights", "small_files"):
        assert 0 < found[part]["check_again"] < found[part]["check"]
        assert found[part]["list"] > 0
    assert found["weights"]["save"] > 0 and found["weights"]["load"] > 0
    assert found["small_files"]["disk_bytes"] == 80 * 14_000


def test_the_page_has_the_committed_numbers():
    document = json.loads((ROOT / "docs/results/integrity.json").read_text())
    assert document["command"] == (
        "python -m benchmarks.integrity --json=docs/results/integrity.json"
    )
    page = (ROOT / "docs/design/0012-integrity.md").read_text()
    assert integrity.table(document) in page
