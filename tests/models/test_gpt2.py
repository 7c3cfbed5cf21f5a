"""What GPT-2 alone has: its initialisation, its tied head, and weights as FlaxConv1D has them.

What it shares with Llama, parity with PyTorch included, is in `test_decoder_only`.
"""

import dataclasses
import re

import jax
import numpy as np
import pytest

from conkd_jax.models.gpt2 import GPT2, GPT2Spec
from tests.models.small_decoders import GPT2 as SPEC
from tests.models.small_decoders import NUM_ROWS


@pytest.fixture(scope="module")
def model() -> GPT2:
    return GPT2(SPEC, NUM_ROWS)


@pytest.fixture(scope="module")
def params(model):
    return model.init(jax.random.key(0))


def test_init_follows_gpt2_scheme():
    spec = GPT2Spec(num_layers=2, embed_dim=64, num_heads=2, num_positions=64)
    params = GPT2(spec, 128).init(jax.random.key(3))
    block = params["h"]["1"]
    assert params["wte"]["embedding"].shape == (128, 64)
    for kernel in (block["attn"]["c_attn"]["kernel"], block["mlp"]["c_fc"]["kernel"]):
        assert np.std(kernel) == pytest.approx(0.02, rel=0.05)
    for kernel in (block["attn"]["c_proj"]["kernel"], block["mlp"]["c_proj"]["kernel"]):
        assert np.std(kernel) == pytest.approx(0.01, rel=0.05)  # .02 / √(2·2)
    np.testing.assert_array_equal(block["mlp"]["c_proj"]["bias"], 0)
    np.testing.assert_array_equal(params["ln_f"]["scale"], 1)


def test_head_is_tied_to_the_first_rows(model, params):
    head = model.head(params, 90)
    assert head.kernel.shape == (32, 90)
    np.testing.assert_array_equal(head.kernel.T, params["wte"]["embedding"][:90])
    np.testing.assert_array_equal(head.bias, 0)


def test_heads_must_divide_width():
    with pytest.raises(ValueError, match="embed_dim = 30 is not a multiple of num_heads = 4"):
        GPT2(dataclasses.replace(SPEC, embed_dim=30), NUM_ROWS).init(jax.random.key(0))


def test_a_step_transposes_no_weight(model, params):
    """When XLA decodes a single row on a CPU, it copies a transposed weight at every step."""
    prompt = np.zeros((1, 4), np.int32), np.ones((1, 4), bool)
    _, cache = jax.jit(model.prefill, static_argnums=3)(params, *prompt, 6)
    jaxpr = jax.make_jaxpr(model.step)(params, np.zeros(1, np.int32), cache)
    transposed = re.findall(r"f32\[\d+,\d+\] = transpose", str(jaxpr))
    assert not transposed and "dot_general" in str(jaxpr)
