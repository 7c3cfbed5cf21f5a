"""The R-GCN against PyTorch Geometric, a dense adjacency, a permutation, and its pruned form."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.extend.core import jaxprs_in_params
from torch_geometric.nn import RGCNConv

from conkd_jax.models.recommenders import rgcn
from conkd_jax.models.recommenders.rgcn import RGCN, build_relational_graph

NUM_NODES, NUM_RELATIONS, NUM_BASES, EMBED_DIM, NUM_EDGES = 23, 4, 3, 6, 120


def random_edges(seed=0, num_edges=NUM_EDGES):
    """Distinct (source, relation, destination) rows."""
    rng = np.random.default_rng(seed)
    flat = rng.choice(NUM_NODES * NUM_RELATIONS * NUM_NODES, num_edges, replace=False)
    source, rest = np.divmod(flat, NUM_RELATIONS * NUM_NODES)
    relation, destination = np.divmod(rest, NUM_NODES)
    return np.stack([source, relation, destination], axis=1)


def whole_parameters(seed=1):
    """Parameters over all nodes, indexed by node id."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    return {
        "basis": draw(NUM_NODES, NUM_BASES, EMBED_DIM),
        "coefficients": draw(NUM_RELATIONS, NUM_BASES),
        "root": draw(NUM_NODES, EMBED_DIM),
        "bias": draw(EMBED_DIM),
    }


def restricted(whole, graph):
    """The part of whole-graph parameters that a pruned graph's layer holds."""
    nodes = graph.graph.nodes
    outputs = nodes[: graph.num_outputs]
    return {**whole, "basis": whole["basis"][nodes], "root": whole["root"][outputs]}


def build(edges, outputs=None, norm="mean"):
    return build_relational_graph(
        edges, num_nodes=NUM_NODES, num_relations=NUM_RELATIONS, outputs=outputs, norm=norm
    )


def apply(parameters, graph):
    layer = RGCN(EMBED_DIM, NUM_BASES)
    return jax.jit(lambda p, g: layer.apply({"params": p}, g))(parameters, graph)


def dense_oracle(whole, edges, norm):
    """Eq. 2 with one dense adjacency per relation."""
    adjacency = np.zeros((NUM_RELATIONS, NUM_NODES, NUM_NODES))
    for source, relation, destination in edges:
        adjacency[relation, destination, source] += 1
    if norm == "mean":
        adjacency /= np.maximum(adjacency.sum(-1, keepdims=True), 1)
    weights = np.einsum("rb,nbd->rnd", whole["coefficients"], whole["basis"])
    return np.einsum("rij,rjd->id", adjacency, weights) + whole["root"] + whole["bias"]


@pytest.mark.parametrize("norm", ["mean", "sum"])
def test_matches_dense_adjacency(norm):
    edges, whole = random_edges(), whole_parameters()
    graph = build(edges, norm=norm)
    actual = apply(restricted(whole, graph), graph)
    np.testing.assert_allclose(actual, dense_oracle(whole, edges, norm), rtol=1e-5, atol=1e-5)


def test_nodes_without_edges_are_their_own_vectors():
    """So are the nodes that no training dialogue mentions, in a corpus without a graph."""
    whole = whole_parameters()
    graph = build(np.zeros((0, 3), np.int64), outputs=np.array([3, 5]))
    vectors = whole["root"][[3, 5]] + whole["bias"]
    np.testing.assert_array_equal(apply(restricted(whole, graph), graph), vectors)


@pytest.mark.parametrize("chunk_size", [7, rgcn.CHUNK_SIZE])  # several, or all pairs at once
@pytest.mark.parametrize("norm", ["mean", "sum"])
def test_matches_pytorch_geometric_in_value_and_gradient(norm, chunk_size, monkeypatch):
    monkeypatch.setattr(rgcn, "CHUNK_SIZE", chunk_size)
    edges, whole = random_edges(), whole_parameters()
    cotangent = np.random.default_rng(2).normal(size=(NUM_NODES, EMBED_DIM)).astype(np.float32)

    peer = RGCNConv(NUM_NODES, EMBED_DIM, NUM_RELATIONS, num_bases=NUM_BASES, aggr=norm)
    with torch.no_grad():
        peer.weight.copy_(torch.from_numpy(whole["basis"].transpose(1, 0, 2).copy()))
        peer.comp.copy_(torch.from_numpy(whole["coefficients"]))
        peer.root.copy_(torch.from_numpy(whole["root"]))
        peer.bias.copy_(torch.from_numpy(whole["bias"]))
    edge_index = torch.from_numpy(edges[:, [0, 2]].T.copy())
    expected = peer(None, edge_index, torch.from_numpy(edges[:, 1].copy()))
    expected.backward(torch.from_numpy(cotangent))

    graph = build(edges, norm=norm)
    value, pullback = jax.vjp(lambda p: apply(p, graph), restricted(whole, graph))
    (gradient,) = pullback(jnp.asarray(cotangent))

    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-5, atol=1e-5)
    basis_gradient = np.zeros_like(whole["basis"])
    basis_gradient[graph.graph.nodes] = gradient["basis"]
    for name, ours, theirs in [
        ("basis", basis_gradient.transpose(1, 0, 2), peer.weight),
        ("coefficients", gradient["coefficients"], peer.comp),
        ("root", gradient["root"], peer.root),
        ("bias", gradient["bias"], peer.bias),
    ]:
        np.testing.assert_allclose(
            ours, theirs.grad.numpy(), rtol=1e-5, atol=1e-5, err_msg=f"gradient of {name}"
        )


@pytest.mark.parametrize("norm", ["mean", "sum"])
def test_pruning_changes_nothing(norm):
    edges, whole = random_edges(), whole_parameters()
    # Outputs in arbitrary order, with a node that only sends (4) and one without any edge (9).
    edges = edges[(edges[:, 2] != 4) & (edges[:, 2] != 9) & (edges[:, 0] != 9)]
    outputs = np.array([7, 4, 2, 9, 15])
    full, pruned = build(edges, norm=norm), build(edges, outputs, norm=norm)
    assert pruned.graph.n_edge[0] < full.graph.n_edge[0]
    assert len(pruned.graph.nodes) < NUM_NODES

    def gradient(graph, rows):
        return jax.grad(lambda p: jnp.sum(apply(p, graph)[rows] ** 2))(restricted(whole, graph))

    np.testing.assert_allclose(
        apply(restricted(whole, pruned), pruned),
        apply(restricted(whole, full), full)[outputs],
        rtol=1e-6,
        atol=1e-6,
    )
    full_gradient, pruned_gradient = gradient(full, outputs), gradient(pruned, np.arange(5))
    spread = np.zeros_like(whole["basis"])
    spread[pruned.graph.nodes] = pruned_gradient["basis"]
    np.testing.assert_allclose(spread, full_gradient["basis"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        pruned_gradient["coefficients"], full_gradient["coefficients"], rtol=1e-5, atol=1e-4
    )


def test_permuting_nodes_permutes_outputs():
    edges, whole = random_edges(), whole_parameters()
    permutation = np.random.default_rng(3).permutation(NUM_NODES)  # old id -> new id
    moved = edges.copy()
    moved[:, 0], moved[:, 2] = permutation[edges[:, 0]], permutation[edges[:, 2]]
    old_of_new = np.argsort(permutation)
    moved_whole = {
        **whole,
        "basis": whole["basis"][old_of_new],
        "root": whole["root"][old_of_new],
    }
    original, graph = build(edges), build(moved[::-1])
    np.testing.assert_allclose(
        np.asarray(apply(restricted(moved_whole, graph), graph))[permutation],
        apply(restricted(whole, original), original),
        rtol=1e-5,
        atol=1e-5,
    )


def sizes_in(jaxpr):
    """The size of every array that a program computes, also within its loops."""
    for equation in jaxpr.eqns:
        yield from (variable.aval.size for variable in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from sizes_in(inner)


def test_no_array_of_relations_by_nodes_or_of_pairs_by_bases_exists(monkeypatch):
    """The largest intermediate is the basis table or a message per edge, forward and backward."""
    monkeypatch.setattr(rgcn, "CHUNK_SIZE", 7)
    edges, num_relations = random_edges(), 100
    graph = build_relational_graph(edges, num_nodes=NUM_NODES, num_relations=num_relations)
    layer = RGCN(EMBED_DIM, NUM_BASES)
    parameters = layer.init(jax.random.key(0), graph)
    jaxpr = jax.make_jaxpr(jax.grad(lambda p: layer.apply(p, graph).sum()))(parameters)
    bound = max(NUM_NODES * NUM_BASES, len(edges)) * EMBED_DIM
    assert len(graph.pair_senders) * NUM_BASES * EMBED_DIM > bound
    assert num_relations * NUM_NODES * EMBED_DIM > bound
    assert max(sizes_in(jaxpr.jaxpr)) <= bound


# --- a sample of the neighbours ------------------------------------------------------------------


def crowded_edges():
    return random_edges(num_edges=4 * NUM_EDGES)


def groups_of(graph):
    """How many edges each (destination, relation) has."""
    relations = graph.pair_relations[graph.graph.edges["pair"]]
    return collections.Counter(zip(graph.graph.receivers.tolist(), relations.tolist(), strict=True))


def sampled(edges, most, norm="mean", **options):
    return build_relational_graph(
        edges,
        num_nodes=NUM_NODES,
        num_relations=NUM_RELATIONS,
        norm=norm,
        max_neighbors=most,
        **options,
    )


def test_as_many_neighbours_as_there_are_change_nothing():
    edges = crowded_edges()
    found, expected = sampled(edges, len(edges)), build(edges)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_each_node_keeps_so_many_neighbours_of_each_relation(most):
    edges, outputs = crowded_edges(), np.arange(0, NUM_NODES, 2)
    graph, whole = sampled(edges, most, outputs=outputs), build(edges, outputs)
    full = groups_of(whole)
    assert max(full.values()) > 3
    assert groups_of(graph) == {group: min(size, most) for group, size in full.items()}
    nodes, relations = graph.graph.nodes, graph.pair_relations[graph.graph.edges["pair"]]
    kept = zip(
        nodes[graph.graph.senders].tolist(),
        relations.tolist(),
        nodes[graph.graph.receivers].tolist(),
        strict=True,
    )
    assert collections.Counter(kept) <= collections.Counter(map(tuple, edges.tolist()))
    assert set(graph.graph.senders.tolist()) | set(range(len(outputs))) == set(range(len(nodes)))


@pytest.mark.parametrize("norm", ["mean", "sum"])
def test_samples_give_the_whole_graph_on_average(norm, monkeypatch):
    edges, whole = crowded_edges(), whole_parameters()
    expected, draws = dense_oracle(whole, edges, norm), []
    for seed in range(400):
        monkeypatch.setattr(rgcn, "SAMPLE_SEED", seed)
        graph = sampled(edges, 2, norm)
        draws.append(apply(restricted(whole, graph), graph))
    draws = np.asarray(draws)
    error = draws.std(axis=0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - expected) < 5 * error + 1e-4).all()
    assert np.abs(draws[0] - expected).max() > 0.1


def test_a_sample_for_given_senders_keeps_their_places():
    edges, senders = crowded_edges(), np.array([5, 3, 11, 0, 8])
    graph = sampled(edges, 1, outputs=np.array([1, 2, 4]), senders=senders)
    np.testing.assert_array_equal(graph.graph.nodes, senders)
    assert set(groups_of(graph).values()) == {1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "max"}, "expected one of mean, sum, got 'max'"),
        ({"outputs": np.array([1, 1])}, "distinct"),
        ({"outputs": np.array([NUM_NODES])}, "output nodes from 0 to below 23"),
        ({"edges": np.array([[0, NUM_RELATIONS, 1]])}, "edges"),
    ],
)
def test_bad_input_is_named(arguments, message):
    arguments = {"edges": random_edges(), **arguments}
    with pytest.raises(ValueError, match=message):
        build(**arguments)
