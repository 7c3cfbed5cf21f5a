"""LoRA: parity with its formula in PyTorch, and what is trained, fixed and merged."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax.traverse_util import flatten_dict

from conkd_jax.distill.losses import nll
from conkd_jax.models.compute import Compute
from conkd_jax.models.llama_weights import IN_LAYER
from conkd_jax.models.lora import A, B, LoRA
from tests.fixtures.training import assert_same
from tests.models.small_decoders import NUM_ROWS, SPECS, loaded, model_of, peer_of

NUM_WORDS, RANK, ALPHA = 90, 3, 12.0


@pytest.fixture(scope="module", params=["gpt2", "llama3"])
def pair(request, tmp_path_factory):
    """(PyTorch's model, the same model here, its parameters).

    GPT-2 has square kernels, so that in and out can be confused; Llama an output layer of its own.
    """
    peer = peer_of(SPECS[request.param])
    spec, params = loaded(peer, tmp_path_factory.mktemp("peer"))
    return peer, model_of(spec), params


@pytest.fixture(scope="module")
def lora(pair):
    return LoRA.of(pair[1], NUM_WORDS, rank=RANK, alpha=ALPHA)


@pytest.fixture(scope="module")
def parts(pair, lora):
    """(trained, fixed) before training."""
    return lora.divided(pair[2], jax.random.key(1))


@pytest.fixture(scope="module")
def moved(parts):
    """The trained part with every array away from its start."""
    leaves, tree = jax.tree.flatten(parts[0])
    keys = jax.random.split(jax.random.key(2), len(leaves))
    noise = [
        leaf + 0.1 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, noise)


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return np.random.default_rng(1).integers(0, NUM_ROWS, (3, 12), dtype=np.int32)


def features(model, lora, parts, ids):
    with lora.reading():
        return jax.jit(model.features)(lora.variables(*parts), ids)


def mean_nll(trained, fixed, model, lora, ids):
    variables = lora.variables(trained, fixed)
    with lora.reading():
        states = model.features(variables, ids)[:, :-1].reshape(-1, 32)
    logits = model.head(variables, NUM_ROWS).logits(states)
    return nll(logits, jnp.asarray(ids[:, 1:]).reshape(-1)).mean()


# --- parity with PyTorch --------------------------------------------------------------------------


def torch_weights(peer, leaves):
    """PyTorch's weights from arrays of the trained part, by the formula W + (α/r) A B."""
    weights = dict(peer.named_parameters())
    for path, a in leaves.items():
        if path[-1] != A:
            continue
        change = ALPHA / RANK * a @ leaves[*path[:-1], B]  # [in, out]
        if path[0] == "h":  # transformers' Conv1D has [in, out]
            name = f"transformer.{'.'.join(path[:-1])}.weight"
            weights[name] = weights[name] + change
            continue
        for i, of_layer in enumerate(change):
            name = f"model.layers.{i}.{IN_LAYER[*path[1:-1], 'kernel']}"
            weights[name] = weights[name] + of_layer.T
    for layer, name in (
        ("wte", "transformer.wte.weight"),
        ("embed", "model.embed_tokens.weight"),
        ("lm_head", "lm_head.weight"),
    ):
        if (layer, "new_rows") in leaves:
            weights[name] = torch.cat([weights[name][:NUM_WORDS], leaves[layer, "new_rows"]])
    return weights


def test_loss_and_gradients_match_pytorch(pair, lora, parts, moved, ids):
    peer, model, _ = pair
    loss, gradients = jax.jit(jax.value_and_grad(mean_nll), static_argnums=(2, 3))(
        moved, parts[1], model, lora, ids
    )
    leaves = {
        path: torch.tensor(np.asarray(leaf), requires_grad=True)
        for path, leaf in flatten_dict(moved).items()
    }
    tokens = torch.tensor(ids).long()
    wanted = torch.func.functional_call(
        peer, torch_weights(peer, leaves), (tokens,), {"labels": tokens}
    ).loss
    wanted.backward()
    np.testing.assert_allclose(loss, wanted.item(), rtol=1e-5)
    found = flatten_dict(gradients)
    assert found.keys() == leaves.keys()
    for path, leaf in leaves.items():
        assert leaf.grad.abs().max() > 1e-4, path
        np.testing.assert_allclose(found[path], leaf.grad, atol=2e-5, rtol=1e-4, err_msg=str(path))


# --- what is trained ------------------------------------------------------------------------------


def test_training_starts_from_the_pretrained_model_exactly(pair, lora, parts, ids):
    _, model, params = pair
    assert_same(lora.merged(*parts), params)
    with lora.reading():  # operation by operation, since XLA may fuse a sum with a product
        started = model.features(lora.variables(*parts), ids)
    np.testing.assert_array_equal(started, model.features(params, ids))


def test_every_linear_layer_has_a_change_and_new_rows_are_trained(pair, parts):
    _, model, params = pair
    trained, fixed = (flatten_dict(part) for part in parts)
    kernels = [path for path in flatten_dict(params) if path[-1] == "kernel"]
    assert len(kernels) == (8 if "wte" in params else 7)
    assert {path[:-1] for path in trained if path[-1] == A} == {path[:-1] for path in kernels}
    rows = {path: leaf.shape for path, leaf in trained.items() if path[-1] == "new_rows"}
    assert rows == {(layer, "new_rows"): (7, 32) for layer in model.ROW_LAYERS}
    assert len(trained) == 2 * len(kernels) + len(rows)
    for path in kernels:
        a, b = (trained[*path[:-1], name] for name in (A, B))
        assert a.shape[-1] == b.shape[-2] == RANK and not np.any(b)
        assert np.abs(a).max() <= a.shape[-2] ** -0.5 and np.std(a) > 0.5 * a.shape[-2] ** -0.5
    sizes = [sum(np.size(leaf) for leaf in each.values()) for each in (trained, fixed)]
    assert sizes[1] == sum(np.size(leaf) for leaf in jax.tree.leaves(params)) - 7 * 32 * len(rows)


def test_the_merged_model_is_the_trained_one(pair, lora, parts, moved, ids):
    _, model, params = pair
    merged = lora.merged(moved, parts[1])
    assert jax.tree.map(jnp.shape, merged) == jax.tree.map(jnp.shape, params)
    unmerged = features(model, lora, (moved, parts[1]), ids)
    np.testing.assert_allclose(jax.jit(model.features)(merged, ids), unmerged, atol=2e-5)
    assert np.abs(unmerged - jax.jit(model.features)(params, ids)).max() > 0.5
    head = model.head(merged, NUM_ROWS).kernel
    np.testing.assert_array_equal(
        head, model.head(lora.variables(moved, parts[1]), NUM_ROWS).kernel
    )


def test_layers_in_bfloat16_that_are_computed_again_read_the_change(pair, lora, parts, moved, ids):
    model = pair[1].computing(Compute("bfloat16", remat=True))
    plain = features(pair[1], lora, (moved, parts[1]), ids)
    low = features(model, lora, (moved, parts[1]), ids)
    assert low.dtype == jnp.bfloat16
    unchanged = features(pair[1], lora, parts, ids)
    assert np.abs(low - plain).mean() < 0.1 * np.abs(unchanged - plain).mean()
    gradients = jax.jit(jax.grad(mean_nll), static_argnums=(2, 3))(
        moved, parts[1], model, lora, ids
    )
    assert all(leaf.dtype == jnp.float32 and leaf.any() for leaf in jax.tree.leaves(gradients))


def test_steps_change_what_is_trained_alone(pair, lora, parts, ids):
    """Words, norms and biases of the merged model are those of the start, bit for bit."""
    _, model, params = pair
    optimizer, (trained, fixed) = optax.adam(0.01), parts
    state = optimizer.init(trained)

    @jax.jit
    def step(trained, state):
        gradients = jax.grad(mean_nll)(trained, fixed, model, lora, ids)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(trained, updates), state

    for _ in range(2):
        trained, state = step(trained, state)
    sizes = sum(np.size(leaf) for leaf in jax.tree.leaves(state))
    assert sizes == 2 * sum(np.size(leaf) for leaf in jax.tree.leaves(trained)) + 1
    before, after = (flatten_dict(each) for each in (params, lora.merged(trained, fixed)))
    for path, leaf in before.items():
        changed = np.asarray(leaf != after[path])
        if path[-1] == "kernel":
            assert changed.any(axis=(-1, -2)).all(), path
        elif path[0] in model.ROW_LAYERS:
            assert not changed[:NUM_WORDS].any() and changed[NUM_WORDS:].any(), path
        else:
            assert not changed.any(), path
