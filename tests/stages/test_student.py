"""What a student's config may ask of its teacher store."""

import pytest

from conkd_jax.config import ConfigError, frozen
from conkd_jax.stages import pipeline
from tests.fixtures.small_world import get_config

GATES = """
import jax.numpy as jnp

def of_entropy(mass, *, log_probs):
    return jnp.clip(-(jnp.exp(log_probs) * log_probs).sum(-1), 0, 1)

def of_mass(mass):
    return mass**2
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    (tmp_path / "gates_of_topk.py").write_text(GATES)
    monkeypatch.syspath_prepend(tmp_path)
    return frozen(get_config()).replace({"distill.gate": "gates_of_topk:of_entropy"})


def test_a_gate_of_the_whole_distribution_is_refused_with_topk_before_anything_runs(config):
    assert "student" in pipeline.build(config)
    topk = config.replace({"teacher_outputs.format": "topk", "teacher_outputs.top_k": 9})
    with pytest.raises(ConfigError) as error:
        pipeline.build(topk)
    for words in (
        "config.distill.gate: expected a gate of the item mass, got 'gates_of_topk:of_entropy'",
        "reads log_probs",
        "the 9 most probable targets",
        "Set the format to features or dense",
    ):
        assert words in str(error.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"distill.gate": "gates_of_topk:of_mass"},
        {"distill.gate": "oracle"},
        {"distill.gamma": 0.0},
        {"system": "dialogue_teacher"},
        {"teacher_outputs.format": "dense"},
    ],
    ids=str,
)
def test_other_gates_and_formats_go_together(config, fields):
    assert pipeline.build(config.replace({"teacher_outputs.format": "topk", **fields}))
