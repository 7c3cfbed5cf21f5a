"""The recurrent encoders against torch.nn.GRU, in value and gradient, and their guarantees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from conkd_jax.models.utterances import ConversationGRU, UtteranceGRU, last_state
from tests.models.small_redial import perturbed

WIDTH, FEATURES = 6, 5
LENGTHS = ((4, 1, 3), (2, 5))  # tokens of each utterance, of two histories


def places(length=3):
    """Starts and ends [2, U] of the utterances, padded with -1."""
    starts, ends = np.full((2, length), -1, np.int32), np.full((2, length), -1, np.int32)
    for row, lengths in enumerate(LENGTHS):
        borders = np.cumsum([0, *lengths])
        starts[row, : len(lengths)], ends[row, : len(lengths)] = borders[:-1], borders[1:] - 1
    return starts, ends


@pytest.fixture(scope="module")
def vectors():
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, WIDTH)), jnp.float32)


def as_torch(layers):
    """A torch.nn.GRU with the weights of Flax cells: a list of layers, each of its directions.

    Torch has two biases in each gate where Flax has one; the second is only needed for n.
    """
    width = layers[0][0]["in"]["kernel"].shape[0]
    gru = torch.nn.GRU(
        width, FEATURES, len(layers), batch_first=True, bidirectional=len(layers[0]) == 2
    )
    for layer, directions in enumerate(layers):
        for cell, suffix in zip(directions, ("", "_reverse"), strict=False):
            stacked = {
                "weight_ih": np.concatenate([cell[f"i{g}"]["kernel"].T for g in "rzn"]),
                "weight_hh": np.concatenate([cell[f"h{g}"]["kernel"].T for g in "rzn"]),
                "bias_ih": np.concatenate([cell[f"i{g}"]["bias"] for g in "rzn"]),
                "bias_hh": np.concatenate([np.zeros(2 * FEATURES), cell["hn"]["bias"]]),
            }
            for name, value in stacked.items():
                parameter = getattr(gru, f"{name}_l{layer}{suffix}")
                parameter.data = torch.tensor(np.asarray(value, np.float32))
    return gru


def gradient_of_cell(gru, layer, suffix):
    """The gradients of a torch cell, in Flax's layout."""
    found = {}
    for kind, name in (("i", "ih"), ("h", "hh")):
        weights = getattr(gru, f"weight_{name}_l{layer}{suffix}").grad.chunk(3)
        biases = getattr(gru, f"bias_{name}_l{layer}{suffix}").grad.chunk(3)
        for gate, weight, bias in zip("rzn", weights, biases, strict=True):
            found[f"{kind}{gate}"] = {"kernel": weight.T.numpy()}
            if kind == "i" or gate == "n":
                found[f"{kind}{gate}"]["bias"] = bias.numpy()
    return found


def assert_trees_agree(ours, theirs, atol=1e-5):
    for path, leaf in jax.tree_util.tree_leaves_with_path(theirs):
        got = ours
        for key in path:
            got = got[key.key]
        np.testing.assert_allclose(got, leaf, atol=atol, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("num_layers", [1, 2])
def test_utterances_are_those_of_torch_one_by_one(vectors, num_layers):
    starts, ends = places()
    module = UtteranceGRU(FEATURES, num_layers)
    params = perturbed(module.init(jax.random.key(0), vectors, starts, ends)["params"])
    weights = np.random.default_rng(1).normal(size=(2, 3, 2 * FEATURES)).astype(np.float32)
    weights[1, 2] = 0  # padding

    def total(params, vectors):
        found = module.apply({"params": params}, vectors, starts, ends)
        return (found * weights).sum(), found

    (_, found), gradients = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(params, vectors)

    gru = as_torch(
        [
            (params[f"forward_{layer}"]["cell"], params[f"backward_{layer}"]["cell"])
            for layer in range(num_layers)
        ]
    )
    theirs = torch.tensor(np.asarray(vectors), requires_grad=True)
    objective = torch.zeros(())
    for row, lengths in enumerate(LENGTHS):
        for utterance in range(len(lengths)):
            span = slice(starts[row, utterance], ends[row, utterance] + 1)
            _, final = gru(theirs[row : row + 1, span])
            expected = torch.cat([final[-2, 0], final[-1, 0]])
            np.testing.assert_allclose(found[row, utterance], expected.detach().numpy(), atol=1e-5)
            objective = objective + (expected * torch.tensor(weights[row, utterance])).sum()
    objective.backward()
    np.testing.assert_allclose(gradients[1], theirs.grad.numpy(), atol=1e-5)
    for layer in range(num_layers):
        for name, suffix in (("forward", ""), ("backward", "_reverse")):
            assert_trees_agree(
                gradients[0][f"{name}_{layer}"]["cell"], gradient_of_cell(gru, layer, suffix)
            )


@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_conversation_is_that_of_torch(num_layers):
    rng = np.random.default_rng(2)
    utterances = jnp.asarray(rng.normal(size=(3, 4, WIDTH)), jnp.float32)
    senders = np.sign(rng.normal(size=(3, 4))).astype(np.float32)
    module = ConversationGRU(FEATURES, num_layers)
    params = perturbed(module.init(jax.random.key(0), utterances, senders)["params"])
    weights = rng.normal(size=(3, 4, FEATURES)).astype(np.float32)

    def total(params):
        states = module.apply({"params": params}, utterances, senders)
        return (states * weights).sum(), states

    (_, states), gradients = jax.value_and_grad(total, has_aux=True)(params)
    gru = as_torch([(params[f"layer_{layer}"],) for layer in range(num_layers)])
    read = np.concatenate([np.asarray(utterances), senders[..., None]], axis=-1)
    expected, _ = gru(torch.tensor(read))
    np.testing.assert_allclose(states, expected.detach().numpy(), atol=1e-5)
    (expected * torch.tensor(weights)).sum().backward()
    for layer in range(num_layers):
        assert_trees_agree(gradients[f"layer_{layer}"], gradient_of_cell(gru, layer, ""))


def test_padding_changes_no_utterance(vectors):
    starts, ends = places()
    module = UtteranceGRU(FEATURES)
    params = perturbed(module.init(jax.random.key(0), vectors, starts, ends)["params"])
    expected = module.apply({"params": params}, vectors, starts, ends)
    wider = jnp.pad(vectors, ((0, 0), (0, 4), (0, 0)), constant_values=3.0)
    got = module.apply({"params": params}, wider, *places(5))
    for row, lengths in enumerate(LENGTHS):
        count = len(lengths)
        np.testing.assert_allclose(got[row, :count], expected[row, :count], atol=1e-6)


def test_the_last_state_is_that_of_the_last_utterance():
    states = jnp.arange(12.0).reshape(3, 2, 2)
    ends = np.array([[4, 7], [3, -1], [-1, -1]], np.int32)
    assert last_state(states, ends).tolist() == [[2.0, 3.0], [4.0, 5.0], [0.0, 0.0]]
    per_movie = jnp.stack([states, states + 100], axis=1)  # [B, K, U, H]
    assert last_state(per_movie, ends)[:, 1].tolist() == [[102, 103], [104, 105], [0, 0]]
