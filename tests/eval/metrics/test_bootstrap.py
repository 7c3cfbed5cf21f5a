"""Bootstrap intervals and the paired test: what they must find, and what they must not."""

import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from conkd_jax.eval.metrics.bootstrap import bootstrap_intervals, compare_runs
from conkd_jax.eval.metrics.statistics import RunStatistics
from tests.eval.predicted import A, prediction, random_run, statistics_of

ROOT = Path(__file__).resolve().parents[3]


def test_intervals_hold_the_metric_and_are_deterministic():
    statistics = statistics_of(random_run(60))
    values, intervals = (
        statistics.metrics(),
        bootstrap_intervals(statistics, num_resamples=300, seed=4),
    )
    assert intervals == bootstrap_intervals(statistics, num_resamples=300, seed=4)
    assert intervals != bootstrap_intervals(statistics, num_resamples=300, seed=5)
    for name in ("rer@50", "prr@50", "f1@50", "rec_ratio", "ppl", "recall@50"):
        low, high = intervals[name]
        assert low <= values[name] <= high
        assert low < high
    assert "dist-2" not in intervals


def test_intervals_do_not_depend_on_the_order_of_responses():
    run = list(random_run(20))
    forward = bootstrap_intervals(statistics_of(run), num_resamples=50)
    backward = bootstrap_intervals(statistics_of(run[::-1]), num_resamples=50)
    for name in ("f1@50", "ppl"):
        assert forward[name] == pytest.approx(backward[name])


def test_the_bootstrap_has_the_spread_of_a_binomial():
    # One response a dialogue: the standard error of a share is sqrt(p (1 - p) / n).
    run = [prediction(1, (), [(A,)] if i < 120 else [], dialogue=str(i)) for i in range(400)]
    low, high = bootstrap_intervals(statistics_of(run), num_resamples=2000)["rec_ratio"]
    error = math.sqrt(0.3 * 0.7 / 400)
    assert (high - low) / (2 * 1.96) == pytest.approx(error, rel=0.08)


def test_responses_of_one_dialogue_are_resampled_together():
    # Ten equal responses in each dialogue tell no more than one does.
    once = [prediction(1, (), [(A,)] if i % 2 else [], dialogue=str(i)) for i in range(50)]
    tenfold = [
        prediction(turn, (), [(A,)] if i % 2 else [], dialogue=str(i))
        for i in range(50)
        for turn in range(1, 11)
    ]
    one, ten = (
        bootstrap_intervals(statistics_of(run), num_resamples=400) for run in (once, tenfold)
    )
    assert one["rec_ratio"] == pytest.approx(ten["rec_ratio"])


def test_a_run_compared_with_itself_differs_in_nothing():
    run = statistics_of(random_run(20))
    comparison = compare_runs(run, run, num_resamples=100)["f1@50"]
    assert comparison.difference == comparison.low == comparison.high == 0
    assert comparison.p_value == 1


def test_the_paired_test_finds_a_real_difference_and_its_sign():
    # Both runs on the same 200 dialogues; the second recommends in 30 of them more.
    def run(count):
        return statistics_of(
            [prediction(1, (), [(A,)] if i < count else [], dialogue=str(i)) for i in range(200)],
            ks=(1,),
        )

    comparison = compare_runs(run(80), run(110), num_resamples=500)["rec_ratio"]
    assert (comparison.first, comparison.second) == (0.4, 0.55)
    assert comparison.difference == pytest.approx(0.15)
    assert 0 < comparison.low < 0.15 < comparison.high
    assert comparison.p_value < 0.01
    reverse = compare_runs(run(110), run(80), num_resamples=500)["rec_ratio"]
    assert reverse.difference == pytest.approx(-0.15)
    small = compare_runs(run(80), run(81), num_resamples=500)["rec_ratio"]
    assert small.p_value > 0.05


def test_runs_on_other_responses_are_not_compared():
    first, second = statistics_of(random_run(3)), statistics_of(random_run(4))
    with pytest.raises(ValueError, match="5 that only one of them holds"):
        compare_runs(first, second)


def test_the_p_value_is_the_permutation_tests():
    # Ten dialogues of one response; the second run recommends in the first three more. An exchange
    # keeps |difference| at 3 only if all three coins fall alike: 2 of 8 ways.
    def run(answers):
        return statistics_of(
            [prediction(1, (), [(A,)] if i in answers else [], dialogue=str(i)) for i in range(10)],
            ks=(1,),
        )

    found = compare_runs(run({8}), run({0, 1, 2, 8}), num_resamples=4000)["rec_ratio"]
    assert found.difference == pytest.approx(0.3)
    assert found.p_value == pytest.approx(1 / 4, abs=0.02)


def run_of(values) -> RunStatistics:
    """A dialogue of one response for each value, whose mean is the metric `x`."""
    keys = [(str(i), 1) for i in range(len(values))]
    sums = np.array(values, dtype=float)[:, None]
    return RunStatistics.of_responses(keys, ("x",), sums, np.ones_like(sums), totals={})


def test_p_values_of_like_systems_are_spread_evenly():
    # Two runs that differ by chance alone: p < .1 for about a tenth of the pairs.
    rng = np.random.default_rng(0)
    values = np.array(
        [
            compare_runs(*(run_of(rng.normal(size=40)) for _ in range(2)), num_resamples=100)[
                "x"
            ].p_value
            for _ in range(150)
        ]
    )
    assert 0.05 <= np.mean(values < 0.1) <= 0.16
    assert 0.4 <= np.mean(values) <= 0.6


def test_statistics_of_responses_are_those_of_their_dialogues():
    keys = [("b", 1), ("a", 1), ("b", 3)]
    sums, counts = np.array([[1.0], [2.0], [4.0]]), np.ones((3, 1))
    run = RunStatistics.of_responses(keys, ("x",), sums, counts, totals={"responses": 3})
    assert run.turns == {"a": {1}, "b": {1, 3}}
    assert run.sums.tolist() == [[2.0], [5.0]]
    assert run.counts.tolist() == [[1.0], [2.0]]
    assert run.metrics() == {"x": pytest.approx(7 / 3)}


MEASURES_MEMORY = """
import tracemalloc

from tests.eval.predicted import random_run, statistics_of

statistics_of(random_run(2))  # caches
for per_dialogue in (10, 40):
    tries = []
    for _ in range(3):  # the least of them: other threads of the process allocate as well
        tracemalloc.start()
        statistics_of(random_run(5, per_dialogue=per_dialogue), num_items=6000)
        tries.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    print(min(tries))
"""


def test_memory_does_not_grow_with_the_responses_of_a_dialogue():
    """In a process of its own: what checks annotations in this one keeps memory for every call."""
    # A response is read, added up and forgotten: what stays is its turn's number, the words and
    # items that were never seen before, and sums by dialogue.
    done = subprocess.run(
        [sys.executable, "-c", MEASURES_MEMORY], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    few, many = map(int, done.stdout.split())
    # Bytes a response more, most of them for items that no other names; its pairs take 10,000.
    assert (many - few) / 150 < 2000


@pytest.mark.slow
def test_a_split_of_seven_thousand_responses_takes_seconds():
    run = list(random_run(1400))
    assert len(run) == 7000
    neighbours = {item: frozenset(range(item, item + 200)) for item in range(1000, 7000)}
    start = time.process_time()
    statistics = statistics_of(iter(run), num_items=6924, neighbours=neighbours)
    statistics.metrics()
    bootstrap_intervals(statistics, num_resamples=1000)
    compare_runs(statistics, statistics, num_resamples=1000)
    # About 6 s, several times as long with every annotation checked, far longer if quadratic.
    assert time.process_time() - start < 600
