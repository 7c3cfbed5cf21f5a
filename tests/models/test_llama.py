"""What Llama alone has: layers that are one scan, shapes of heads, stretched rotary positions.

What it shares with GPT-2, parity with PyTorch included, is in `test_decoder_only`.
"""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from conkd_jax.models.llama import Llama
from conkd_jax.models.llama_network import LlamaSpec, RopeScaling
from conkd_jax.training.optimizers import _is_matrix
from tests.models.small_decoders import LLAMA, LLAMA_3, NUM_ROWS


@pytest.fixture(scope="module", params=[LLAMA, LLAMA_3], ids=["tied", "untied"])
def model(request) -> Llama:
    return Llama(request.param, NUM_ROWS)


def test_init_differs_between_layers(model):
    params = model.init(jax.random.key(5))
    query = np.asarray(params["layers"]["attention"]["query"]["kernel"])
    assert np.abs(query[0] - query[1]).max() > 1e-2
    assert query.std() == pytest.approx(0.02, rel=0.1)
    assert ("lm_head" in params) == (not model.spec.tied)


def test_weight_decay_spares_the_stacked_scales_of_norms(model):
    decays = flatten_dict(_is_matrix(jax.eval_shape(model.init, jax.random.key(0))))
    assert {path[-1] for path, decay in decays.items() if not decay} == {"scale"}


def test_no_array_is_as_large_as_all_positions():
    """A context of 8,192 tokens costs nothing before it is read."""
    model = Llama(dataclasses.replace(LLAMA, num_positions=8192), NUM_ROWS)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    jaxpr = str(jax.make_jaxpr(model.features)(shapes, np.zeros((1, 4), np.int32)))
    assert "8192" not in jaxpr and "scan" in jaxpr


def test_a_spec_survives_json(model):
    again = LlamaSpec.from_fields(json.loads(json.dumps(dataclasses.asdict(model.spec))))
    assert again == model.spec and hash(again) == hash(model.spec)


def test_high_frequencies_stay_low_ones_are_divided_and_others_are_between():
    """Frequencies that turn 8, 4, 2.5, 1 and .5 times over 64 positions."""
    turns = np.array([8, 4, 2.5, 1, 0.5], np.float32)
    frequencies = turns * np.float32(2 * np.pi / 64)
    scaled = RopeScaling(8.0, 1.0, 4.0, 64).scaled(jax.numpy.asarray(frequencies))
    wanted = [1, 1, 0.5 + 0.5 / 8, 1 / 8, 1 / 8]
    np.testing.assert_allclose(scaled / frequencies, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_kv_heads": 3}, "num_heads = 4 is not a multiple of num_kv_heads = 3"),
        ({"head_dim": 7}, "head_dim = 7 is odd"),
    ],
)
def test_shapes_that_can_t_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(LLAMA, **change)
