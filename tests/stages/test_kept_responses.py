"""Decoded responses that outlive the process that decoded them."""

import numpy as np
import pytest

from conkd_jax.eval.decoding import DecodedResponse, EmittedItem
from conkd_jax.stages import evaluation, pipeline
from conkd_jax.stages.evaluation import answers
from conkd_jax.stages.kept_responses import kept
from conkd_jax.stages.system import System
from conkd_jax.stages.system_on_split import open_system
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


def never():
    raise Stopped


def test_kept_responses_are_not_decoded_again(tmp_path):
    assert kept(tmp_path / "kept", IDS, lambda: RESPONSES) is RESPONSES
    found = kept(tmp_path / "kept", IDS, never)
    assert same(found, RESPONSES)
    assert found[0].item_steps[0].top.dtype == np.int32
    with pytest.raises(Stopped):
        kept(tmp_path / "kept", [4, 8], never)  # other responses begin with the same one


def test_damaged_ones_are_decoded_again(tmp_path):
    kept(tmp_path, IDS, lambda: RESPONSES)
    (path,) = tmp_path.iterdir()
    for bit in range(0, 8 * path.stat().st_size, 131):
        flip(path, bit)
        with pytest.raises(Stopped):
            kept(tmp_path, IDS, never)
        flip(path, bit)
    path.write_text("")
    assert kept(tmp_path, IDS, lambda: RESPONSES) is RESPONSES
    assert same(kept(tmp_path, IDS, never), RESPONSES)


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
