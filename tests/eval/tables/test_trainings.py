"""Two rows over several trainings: the t-test against scipy's, and what is refused."""

import json

import numpy as np
import pytest
import scipy.stats

from conkd_jax import tables
from conkd_jax.eval.tables.table import TableError
from conkd_jax.eval.tables.trainings import compare_pairs, compare_trainings, t_quantile, t_tails
from tests.eval.scored import document


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 10, 31])
def test_tails_and_quantiles_are_student_s(freedom):
    for t in (0.0, 0.3, -1.7, 4.0, 20.0):
        assert t_tails(t, freedom) == pytest.approx(
            2 * scipy.stats.t.sf(abs(t), freedom), abs=1e-12
        )
    for level in (0.5, 0.95, 0.999):
        expected = scipy.stats.t.ppf((1 + level) / 2, freedom)
        assert t_quantile(freedom, level) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("number", [2, 3, 5, 8])
def test_the_test_is_scipy_s(number):
    rng = np.random.default_rng(number)
    first, second = rng.normal(size=(2, number))
    second += 0.8
    expected = scipy.stats.ttest_rel(second, first)
    found = compare_pairs(list(zip(first.tolist(), second.tolist(), strict=True)))
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    interval = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert found.difference == pytest.approx((second - first).mean())
    assert (found.first, found.second) == pytest.approx((first.mean(), second.mean()))


def test_equal_differences_have_no_spread():
    assert compare_pairs([(1.0, 1.0), (2.0, 2.0)]).p_value == 1.0
    assert compare_pairs([(1.0, 2.0), (2.0, 3.0)]).p_value == 0.0


def runs(config, values, **fields):
    return [
        document(config, seed=seed, teacher_seed=seed, metrics={"f1@10": value}, **fields)
        for seed, value in enumerate(values)
    ]


def test_runs_are_paired_by_seed_in_whatever_order_they_come():
    first, second = runs("dialogpt", [0.1, 0.2, 0.4]), runs("dialogpt_hard", [0.2, 0.25, 0.6])
    test = compare_trainings([*first, *reversed(second)])
    assert test.names == ("dialogpt", "dialogpt_hard")
    assert test.differences["f1@10"] == pytest.approx([0.1, 0.05, 0.2])
    expected = scipy.stats.ttest_rel([0.2, 0.25, 0.6], [0.1, 0.2, 0.4]).pvalue
    assert test.comparisons["f1@10"].p_value == pytest.approx(expected)
    assert "dist-2" in test.comparisons  # no mean over dialogues, but over trainings
    assert test.paired_over.startswith(
        "3 whole trainings (seed0, seed1-teachers1, seed2-teachers2): "
    )
    value = json.loads(json.dumps(test.document(command="by hand")))
    assert value["metrics"]["f1@10"]["p"] == test.comparisons["f1@10"].p_value
    assert value["seeds"][2] == {"seed": 2, "teacher_seed": 2}
    assert len(value["second"]["config_sha256"]) == 3


def test_students_that_share_teachers_are_no_whole_trainings():
    both = [document(name, seed=k) for name in ("dialogpt", "dialogpt_hard") for k in (0, 1)]
    assert "2 trainings of students that share teachers" in compare_trainings(both).paired_over


@pytest.mark.parametrize(
    "documents, message",
    [
        (runs("dialogpt", [0.1, 0.2]), "expected runs of two rows, got 1: dialogpt"),
        (runs("kgsf", [0.1]) + runs("dialogpt", [0.1]), "expected two trainings or more"),
        (runs("kgsf", [0.1, 0.2]) + runs("dialogpt", [0.1]), "unpaired: seed1-teachers1"),
        (runs("kgsf", [0.1]) * 2, "expected seed0 once"),
        (
            runs("kgsf", [0.1, 0.2]) + runs("dialogpt", [0.1, 0.2], split="test"),
            "split: expected the same",
        ),
    ],
)
def test_what_can_t_be_paired_is_refused(documents, message):
    with pytest.raises(TableError, match=message):
        compare_trainings(documents)


def test_the_program_prints_and_keeps_it(call, tmp_path):
    made = [*runs("dialogpt", [0.1, 0.2, 0.4]), *runs("dialogpt_hard", [0.2, 0.25, 0.6])]
    for number, each in enumerate(made):
        folder = tmp_path / each["config"] / str(number)
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(each))
    folders = [tmp_path / "dialogpt", tmp_path / "dialogpt_hard"]
    arguments = ["--compare", "--over=trainings", *folders, f"--json={tmp_path}/new/t.json"]
    code, output, errors = call(tables, *arguments)
    assert code == 0, errors
    assert "Paired over 3 whole trainings" in " ".join(output.split())
    assert "dialogues" not in output
    kept = json.loads((tmp_path / "new" / "t.json").read_text())
    assert kept["first"]["label"] == "dialogpt" and kept["split"] == "valid"
