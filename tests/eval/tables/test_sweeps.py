"""A sweep's table says what its runs' documents say."""

import json

import matplotlib.pyplot as plt
import pytest

from conkd_jax.eval.tables.sweeps import draw_sweep, whiskers, write_sweep


def document(f1, **metrics):
    found = {"f1@1": f1, "f1@10": 2 * f1, "f1@50": 3 * f1, "rec_ratio": 0.4, "ppl": 50.0, **metrics}
    interval = {name: (value - 0.01, value + 0.02) for name, value in found.items()}
    return {"split": "dev", "metrics": found, "intervals": interval}


DOCUMENTS = {"eta=0.1": document(0.0123), "eta=0.6": document(0.02, **{"dist-2": 0.1})}


def test_a_row_for_every_value(tmp_path):
    table = write_sweep(tmp_path / "new", "distill.eta", DOCUMENTS)
    assert [row.label for row in table.groups[0]] == ["0.1", "0.6"]
    lines = (tmp_path / "new" / "sweep.md").read_text().splitlines()
    assert lines[0] == "**distill.eta on dev.**"
    assert lines[2].startswith("| eta | f1@1 | f1@10 |")
    assert lines[4] == "| `0.1` | 0.012 | 0.025 | 0.037 | 0.400 | – | – | 50.00 | – |"
    assert lines[5].endswith("| 50.00 | 0.100 |")
    kept = json.loads((tmp_path / "new" / "sweep.json").read_text())
    assert kept["field"] == "distill.eta"
    assert kept["runs"]["eta=0.6"]["metrics"] == DOCUMENTS["eta=0.6"]["metrics"]


def test_the_figure_holds_every_value(tmp_path):
    bare = {label: {**found, "intervals": {}} for label, found in DOCUMENTS.items()}
    for number, found in enumerate((DOCUMENTS, bare)):
        path = tmp_path / f"{number}.png"
        draw_sweep("distill.eta", found, path)
        assert plt.imread(path).std() > 0
    assert not plt.get_fignums()


def test_whiskers_reach_from_the_value_to_both_ends_of_its_interval():
    runs = list(DOCUMENTS.values())
    low, high = whiskers("ppl", [50.0, 50.0], runs)
    assert low == [pytest.approx(0.01)] * 2 and high == [pytest.approx(0.02)] * 2
    assert whiskers("dist-2", [0.0, 0.1], runs) is None  # one of them has no interval
