"""Transformer layers: parity with PyTorch, empty memories, and decoding step by step."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict

from conkd_jax.models.transformer import (
    Attention,
    DecoderLayer,
    EncoderLayer,
    sinusoidal_positions,
)

WIDTH, HEADS, HIDDEN = 12, 3, 20
LENGTHS = np.array([7, 3, 5, 1])
MASK = np.arange(7) < LENGTHS[:, None]
NORM_NAMES = {
    "encoder": {"norm_1": "norm1", "norm_2": "norm2"},
    "decoder": {"self_norm": "norm1", "memory_norm_0": "norm2", "mlp_norm": "norm3"},
}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def peer_layer(kind):
    """A PyTorch layer without dropout, its biases and norms away from 0 and 1."""
    torch.manual_seed(0)
    cls = {"encoder": torch.nn.TransformerEncoderLayer, "decoder": torch.nn.TransformerDecoderLayer}
    peer = cls[kind](WIDTH, HEADS, dim_feedforward=HIDDEN, dropout=0, batch_first=True)
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return peer


def layer_tree(kind, tensors) -> dict:
    """PyTorch's tensors (parameters or gradients) under the names of our layers."""
    arrays = {name: tensor.detach().numpy().copy() for name, tensor in tensors}
    heads = (HEADS, WIDTH // HEADS)

    def linear(name):
        return {"kernel": arrays[f"{name}.weight"].T, "bias": arrays[f"{name}.bias"]}

    def attention(name):
        projections = zip(
            ("query", "key", "value"),
            np.split(arrays[f"{name}.in_proj_weight"], 3),
            np.split(arrays[f"{name}.in_proj_bias"], 3),
            strict=True,
        )
        tree = {
            part: {"kernel": kernel.T.reshape(WIDTH, *heads), "bias": bias.reshape(heads)}
            for part, kernel, bias in projections
        }
        out = linear(f"{name}.out_proj")
        return {
            **tree,
            "out": {"kernel": out["kernel"].reshape(*heads, WIDTH), "bias": out["bias"]},
        }

    tree = {"linear_1": linear("linear1"), "linear_2": linear("linear2")}
    for ours, theirs in NORM_NAMES[kind].items():
        tree[ours] = {"scale": arrays[f"{theirs}.weight"], "bias": arrays[f"{theirs}.bias"]}
    if kind == "encoder":
        return {**tree, "attention": attention("self_attn")}
    return {
        **tree,
        "self_attention": attention("self_attn"),
        "memory_attention_0": attention("multihead_attn"),
    }


def draw(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def tensor(array):
    return torch.tensor(np.array(array))


# --- parity with PyTorch ------------------------------------------------------------------------


def assert_parity(kind, apply, call_peer, counted):
    """Values at the counted places, and the gradients of a weighted sum of them."""
    peer = peer_layer(kind)
    params = layer_tree(kind, peer.named_parameters())
    weights = draw(np.random.default_rng(7), *counted.shape, WIDTH) * counted[..., None]
    expected = call_peer(peer)
    (expected * tensor(weights)).sum().backward()

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def grads_and_values(params):
        values = apply(params)
        return (values * weights).sum(), values

    grads, got = grads_and_values(params)
    np.testing.assert_allclose(got[counted], expected.detach().numpy()[counted], atol=1e-5)
    grads = flatten_dict(grads)
    peer_grads = ((name, parameter.grad) for name, parameter in peer.named_parameters())
    expected_grads = flatten_dict(layer_tree(kind, peer_grads))
    assert set(grads) == set(expected_grads)
    for path, expected_grad in expected_grads.items():
        np.testing.assert_allclose(
            grads[path], expected_grad, atol=1e-5, rtol=1e-5, err_msg=str(path)
        )


def test_encoder_layer_matches_pytorch(rng):
    states = draw(rng, 4, 7, WIDTH)
    layer = EncoderLayer(HEADS, HIDDEN)
    assert_parity(
        "encoder",
        lambda params: layer.apply({"params": params}, states, MASK, deterministic=True),
        lambda peer: peer(tensor(states), src_key_padding_mask=tensor(~MASK)),
        MASK,
    )


def test_decoder_layer_matches_pytorch(rng):
    states, memory = draw(rng, 4, 6, WIDTH), draw(rng, 4, 7, WIDTH)
    layer = DecoderLayer(WIDTH, 1, HEADS, HIDDEN)
    assert_parity(
        "decoder",
        lambda params: layer.apply(
            {"params": params}, states, [memory], [MASK], deterministic=True
        ),
        lambda peer: peer(
            tensor(states),
            tensor(memory),
            tgt_mask=torch.triu(torch.ones(6, 6, dtype=torch.bool), diagonal=1),
            memory_key_padding_mask=tensor(~MASK),
        ),
        np.ones((4, 6), bool),
    )


def test_attention_is_flaxs_under_the_same_names(rng):
    """Weights trained with one therefore work with the other, bit for bit."""
    states, mask = draw(rng, 4, 7, WIDTH), MASK[:, None, :]
    flaxs = nn.MultiHeadDotProductAttention(HEADS)
    attention = Attention(WIDTH, HEADS)

    def ours(module):
        return module(states, module.keys_values(states), mask, deterministic=True)

    expected = jax.jit(flaxs.init)(jax.random.key(0), states)
    got = jax.jit(lambda key: nn.init(ours, attention)(key))(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, got, expected)
    np.testing.assert_array_equal(
        jax.jit(nn.apply(ours, attention))(expected),
        jax.jit(functools.partial(flaxs.apply, mask=mask[:, None]))(expected, states),
    )


# --- memories -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_memories():
    """A decoder layer with two memories of different widths, its biases away from 0."""
    layer = DecoderLayer(WIDTH, 2, HEADS, HIDDEN)
    rng = np.random.default_rng(3)
    states, memories = draw(rng, 4, 6, WIDTH), (draw(rng, 4, 7, WIDTH), draw(rng, 4, 5, 8))
    masks = (MASK, np.ones((4, 5), bool))
    params = jax.jit(functools.partial(layer.init, deterministic=True))(
        jax.random.key(0), states, memories, masks
    )
    params = jax.tree.map(lambda x: x + 0.3 * draw(rng, *x.shape), params)
    return layer, params, states, memories, masks


@jax.jit
def attend(params, states, memory, mask):
    def attention(module):
        return module(states, module.keys_values(memory), mask, deterministic=True)

    return nn.apply(attention, Attention(WIDTH, HEADS))({"params": params})


def test_attention_to_nothing_is_exactly_zero(two_memories, rng):
    _, params, states, _, _ = two_memories
    params = params["params"]["memory_attention_0"]
    memory, mask = draw(rng, 4, 7, WIDTH), MASK[:, None, :].copy()
    mask[1] = False
    attended = attend(params, states, memory, mask)
    np.testing.assert_array_equal(attended[1], 0)
    assert np.abs(attended[np.array([0, 2, 3])]).min(axis=(1, 2)).all()
    nothing = attend(params, states, memory[:, :0], mask[:, :, :0])
    np.testing.assert_array_equal(nothing, np.zeros_like(states))
    grads = jax.grad(lambda *arrays: attend(*arrays, mask[1:2]).sum(), argnums=(0, 1, 2))(
        params, states[1:2], memory[1:2]
    )
    jax.tree.map(lambda x: np.testing.assert_array_equal(x, 0), grads)


def test_masked_places_change_nothing(two_memories, rng):
    layer, params, states, memories, masks = two_memories
    apply = jax.jit(functools.partial(layer.apply, deterministic=True))
    noise = np.where(masks[0][..., None], memories[0], 100 * draw(rng, 4, 7, WIDTH))
    np.testing.assert_allclose(
        apply(params, states, (noise, memories[1]), masks),
        apply(params, states, memories, masks),
        atol=1e-5,
    )


def test_every_memory_needs_an_attention(two_memories):
    layer, params, states, memories, masks = two_memories
    with pytest.raises(ValueError, match="zip"):
        layer.apply(params, states, memories[:1], masks[:1], deterministic=True)


def test_steps_equal_the_whole(two_memories):
    layer, params, states, memories, masks = two_memories
    whole = jax.jit(functools.partial(layer.apply, deterministic=True))(
        params, states, memories, masks
    )
    cache = layer.apply(params, memories, 8, method="open_cache")  # longer than is read
    step = jax.jit(functools.partial(layer.apply, method="step"))
    for t in range(states.shape[1]):
        state, cache = step(params, states[:, t : t + 1], cache, jnp.int32(t), masks)
        np.testing.assert_allclose(state[:, 0], whole[:, t], atol=1e-5)


# --- positions, dropout, sizes ------------------------------------------------------------------


def test_positions_follow_the_formula():
    got = sinusoidal_positions(5, 6)
    assert got.shape == (5, 6) and got.dtype == np.float32
    for position in range(5):
        for j in range(3):
            angle = position / 10000 ** (2 * j / 6)
            expected = [np.sin(angle), np.cos(angle)]
            np.testing.assert_allclose(got[position, 2 * j : 2 * j + 2], expected, atol=1e-6)


@pytest.mark.parametrize("rates", [(0.5, 0.0), (0.0, 0.5)], ids=["states", "weights"])
def test_dropout_is_a_function_of_its_key(rng, rates):
    states, layer = draw(rng, 4, 7, WIDTH), EncoderLayer(HEADS, HIDDEN, *rates)
    params = {"params": layer_tree("encoder", peer_layer("encoder").named_parameters())}

    @jax.jit
    def dropped(key):
        return layer.apply(params, states, MASK, deterministic=False, rngs={"dropout": key})

    first = dropped(jax.random.key(1))
    np.testing.assert_array_equal(first, dropped(jax.random.key(1)))
    assert np.abs(first - dropped(jax.random.key(2)))[MASK].max() > 1e-2


def test_heads_of_unequal_size_are_refused(rng):
    with pytest.raises(
        ValueError, match="embed_dim = 12 can't be divided into num_heads = 5 equal"
    ):
        EncoderLayer(5, HIDDEN).init(
            jax.random.key(0), draw(rng, 4, 7, WIDTH), MASK, deterministic=True
        )
