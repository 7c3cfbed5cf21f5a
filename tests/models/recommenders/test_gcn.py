"""The GCN against PyTorch Geometric and against its pruned form, and the ReLU of eq. 13."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch_geometric.nn import GCNConv

from conkd_jax.models.recommenders.gcn import GCN, build_normalized_graph

NUM_NODES, FEATURES, EMBED_DIM = 17, 5, 4
RNG = np.random.default_rng(0)
PAIRS = np.array([(i, j) for i in range(NUM_NODES - 1) for j in range(i)])  # node 16 has no edge
EDGES = PAIRS[RNG.choice(len(PAIRS), 40, replace=False)]
X = RNG.normal(size=(NUM_NODES, FEATURES)).astype(np.float32)
W = RNG.normal(size=(FEATURES, EMBED_DIM)).astype(np.float32)
BIAS = RNG.normal(size=EMBED_DIM).astype(np.float32)
PARAMETERS = {"dense": {"kernel": W, "bias": BIAS}}


def apply(parameters, graph, features, relu=False):
    return GCN(EMBED_DIM, relu).apply({"params": parameters}, graph, jnp.asarray(features))


def test_matches_pytorch_geometric_in_value_and_gradient():
    peer = GCNConv(FEATURES, EMBED_DIM)
    with torch.no_grad():
        peer.lin.weight.copy_(torch.from_numpy(W.T.copy()))
        peer.bias.copy_(torch.from_numpy(BIAS))
    both = torch.from_numpy(np.concatenate([EDGES, EDGES[:, ::-1]]).T.copy())
    x = torch.from_numpy(X.copy()).requires_grad_()
    expected = peer(x, both)
    cotangent = RNG.normal(size=expected.shape).astype(np.float32)
    expected.backward(torch.from_numpy(cotangent))

    graph = build_normalized_graph(EDGES, num_nodes=NUM_NODES)
    value, pullback = jax.vjp(lambda p, f: apply(p, graph, f), PARAMETERS, X)
    gradient, x_gradient = pullback(jnp.asarray(cotangent))
    kernel_gradient = gradient["dense"]["kernel"]
    tolerance = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(value, expected.detach().numpy(), **tolerance)
    np.testing.assert_allclose(x_gradient, x.grad.numpy(), **tolerance)
    np.testing.assert_allclose(kernel_gradient, peer.lin.weight.grad.numpy().T, **tolerance)
    np.testing.assert_allclose(gradient["dense"]["bias"], peer.bias.grad.numpy(), **tolerance)


def test_pruning_changes_nothing():
    outputs = np.array([16, 3, 8])
    full = build_normalized_graph(EDGES, num_nodes=NUM_NODES)
    pruned = build_normalized_graph(EDGES, num_nodes=NUM_NODES, outputs=outputs)
    nodes = pruned.graph.nodes
    assert len(nodes) < NUM_NODES
    np.testing.assert_allclose(
        apply(PARAMETERS, pruned, X[nodes]),
        np.asarray(apply(PARAMETERS, full, X))[outputs],
        rtol=1e-6,
        atol=1e-6,
    )


def test_direction_repetition_and_self_loops_of_the_input_do_not_matter():
    noisy = np.concatenate([EDGES[:, ::-1], EDGES[:5], [[2, 2]]])
    for ours, theirs in zip(
        jax.tree.leaves(build_normalized_graph(noisy, num_nodes=NUM_NODES)),
        jax.tree.leaves(build_normalized_graph(EDGES, num_nodes=NUM_NODES)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_relu_is_a_choice():
    graph = build_normalized_graph(EDGES, num_nodes=NUM_NODES)
    plain = np.asarray(apply(PARAMETERS, graph, X))
    assert plain.min() < 0
    rectified = np.asarray(apply(PARAMETERS, graph, X, relu=True))
    np.testing.assert_array_equal(rectified, np.maximum(plain, 0))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="edge ends from 0 to below 3, got 0 to 3"):
        build_normalized_graph(np.array([[0, 3]]), num_nodes=3)
    with pytest.raises(ValueError, match="distinct"):
        build_normalized_graph(EDGES, num_nodes=NUM_NODES, outputs=np.array([1, 1]))
