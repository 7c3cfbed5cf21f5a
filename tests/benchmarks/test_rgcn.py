"""The benchmark of the graph convolution."""

import pytest

from benchmarks import rgcn, side_by_side
from tests.benchmarks.conftest import differences


@pytest.fixture(autouse=True)
def no_processes(monkeypatch):
    """Memory is measured in processes; tests of side_by_side.py start one."""
    monkeypatch.setattr(
        side_by_side,
        "measure_memory",
        lambda module, arguments, contenders: {each.name: {"peak_bytes": 1} for each in contenders},
    )


def test_layers_agree_in_vectors_and_gradients(run_tiny):
    status, document, _ = run_tiny(rgcn)
    assert status == 0
    compared = differences(document)
    assert set(compared) == {rgcn.FAST, rgcn.PLAIN}
    assert max(compared.values()) < 1e-5
    assert document["cases"][0]["facts"]["outputs"] == 10


def test_a_wrong_gradient_ends_the_program(run_tiny, monkeypatch):
    peer = rgcn.pytorch_geometric

    def wrong(shape, name):
        run = peer(shape, name)

        def run_wrong():
            vectors, *gradients = run()
            gradients[1] = gradients[1] * (1 + (name == "RGCNConv") * 1e-3)
            return vectors, *gradients

        return run_wrong

    monkeypatch.setattr(rgcn, "pytorch_geometric", wrong)
    with pytest.raises(SystemExit, match="PyG RGCNConv: expected output 2 within"):
        run_tiny(rgcn)
