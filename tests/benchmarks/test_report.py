"""Ratios, targets and the exit status of a benchmark."""

import json

import pytest

from benchmarks.report import Bound, Report, missed_targets, read_options

FOUND = {
    "ours": {"difference": None, "seconds": {"median": 0.3, "min": 0.1, "rounds": [0.1, 0.3]}},
    "theirs": {"difference": 1e-6, "seconds": {"median": 0.4, "min": 0.2, "rounds": [0.2, 0.4]}},
    "missing": {"absent": "not installed: pip install missing"},
}


def report_to(*arguments):
    return Report("kd_head", read_options("", ("full", "tiny"), list(arguments)))


def test_a_ratio_is_that_of_the_smallest_times():
    case = report_to().case("a case", {"N": 3}, FOUND)
    assert case.ratio("seconds", "ours", "theirs", Bound(0.5)) == pytest.approx(0.5)
    (entry,) = case.document["ratios"]
    assert entry["of_medians"] == pytest.approx(0.75)
    assert entry["is_met"] is True


@pytest.mark.parametrize(
    ("bound", "value", "is_met"),
    [
        (Bound(0.5), 0.5, True),
        (Bound(0.5), 0.51, False),
        (Bound(2, is_least=True), 2, True),
        (Bound(2, is_least=True), 1.9, False),
    ],
)
def test_a_missed_target_makes_the_exit_status_1(tmp_path, capsys, bound, value, is_met):
    file = tmp_path / "folder" / "found.json"
    report = report_to(f"--json={file}")
    report.case("a case", {}, {}).number("a number", value, bound)
    assert report.finish() == (0 if is_met else 1)
    printed = capsys.readouterr()
    missed = f"MISSED  kd_head: a case: a number: {value:.4g}; target {bound}, MISSED"
    assert (missed in printed.err) is not is_met
    (entry,) = json.loads(file.read_text())["cases"][0]["numbers"]
    assert entry["is_met"] is is_met


def test_what_was_not_measured_misses_no_target_and_is_named(capsys):
    report = report_to()
    case = report.case("a case", {}, FOUND)
    assert case.ratio("seconds", "ours", "missing", Bound(0.5)) is None
    case.number("a number", None, Bound(1), "missing is not installed: pip install missing")
    assert missed_targets(report.document()) == []
    assert report.finish() == 0
    assert capsys.readouterr().out.count("pip install missing") == 3


def test_the_command_is_one_that_can_be_run_again(tmp_path):
    document = report_to("--size=tiny", f"--json={tmp_path}/found.json").document()
    assert document["command"] == (
        "python -m benchmarks.kd_head --size=tiny --json=docs/results/benchmarks/kd_head.json"
    )
    assert document["machine"]["processors_used"] == 1  # as the fixture says
    assert {"jax", "torch", "numpy"} <= set(document["versions"])
