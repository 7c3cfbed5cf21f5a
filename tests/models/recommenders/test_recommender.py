"""The recommender's parts against NumPy, and the properties that the teacher store relies on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conkd_jax.models.recommenders.attention_pooling import AttentionEnergies, attention_pool
from conkd_jax.models.recommenders.gcn import build_normalized_graph
from conkd_jax.models.recommenders.recommender import (
    Contexts,
    Recommender,
    RecommenderGraphs,
    mim_loss,
    recommendation_loss,
)
from conkd_jax.models.recommenders.rgcn import build_relational_graph

NUM_ENTITIES, NUM_RELATIONS, NUM_CONCEPTS, EMBED_DIM = 20, 3, 12, 8
ITEM_ENTITIES = np.array([5, 3, 11, 17])  # in candidate order
OUTPUTS = np.concatenate([ITEM_ENTITIES, [0, 8]])  # two more that can be mentioned
NUM_ITEMS, NUM_OUTPUTS = len(ITEM_ENTITIES), len(OUTPUTS)


def make_graphs(score_over="items", use_concepts=True):
    rng = np.random.default_rng(0)
    edges = np.unique(
        np.stack(
            [rng.integers(n, size=90) for n in (NUM_ENTITIES, NUM_RELATIONS, NUM_ENTITIES)], 1
        ),
        axis=0,
    )
    entities = build_relational_graph(
        edges, num_nodes=NUM_ENTITIES, num_relations=NUM_RELATIONS, outputs=OUTPUTS
    )
    concepts = build_normalized_graph(
        rng.integers(NUM_CONCEPTS, size=(20, 2)), num_nodes=NUM_CONCEPTS
    )
    num_scored = NUM_ITEMS if score_over == "items" else NUM_OUTPUTS
    node_scores = np.where(np.arange(NUM_OUTPUTS) < num_scored, np.arange(NUM_OUTPUTS), -1)
    concepts = concepts if use_concepts else None
    return RecommenderGraphs(
        entities, concepts, np.arange(num_scored), np.arange(NUM_ITEMS), node_scores
    )


CONTEXTS = Contexts(
    entities=np.array([[4, 0, 2], [1, -1, -1], [-1, -1, -1]], np.int32),
    concepts=np.array([[3, 7], [-1, -1], [-1, -1]], np.int32),
)


@pytest.fixture(scope="module")
def fitted():
    """(module, parameters, graphs), with random rather than zero biases."""
    module, graphs = Recommender(EMBED_DIM, num_bases=2), make_graphs()
    parameters = module.init(jax.random.key(0), graphs, CONTEXTS)
    leaves, tree = jax.tree.flatten(parameters)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    drawn = [jax.random.normal(k, x.shape) * 0.3 for k, x in zip(keys, leaves, strict=True)]
    return module, jax.tree.unflatten(tree, drawn), graphs


def call(fitted, method, *arguments, **options):
    module, parameters, _ = fitted
    return module.apply(parameters, *arguments, method=method, **options)


def test_pool_is_a_softmax_over_members_only():
    nodes = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4)), jnp.float32)
    layer = AttentionEnergies(5)
    parameters = layer.init(jax.random.key(0), nodes)
    energies = layer.apply(parameters, nodes)
    a, b = (np.asarray(parameters["params"][name]["kernel"]) for name in "ab")
    np.testing.assert_allclose(energies, (np.tanh(nodes @ a) @ b)[:, 0], rtol=1e-5, atol=1e-6)

    members, mask = jnp.array([[2, 5, 0]]), jnp.array([[True, True, False]])
    weights = np.exp(energies[jnp.array([2, 5])])
    expected = weights / weights.sum() @ nodes[jnp.array([2, 5])]
    np.testing.assert_allclose(
        attention_pool(nodes, energies, members, mask)[0], expected, rtol=1e-5
    )


def test_padding_carries_neither_value_nor_gradient():
    nodes = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4)), jnp.float32)
    energies = jnp.array([0.1, 50.0, -3.0, 0.2, 0.0, 1.0])
    mask = jnp.array([[True, False, True], [False, False, False]])
    one, other = jnp.array([[2, 1, 0], [1, 1, 1]]), jnp.array([[2, 4, 0], [3, 5, 0]])
    np.testing.assert_array_equal(
        attention_pool(nodes, energies, one, mask), attention_pool(nodes, energies, other, mask)
    )
    np.testing.assert_array_equal(attention_pool(nodes, energies, one, mask)[1], np.zeros(4))

    gradients = jax.grad(lambda n, e: attention_pool(n, e, one, mask).sum(), (0, 1))(
        nodes, energies
    )
    assert all(np.isfinite(g).all() for g in gradients)
    assert not gradients[0][1].any() and gradients[1][1] == 0
    assert gradients[0][2].any()


def test_longer_padding_and_order_change_no_user_vector(fitted):
    nodes = call(fitted, "node_vectors", fitted[2])
    padded = Contexts(
        entities=np.pad(CONTEXTS.entities[:, ::-1], ((0, 0), (2, 3)), constant_values=-1),
        concepts=np.pad(CONTEXTS.concepts, ((0, 0), (0, 4)), constant_values=-1),
    )
    np.testing.assert_allclose(
        call(fitted, "user_state", nodes, padded).user_vectors,
        call(fitted, "user_state", nodes, CONTEXTS).user_vectors,
        rtol=1e-5,
        atol=1e-6,
    )


def test_gate_weighs_the_entity_side(fitted):
    """p = β n + (1-β) v with β = σ(w₂(W₁[v; n] + b₁) + b₂), recomputed in NumPy."""
    nodes = call(fitted, "node_vectors", fitted[2])
    state = call(fitted, "user_state", nodes, CONTEXTS)
    n = attention_pool(
        nodes.entities, nodes.entity_energies, CONTEXTS.entities, CONTEXTS.entities >= 0
    )
    v = attention_pool(
        nodes.concepts, nodes.concept_energies, CONTEXTS.concepts, CONTEXTS.concepts >= 0
    )
    hidden, output = (fitted[1]["params"][name] for name in ("gate_hidden", "gate_output"))
    u = np.concatenate([v, n], axis=-1) @ hidden["kernel"] + hidden["bias"]
    beta = 1 / (1 + np.exp(-(u @ output["kernel"] + output["bias"])))
    np.testing.assert_allclose(state.user_vectors, beta * n + (1 - beta) * v, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(state.user_vectors[2], np.zeros(EMBED_DIM))


def test_without_concepts_the_user_is_the_pooled_entities():
    """KBRD: s = H_S t_u + b with t_u = Σ softmax(tanh(h A) b) h, in NumPy; no set, no vector."""
    module, graphs = Recommender(EMBED_DIM, 2), make_graphs("entities", False)
    no_concepts = Contexts(CONTEXTS.entities, np.zeros((3, 0), np.int32))
    parameters = module.init(jax.random.key(0), graphs, no_concepts)
    assert set(parameters["params"]) == {"rgcn", "entity_attention", "head"}
    bias = np.random.default_rng(0).normal(size=NUM_OUTPUTS).astype(np.float32)
    parameters["params"]["head"]["bias"] = jnp.asarray(bias)
    logits, mim = module.apply(parameters, graphs, no_concepts)
    assert mim is None

    nodes = np.asarray(module.apply(parameters, graphs, method="node_vectors").entities)
    a, b = (parameters["params"]["entity_attention"][name]["kernel"] for name in "ab")
    for row, members in enumerate(([4, 0, 2], [1], [])):
        h = nodes[members]
        weights = np.exp(np.tanh(h @ a) @ b)
        user = (weights / weights.sum() * h).sum(0)
        np.testing.assert_allclose(logits[row], nodes @ user + bias, rtol=1e-5, atol=1e-6)

    def loss(p):
        logits, _ = module.apply(p, graphs, no_concepts)
        return recommendation_loss(logits, graphs.item_scores[jnp.array([3, 1, 0])]).sum()

    for path, gradient in jax.tree_util.tree_leaves_with_path(jax.grad(loss)(parameters)):
        assert np.isfinite(gradient).all() and np.any(gradient), jax.tree_util.keystr(path)


@pytest.mark.parametrize(
    "initialization, largest", [("xavier_normal", None), ("xavier_uniform", (12 / 200) ** 0.5)]
)
def test_attention_starts_by_xavier_s_rule(initialization, largest):
    """Variance gain² · 2 / (fan_in + fan_out) with gain² = 2; a uniform draw ends at √3 of that."""
    layer = AttentionEnergies(100, initialization)
    kernel = layer.init(jax.random.key(0), jnp.zeros((1, 100)))["params"]["a"]["kernel"]
    assert np.std(kernel) == pytest.approx((4 / 200) ** 0.5, rel=0.05)
    if largest is None:
        assert np.abs(kernel).max() > (12 / 200) ** 0.5
    else:
        assert np.abs(kernel).max() == pytest.approx(largest, rel=0.01)


@pytest.mark.parametrize("score_over", ["items", "entities"])
def test_item_head_is_the_whole_of_a_prediction(fitted, score_over):
    """user_vector @ kernel + bias are the items' part of the training logits."""
    module, graphs = fitted[0], make_graphs(score_over)
    parameters = module.init(jax.random.key(2), graphs, CONTEXTS)
    logits, _ = module.apply(parameters, graphs, CONTEXTS)
    nodes = module.apply(parameters, graphs, method="node_vectors")
    user = module.apply(parameters, nodes, CONTEXTS, method="user_state").user_vectors
    kernel, bias = module.apply(parameters, nodes, graphs, method="item_head")
    assert kernel.shape == (EMBED_DIM, NUM_ITEMS) and bias.shape == (NUM_ITEMS,)
    assert logits.shape[1] == len(graphs.scored_nodes)
    np.testing.assert_allclose(user @ kernel + bias, logits[:, :NUM_ITEMS], rtol=1e-5, atol=1e-6)


def test_mim_loss_is_the_squared_distance_to_the_multi_hot():
    scores = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    members = np.array([[2, 0, -1], [-1, -1, -1], [4, -1, -1]])
    label = np.array([[1, 0, 1, 0, 0], [0] * 5, [0, 0, 0, 0, 1]])
    expected = ((scores - label) ** 2).sum(-1) * [1, 0, 1]
    np.testing.assert_allclose(mim_loss(jnp.asarray(scores), members), expected, rtol=1e-5)


def test_recommendation_loss_of_uniform_scores_is_log_of_their_number():
    loss = recommendation_loss(jnp.zeros((2, 5)), jnp.array([0, 4]))
    np.testing.assert_allclose(loss, np.log([5, 5]), rtol=1e-6)


def test_dropout_is_for_training_only():
    module = Recommender(EMBED_DIM, 2, user_dropout=0.5, context_dropout=0.5)
    graphs = make_graphs()
    parameters = module.init(jax.random.key(0), graphs, CONTEXTS)

    def logits(seed, deterministic):
        rngs = {"dropout": jax.random.key(seed)}
        return module.apply(parameters, graphs, CONTEXTS, deterministic=deterministic, rngs=rngs)[0]

    np.testing.assert_array_equal(logits(0, True), logits(1, True))
    assert not np.array_equal(logits(0, False), logits(1, False))


def test_every_parameter_is_trained(fitted):
    module, parameters, graphs = fitted

    def loss(p):
        logits, mim = module.apply(p, graphs, CONTEXTS)
        members = np.where(CONTEXTS.entities >= 0, graphs.node_scores[CONTEXTS.entities], -1)
        targets = jnp.array([3, 1, 0])
        return recommendation_loss(logits, targets).sum() + mim_loss(mim, members).sum()

    for path, gradient in jax.tree_util.tree_leaves_with_path(jax.grad(loss)(parameters)):
        assert np.isfinite(gradient).all() and np.any(gradient), jax.tree_util.keystr(path)
