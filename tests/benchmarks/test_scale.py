"""The benchmark of growth, at a tiny size: it measures every part, and reports what it measured."""

import argparse
import json
from pathlib import Path

import pytest

from benchmarks import scale

ROOT = Path(__file__).parents[2]
OPTIONS = argparse.Namespace(tokens=8, width=8, node_width=4, sizes=[60, 120], dialogues=[2, 5])


def measured(*peaks):
    return [
        {"size": 10 * 10**place, "seconds": 2.0 * 100**place, "peak_bytes": peak}
        for place, peak in enumerate(peaks)
    ]


@pytest.mark.parametrize("part", scale.PARTS)
def test_every_part_does_its_work(part):
    found = scale.measure(part, scale.sizes_of(part, OPTIONS)[-1], OPTIONS)
    assert found["size"] == (5 if part in ("rows", "batches") else 120)
    assert found["seconds"] > 0 and found["peak_bytes"] > 0


def test_ranking_and_sorting_do_the_same_work():
    ranked, ordered = (part(1_000, OPTIONS)() for part in (scale.ranking, scale.sorting))
    assert ranked.shape == (scale.NUM_USERS, scale.TOP)
    assert (ranked == ordered).all()


def test_an_epoch_has_every_token():
    words = scale.TURNS // 2 * (scale.WORDS_PER_TURN + 1)  # of responses, each closed by END
    assert scale.batches(5, OPTIONS)() >= 5 * words


def test_growth_is_that_between_the_two_largest_sizes():
    found = measured(7.0, 50.0, 500.0)
    assert scale.exponent(found, "seconds") == pytest.approx(2)
    assert scale.exponent(found, "peak_bytes") == pytest.approx(1)
    assert scale.fitting_size(found, 5_000) == pytest.approx(10_000, rel=1e-6)
    # Memory that does not grow yet is taken to grow linearly.
    assert scale.fitting_size(measured(500.0, 500.0), 5_000) == 1_000


def test_the_program_writes_what_it_measured(tmp_path, capsys):
    path = tmp_path / "scale.json"
    assert scale.main(["--parts=sorting", "--sizes=1e2,300", f"--json={path}"]) == 0
    document = json.loads(path.read_text())
    part = document["parts"]["sorting"]
    assert [each["size"] for each in part["measured"]] == [100, 300]
    assert part["grows_with"] == "items" and {*part["fits"]} == {*scale.MEMORIES}
    assert document["command"].startswith("python -m benchmarks.scale --parts=sorting")
    assert "items in 24 GiB" in capsys.readouterr().out


def test_the_committed_file_has_every_part():
    path = ROOT / "docs/results/benchmarks/scale.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    assert {*document["parts"]} == {*scale.PARTS}
    assert document["parts"]["head"]["measured"][-1]["size"] == 1_000_000


@pytest.mark.parametrize("argument", ["--sizes=10", "--sizes=0,5", "--parts=ranking,heads"])
def test_other_arguments_are_refused(argument, capsys):
    with pytest.raises(SystemExit) as ended:
        scale.main([argument])
    assert ended.value.code == 2
    assert "expected" in capsys.readouterr().err
