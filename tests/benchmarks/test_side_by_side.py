"""Turns, checks and memory of contenders."""

import numpy as np
import pytest

from benchmarks import side_by_side
from benchmarks.side_by_side import Contender, checked_difference, measure_time


def counting(calls, name, outputs=()):
    def run():
        calls.append(name)
        return outputs

    return run


def test_contenders_take_turns_after_a_first_call():
    calls = []
    contenders = [
        Contender("a", lambda: counting(calls, "a")),
        Contender("b", lambda: counting(calls, "b")),
        Contender("slow", lambda: counting(calls, "slow"), rounds=1),
    ]
    found = measure_time(contenders, rounds=3, pause=0)
    assert calls == ["a", "b", "slow", "a", "b", "slow", "a", "b", "a", "b"]
    assert [len(each["seconds"]["rounds"]) for each in found.values()] == [3, 3, 1]
    for each in found.values():
        assert each["seconds"]["min"] <= each["seconds"]["median"]


def test_outputs_are_compared_with_the_first_contender_for_the_same_work():
    ones, twos = (np.ones(3), {"b": np.ones(2)}), (np.full(3, 2.0), {"b": np.full(2, 2.0)})
    contenders = [
        Contender("a", lambda: lambda: ones),
        Contender("other work", lambda: lambda: twos, work="other"),
        Contender("near", lambda: lambda: (ones[0] + 5e-5, ones[1])),
        Contender("rounded", lambda: lambda: twos, is_compared=False),
    ]
    found = measure_time(contenders, rounds=1, pause=0)
    assert [each["difference"] for each in found.values()] == [
        None,
        None,
        pytest.approx(5e-5),
        None,
    ]
    wrong = Contender("wrong", lambda: lambda: (ones[0], {"b": np.full(2, 1.0002)}))
    with pytest.raises(SystemExit, match="wrong: expected output 1 within 1e-04"):
        measure_time([*contenders, wrong], rounds=1, pause=0)


def test_what_is_compared_can_differ_from_what_is_timed():
    calls = []
    contender = Contender(
        "a", lambda: counting(calls, "step"), outputs=lambda: calls.append("gradients") or (1.0,)
    )
    wrong = Contender("b", lambda: lambda: None, outputs=lambda: (2.0,))
    with pytest.raises(SystemExit, match="b: expected output 0"):
        measure_time([contender, wrong], rounds=1, pause=0)
    assert calls == ["gradients", "step"]
    calls.clear()
    measure_time([contender], rounds=2, pause=0)
    assert calls == ["gradients", "step", "step", "step"]  # the first call is not timed


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_no_number_equals_nothing(wrong):
    with pytest.raises(SystemExit, match="expected output 0"):
        checked_difference("a", [np.array([1.0, wrong])], [np.array([1.0, 1.0])])


def test_outputs_of_another_shape_or_number_differ():
    for outputs in ([np.ones(3)], [np.ones(2), np.ones(2)]):
        with pytest.raises(SystemExit, match="expected outputs of shapes"):
            checked_difference("a", outputs, [np.ones(2)])


def test_a_contender_that_is_not_installed_is_named_and_never_prepared():
    def fail():
        raise AssertionError

    absent = Contender("peer", fail, "no-such-package", "no_such_package")
    found = measure_time([Contender("a", lambda: lambda: ()), absent], rounds=1, pause=0)
    assert found["peer"] == {"absent": "not installed: pip install no-such-package"}
    memory = side_by_side.measure_memory("benchmarks.kd_head", [], [absent])
    assert memory["peer"] == {"absent": "not installed: pip install no-such-package"}


def test_the_peak_is_that_of_one_call():
    size = 64 * 2**20
    kept = []

    def run():
        whole = np.ones(2 * size, np.uint8)
        kept.append(0)
        return whole[:1].copy()

    found = side_by_side.peak_alone(run)
    assert len(kept) == 2
    assert 1.9 * size < found["peak_bytes"] < 3 * size


def test_a_process_measures_the_contender_it_is_asked_for():
    """Whole: a new process, its command line and what it prints."""
    contenders = [Contender("PyG FastRGCNConv", lambda: lambda: ())]
    arguments = ["--size=tiny", "--case=0"]
    found = side_by_side.measure_memory("benchmarks.rgcn", arguments, contenders)
    assert found["PyG FastRGCNConv"]["peak_bytes"] < 64 * 2**20
    nobody = [Contender("nobody", lambda: lambda: ())]
    with pytest.raises(SystemExit, match="nobody, alone in a process, ended with 1"):
        side_by_side.measure_memory("benchmarks.no_such_program", [], nobody)
