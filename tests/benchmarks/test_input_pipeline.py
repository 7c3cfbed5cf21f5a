"""The benchmark of the input pipeline."""

import pytest

from benchmarks import input_pipeline
from benchmarks.report import Case


def test_hosts_agree_and_no_shape_is_new(run_tiny):
    status, document, _ = run_tiny(input_pipeline)
    assert status == 0
    (case,) = document["cases"]
    numbers = {each["name"]: each for each in case["numbers"]}
    assert numbers["arrays that differ between one, two and four hosts"]["value"] == 0
    assert numbers["shapes that are new after the first epoch"]["value"] == 0
    shares = [each["value"] for name, each in numbers.items() if name.startswith("real / padded")]
    assert len(shares) == 3 and all(0.5 < share <= 1 for share in shares)


def test_hosts_that_disagree_miss_a_target(run_tiny, monkeypatch):
    batch = input_pipeline.BatchLoader.batch

    def wrong(self, step):
        found = batch(self, step)
        if self._local.start:  # of another host than the first
            found["labels"] = found["labels"] + 1
        return found

    monkeypatch.setattr(input_pipeline.BatchLoader, "batch", wrong)
    monkeypatch.setattr(input_pipeline.side_by_side, "measure_time", measured)
    status, _, printed = run_tiny(input_pipeline)
    assert status == 1
    assert "arrays that differ between one, two and four hosts: 6; target at most 0" in printed


def measured(contenders, rounds, pause):
    seconds = {"median": 1.0, "min": 1.0, "rounds": [1.0]}
    found = {"difference": None, "first_seconds": 2.0, "seconds": seconds}
    return {each.name: found for each in contenders}


def test_more_lengths_pay_for_compiling_after_some_steps():
    case = Case("", {}, {})
    input_pipeline.add_break_even(case, {6: 0.8, 12: 1.0}, 2.0, 10.0)
    *_, entry = case.document["numbers"]
    assert entry["value"] == pytest.approx(6 * 10 / (2 * 0.2))  # a fifth of each step is saved
