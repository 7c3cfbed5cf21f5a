"""Bootstrap intervals and the paired test: what they must find, and what they must not."""

import math
import time

import numpy as np
import pytest

from conkd_jax.eval import metrics, resampling
from tests.eval.predicted import A, prediction


def random_run(num_dialogues, seed=0, hit_rate=0.3, per_dialogue=5):
    rng = np.random.default_rng(seed)
    catalogue_ids = np.arange(1000, 7000)
    run = []
    for dialogue in range(num_dialogues):
        for turn in range(1, 2 * per_dialogue, 2):
            top = rng.choice(catalogue_ids, 50, replace=False).tolist()
            is_rec = rng.random() < 0.5
            gold = (top[int(rng.integers(50))],) if rng.random() < hit_rate else (1,)
            tokens = rng.choice(["you", "see", "a", "movie", "I", "like"], 8).tolist()
            run.append(
                prediction(
                    turn,
                    gold if is_rec else (),
                    [top] if rng.random() < 0.5 else [],
                    dialogue=str(dialogue),
                    generated_tokens=tuple(tokens),
                    recommender_top=tuple(top),
                    token_nll=tuple(rng.exponential(3, 9).tolist()),
                    token_is_item=(False,) * 8 + (is_rec,),
                )
            )
    return run


def test_intervals_hold_the_metric_and_are_deterministic():
    statistics = metrics.gather(random_run(60))
    values, intervals = statistics.metrics(), statistics.intervals(num_resamples=300, seed=4)
    assert intervals == statistics.intervals(num_resamples=300, seed=4)
    assert intervals != statistics.intervals(num_resamples=300, seed=5)
    for name in ("rer@50", "prr@50", "f1@50", "rec_ratio", "ppl", "recall@50"):
        low, high = intervals[name]
        assert low <= values[name] <= high
        assert low < high
    assert "dist-2" not in intervals


def test_intervals_do_not_depend_on_the_order_of_responses():
    run = random_run(20)
    forward = metrics.gather(run).intervals(num_resamples=50)
    backward = metrics.gather(run[::-1]).intervals(num_resamples=50)
    for name in ("f1@50", "ppl"):
        assert forward[name] == pytest.approx(backward[name])


def test_the_bootstrap_has_the_spread_of_a_binomial():
    # One response a dialogue: the standard error of a share is sqrt(p (1 - p) / n).
    run = [prediction(1, (), [(A,)] if i < 120 else [], dialogue=str(i)) for i in range(400)]
    low, high = metrics.gather(run).intervals(num_resamples=2000)["rec_ratio"]
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
    one, ten = (metrics.gather(run).intervals(num_resamples=400) for run in (once, tenfold))
    assert one["rec_ratio"] == pytest.approx(ten["rec_ratio"])


def test_a_run_compared_with_itself_differs_in_nothing():
    run = metrics.gather(random_run(20))
    comparison = resampling.compare(run, run, num_resamples=100)["f1@50"]
    assert comparison.difference == comparison.low == comparison.high == 0
    assert comparison.p_value == 1


def test_the_paired_test_finds_a_real_difference_and_its_sign():
    # Both runs on the same 200 dialogues; the second recommends in 30 of them more.
    def run(count):
        return metrics.gather(
            [prediction(1, (), [(A,)] if i < count else [], dialogue=str(i)) for i in range(200)],
            ks=(1,),
        )

    comparison = resampling.compare(run(80), run(110), num_resamples=500)["rec_ratio"]
    assert (comparison.first, comparison.second) == (0.4, 0.55)
    assert comparison.difference == pytest.approx(0.15)
    assert 0 < comparison.low < 0.15 < comparison.high
    assert comparison.p_value < 0.01
    reverse = resampling.compare(run(110), run(80), num_resamples=500)["rec_ratio"]
    assert reverse.difference == pytest.approx(-0.15)
    small = resampling.compare(run(80), run(81), num_resamples=500)["rec_ratio"]
    assert small.p_value > 0.05


def test_runs_on_other_responses_are_not_compared():
    first, second = metrics.gather(random_run(3)), metrics.gather(random_run(4))
    with pytest.raises(ValueError, match="5 that only one of them holds"):
        resampling.compare(first, second)


@pytest.mark.slow
def test_a_split_of_seven_thousand_responses_takes_seconds():
    run = random_run(1400)
    assert len(run) == 7000
    start = time.process_time()
    statistics = metrics.gather(run, num_items=6924)
    statistics.metrics()
    statistics.intervals(num_resamples=1000)
    # About 5 s; checking every annotation, as tests do, makes it four times as long.
    assert time.process_time() - start < 60
