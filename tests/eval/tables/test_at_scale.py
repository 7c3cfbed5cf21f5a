"""The plan for larger machines: quotients of counted work and published speeds."""

import pytest

from conkd_jax.eval.tables.at_scale import (
    HEADER,
    Machine,
    at_scale_rows,
    planned_times,
)

MACHINE = Machine("two", 2, peak=1e12, memory=1e9, link=1e6, assumed=(0.25, 0.5))
STEP = {
    "config": "dialogpt_hard",
    "parameters": 2_000_000,
    "trained": 1_000_000,
    "devices": 1,
    "topology": "v5e:1x1x1",
    "accumulate_steps": 2,
    "micro_batch": {"rows": 8, "row_tokens": 512},
    "bytes_per_device": {"bfloat16": {"traffic": 3 * 10**9}},
    "flops_per_device": {"bfloat16": {"products": 2 * 10**12, "model": 10**12}},
}


def test_the_times_are_those_of_the_formulas():
    times = planned_times(STEP, MACHINE)
    assert (times.arithmetic, times.memory) == (2.0, 3.0)
    assert times.sum == pytest.approx(2 * 0.5 * 4 * 1e6 / 1e6)  # a device sends half, twice
    assert times.total == pytest.approx(3 + 4)
    alone = Machine("one", 1, 1e12, 1e9, 1e6, (0.25, 0.5))
    assert planned_times(STEP, alone).sum == 0


def test_each_step_of_one_tpu_has_a_row_for_each_machine():
    rows = list(at_scale_rows([STEP, {**STEP, "devices": 8}, {**STEP, "topology": ""}]))
    assert [len(row) for row in rows] == [len(HEADER)] * 3
    v5e = next(row for row in rows if "v5e" in row[1])
    assert v5e[0] == "`dialogpt_hard`, 2 M" and "16 rows each" in v5e[1]
    assert v5e[2:4] == ["1.00", "2.00"]
    sums = 2 * 15 / 16 * 4 * 1e6 / 200e9
    seconds = max(1e12 / 197e12 / 0.3, 3e9 / 0.82e12 + sums)  # at the largest MFU that is assumed
    assert v5e[-2].split(" to ")[0] == f"{1e3 * seconds:.0f}"
    assert v5e[-1].split(" to ")[1] == f"{16 * 2 * 8 * 512 / seconds / 1e3:,.0f} k"


def test_what_was_written_before_work_was_counted_is_left_out():
    old = {key: value for key, value in STEP.items() if key != "flops_per_device"}
    assert list(at_scale_rows([old])) == []


def test_a_step_that_is_bound_by_memory_has_one_time():
    slow = {**STEP, "bytes_per_device": {"bfloat16": {"traffic": 10**13}}}
    assert not [row for row in at_scale_rows([slow]) if "to" in row[-1] or "to" in row[-2]]
