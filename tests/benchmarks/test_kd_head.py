"""The benchmark of the head: its contenders agree, and it says when they don't."""

import functools

import pytest

from benchmarks import kd_head, side_by_side
from benchmarks.report import Bound
from tests.benchmarks.conftest import differences


def test_all_contenders_agree_and_a_missing_one_is_named(run_tiny):
    status, document, printed = run_tiny(kd_head)
    assert status == 0
    compared = differences(document)
    assert set(compared) == {
        kd_head.TORCH_FROM_LOGITS,
        kd_head.JAX_FROM_LOGITS,
        kd_head.FROM_FEATURES,
        kd_head.TORCH_FROM_FEATURES,
        kd_head.JAX_FROM_FEATURES,
        kd_head.CHUNKED,
        kd_head.TORCH_PRODUCTS,
    }
    assert max(compared.values()) < 1e-5
    (case,) = document["cases"]
    assert case["contenders"][kd_head.LIGER]["absent"] == "not installed: pip install liger-kernel"
    assert printed.count("pip install liger-kernel") == 2  # the contender, and its ratio
    assert document["command"].startswith("python -m benchmarks.kd_head --size=tiny")


@pytest.mark.parametrize("output", [0, 1, 2])
def test_a_peer_with_another_loss_or_gradient_ends_the_program(run_tiny, monkeypatch, output):
    chunked = kd_head.torch_chunked

    def wrong(inputs, num_words):
        run = chunked(inputs, num_words)

        def run_wrong():
            outputs = list(run())
            outputs[output] = outputs[output] * 1.001
            return outputs

        return run_wrong

    monkeypatch.setattr(kd_head, "torch_chunked", wrong)
    only = functools.partial(only_two, kd_head.make_contenders)
    monkeypatch.setattr(kd_head, "make_contenders", only)
    with pytest.raises(SystemExit, match=f"{kd_head.CHUNKED}: expected output {output}") as ended:
        run_tiny(kd_head)
    assert isinstance(ended.value.code, str)  # printed, and the exit status is 1


def only_two(make_contenders, shape):
    return [
        each
        for each in make_contenders(shape)
        if each.name in (kd_head.FROM_FEATURES, kd_head.CHUNKED)
    ]


def test_a_missed_target_is_named_and_ends_with_1(run_tiny, monkeypatch):
    ((name, shape, _),) = kd_head.TIMES["tiny"]
    pair = kd_head.FROM_FEATURES, kd_head.CHUNKED
    monkeypatch.setitem(kd_head.TIMES, "tiny", ((name, shape, {pair: Bound(0.0)}),))
    status, document, printed = run_tiny(kd_head)
    assert status == 1
    (missed,) = (line for line in printed.splitlines() if line.startswith("MISSED"))
    assert "time, conkd_jax, from features / PyTorch chunked" in missed
    assert "target at most 0, MISSED" in missed
    (entry,) = (each for each in document["cases"][0]["ratios"] if "bound" in each)
    assert entry["is_met"] is False


def test_memory_is_that_of_the_second_call_alone_in_a_process(monkeypatch):
    """Of arrays of 32 MiB, the naive head holds several; the fused one's chunks are small."""
    shape = kd_head.Shape(1024, 7_000, 1_192, 16, 8)
    contenders = {each.name: each for each in kd_head.make_contenders(shape)}
    naive = side_by_side.peak_alone(contenders[kd_head.TORCH_FROM_FEATURES].prepare())
    fused = side_by_side.peak_alone(contenders[kd_head.FROM_FEATURES].prepare())
    assert naive["peak_bytes"] > 3 * 32 * 2**20
    assert "planned_bytes" not in naive
    assert fused["planned_bytes"] < 2 * 32 * 2**20
    assert fused["peak_bytes"] < naive["peak_bytes"]


def test_memory_that_grows_with_the_tokens_misses_its_target(run_tiny, monkeypatch):
    shapes = [kd_head.Shape(count, 50, 14, 8, 4) for count in (10, 20, 40)]
    peaks = dict.fromkeys((kd_head.TORCH_FROM_FEATURES, kd_head.TORCH_FROM_LOGITS), 1000)

    def measured(module, arguments, contenders):
        place = int(arguments[-1].removeprefix("--case="))
        planned = {kd_head.FROM_FEATURES: 100 * (place + 1)}
        return {
            each.name: {"peak_bytes": peaks.get(each.name, 500)}
            | ({"planned_bytes": planned[each.name]} if each.name in planned else {})
            for each in contenders
        }

    monkeypatch.setitem(kd_head.MEMORY, "tiny", shapes)
    monkeypatch.setitem(kd_head.TIMES, "tiny", ())
    monkeypatch.setattr(side_by_side, "measure_memory", measured)
    status, document, printed = run_tiny(kd_head)
    assert [len(case["contenders"]) for case in document["cases"]] == [2, 9, 2]
    assert status == 1
    missed = [line for line in printed.splitlines() if line.startswith("MISSED")]
    assert len(missed) == 1 and "over that at N = 1,024: 3; target at most 1.1" in missed[0]
    (share,) = document["cases"][1]["numbers"]
    assert share["value"] == 0.2 and share["is_met"]
