"""The benchmark of a training step."""

import pytest

from benchmarks import train_step
from benchmarks.report import Bound
from tests.benchmarks.conftest import differences


@pytest.fixture
def unattainable(monkeypatch):
    (batch,) = train_step.CASES["tiny"]
    batch = train_step.Batch(batch.model, batch.num_rows, batch.length, Bound(0.0))
    monkeypatch.setitem(train_step.CASES, "tiny", (batch,))


def test_losses_and_all_gradients_agree_and_a_missed_target_counts(run_tiny, unattainable):
    status, document, printed = run_tiny(train_step)
    compared = differences(document)
    assert set(compared) == {train_step.TORCH_NLL, train_step.TORCH_CONKD}
    assert max(compared.values()) < 1e-5
    assert status == 1
    assert "MISSED  train_step: tiny: time, conkd_jax, ConKD / conkd_jax, NLL" in printed
