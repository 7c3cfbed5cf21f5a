"""Decoded responses that outlive the process that decoded them."""

import dataclasses

import numpy as np
import pytest

from conkd_jax.eval import decoding
from conkd_jax.eval.decoding import DecodedResponse, EmittedItem
from conkd_jax.stages import evaluation, kept_responses, pipeline
from conkd_jax.stages.evaluation import answers
from conkd_jax.stages.kept_responses import kept
from conkd_jax.stages.systems.system import System
from conkd_jax.stages.systems.system_on_split import open_system
from tests.fixtures.disks import flip

IDS = [4, 7]
RESPONSES = [
    DecodedResponse([1, 300, 2], [EmittedItem(1, 300, np.array([300, 301], np.int32))], [300]),
    DecodedResponse([2], []),
]


def same(first, second) -> bool:
    def plain(response):
        steps = [(one.step, one.item, one.top.tolist()) for one in response.item_steps]
        return response.tokens, steps, response.picks

    return [*map(plain, first)] == [*map(plain, second)]


class Stopped(Exception):
    """Stands for whatever ends a process."""


def decoded(keep):
    return RESPONSES


def never(keep):
    raise Stopped


def test_kept_responses_are_not_decoded_again(tmp_path):
    assert kept(tmp_path / "kept", IDS, decoded) is RESPONSES
    found = kept(tmp_path / "kept", IDS, never)
    assert same(found, RESPONSES)
    assert found[0].item_steps[0].top.dtype == np.int32
    with pytest.raises(Stopped):
        kept(tmp_path / "kept", [4, 8], never)  # other responses begin with the same one


def test_damaged_ones_are_decoded_again(tmp_path):
    counts = []
    kept(tmp_path, IDS, decoded, counts.append)
    kept(tmp_path, IDS, never, counts.append)
    assert counts[-1] == len(IDS)  # found whole
    (path,) = tmp_path.iterdir()
    for bit in range(0, 8 * path.stat().st_size, 131):
        flip(path, bit)
        with pytest.raises(Stopped):
            kept(tmp_path, IDS, never)
        flip(path, bit)
    path.write_text("")
    assert kept(tmp_path, IDS, decoded) is RESPONSES
    assert same(kept(tmp_path, IDS, never), RESPONSES)


@pytest.fixture
def at_once(monkeypatch):
    """Every batch is written as soon as it is decoded."""
    monkeypatch.setattr(kept_responses, "SECONDS_BETWEEN_WRITES", 0)


def test_batches_of_a_stopped_chunk_are_not_decoded_again(tmp_path, at_once):
    first = np.arange(6, dtype=np.int32).reshape(2, 3), np.ones((2, 3, 4), np.float32) / 3

    def stopped(keep):
        keep([1, 0], lambda: first)
        keep([2], lambda: never(keep))

    def resumed(keep):
        for found, wanted in zip(keep([1, 0], lambda: never(keep)), first, strict=True):
            assert found.dtype == wanted.dtype
            np.testing.assert_array_equal(found, wanted)
        return RESPONSES

    ids, counts = [4, 7, 9], []
    with pytest.raises(Stopped):
        kept(tmp_path, ids, stopped, counts.append)
    assert counts == [2]
    with pytest.raises(Stopped):  # the same rows of other responses
        kept(tmp_path, [4, 8, 9], lambda keep: keep([1, 0], lambda: never(keep)))
    for members in ([1], [1, 2], [1, 0, 2]):  # other batches that begin with the same response
        with pytest.raises(Stopped):
            kept(tmp_path, ids, lambda keep, some=members: keep(some, lambda: never(keep)))
    (path,) = tmp_path.rglob("batch-*")
    for bit in range(0, 8 * path.stat().st_size, 97):
        flip(path, bit)
        with pytest.raises(Stopped):
            kept(tmp_path, ids, lambda keep: keep([1, 0], lambda: never(keep)))
        flip(path, bit)
    kept(tmp_path, ids, resumed)
    assert len(list(tmp_path.rglob("*"))) == 1  # of the chunk


def test_a_stopped_evaluation_goes_on_where_it_was(small_world, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "RESPONSES_AT_A_TIME", 8)
    config = small_world.config()
    stages = pipeline.build(config)
    system = System.of_config(config, stages, lambda n: stages[n].directory(config.artifacts_dir))
    settings, decoded = stages["evaluation"].settings, []
    opened = open_system(system, settings.split)
    real = evaluation.decode_responses

    def counting(*arguments, **options):
        decoded.append(options["response_ids"])
        return real(*arguments, **options)

    monkeypatch.setattr(evaluation, "decode_responses", counting)
    straight = list(answers(settings, opened))
    whole, decoded[:] = list(decoded), []
    assert len(whole) == 3
    for _, (number, _) in zip(range(10), answers(settings, opened, keep_in=tmp_path), strict=False):
        assert number == straight[number][0]
    assert decoded == whole[:2]
    decoded.clear()
    resumed = list(answers(settings, opened, keep_in=tmp_path))
    assert decoded == whole[2:]
    assert [number for number, _ in resumed] == [number for number, _ in straight]
    assert same([one for _, one in resumed], [one for _, one in straight])


def test_an_evaluation_stopped_in_a_chunk_goes_on_at_a_batch(
    small_world, tmp_path, monkeypatch, at_once
):
    config = small_world.config()
    stages = pipeline.build(config)
    system = System.of_config(config, stages, lambda n: stages[n].directory(config.artifacts_dir))
    settings = dataclasses.replace(stages["evaluation"].settings, batch_size=4)
    opened = open_system(system, settings.split)
    real, left = decoding.decode_batch, [*range(99)]  # how many batches may still be decoded

    def stopping(*arguments, **options):
        if not left:
            raise Stopped
        left.pop()
        return real(*arguments, **options)

    monkeypatch.setattr(decoding, "decode_batch", stopping)
    straight, num_batches = list(answers(settings, opened)), 99 - len(left)
    assert len(straight) == 22 and num_batches >= 6
    for number in (3, 2):
        left[:] = range(number)
        with pytest.raises(Stopped):
            list(answers(settings, opened, keep_in=tmp_path))
    left[:] = range(num_batches - 5)
    resumed = list(answers(settings, opened, keep_in=tmp_path))
    assert not left
    assert same([one for _, one in resumed], [one for _, one in straight])
