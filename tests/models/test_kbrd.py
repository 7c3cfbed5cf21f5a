"""KBRD's dialogue model against plain NumPy; what padding, caches and the graph may change."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conkd_jax.models.kbrd import KBRD, KBRDSpec
from tests.models import small_kbrd
from tests.models.backbone_model import (
    check_no_token_looks_ahead,
    check_steps_equal_teacher_forcing,
    states,
)
from tests.models.numpy_transformer import decode, encode, linear, pooled
from tests.models.small_kbrd import (
    MODEL,
    NUM_TARGETS,
    SPEC,
    WITHOUT_NODES,
    batch,
)

SMALL = small_kbrd


def oracle(params, sample):
    """(decoder states [T, D], vocabulary bias [Y], logits [T, Y]) of one sample, term by term."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    graph = params["graph"]
    rows = graph["entity_rows"][sample["entities"]].astype(int)
    user = pooled(graph["entities"][rows], graph["entity_energies"][rows])  # t_u
    hidden = np.maximum(linear(params["bias_hidden"], user), 0)
    bias = hidden @ params["bias_kernel"] + params["bias"]  # b_u
    context = encode(params, sample["context"], SPEC.num_layers)
    decoded = decode(params, sample["response"], [context], SPEC.num_layers)
    words = decoded @ params["tokens"]["embedding"][:NUM_TARGETS].T
    return decoded, bias, words + bias


def test_features_and_logits_follow_the_formulas(params, samples, features):
    """Samples are padded in the batch and unpadded in the oracle."""
    logits = MODEL.head(params, NUM_TARGETS).logits(jnp.asarray(features))
    for row, sample in enumerate(samples):
        decoded, _, expected = oracle(params, sample)
        np.testing.assert_allclose(features[row, :, : SPEC.embed_dim], decoded, atol=1e-5)
        np.testing.assert_allclose(logits[row], expected, atol=1e-4)


def test_the_bias_is_the_same_at_every_step(params, samples, inputs, features):
    """And another user changes the logits by the difference of the two biases, nothing else."""
    head = MODEL.head(params, NUM_TARGETS)
    other = {**inputs, "entities": np.roll(inputs["entities"], 1, axis=0)}
    change = head.logits(states(MODEL, params, other)) - head.logits(jnp.asarray(features))
    biases = [oracle(params, sample)[1] for sample in samples]
    for row in range(3):
        expected = biases[row - 1] - biases[row]
        assert np.abs(expected).max() > 1e-2
        np.testing.assert_allclose(change[row], np.tile(expected, (5, 1)), atol=1e-4)


def test_steps_equal_teacher_forcing(params, inputs, features):
    check_steps_equal_teacher_forcing(MODEL, params, inputs, features)


@pytest.mark.parametrize("unknown", [[], WITHOUT_NODES[:2]], ids=["padding", "unknown entities"])
def test_padding_and_what_the_graph_lacks_change_nothing(params, samples, features, unknown):
    wider = [{**sample, "entities": [*sample["entities"], *unknown]} for sample in samples]
    got = states(MODEL, params, batch(wider, context=13, response=8, entities=6, fill=17))
    np.testing.assert_allclose(got[:, :5], features, atol=1e-5)


def test_a_dialogue_that_mentions_nothing_has_the_bias_of_a_zero_user(params, samples, features):
    none = states(MODEL, params, batch([{**s, "entities": []} for s in samples], entities=0))
    hidden = np.maximum(params["bias_hidden"]["bias"], 0)
    np.testing.assert_allclose(none[..., SPEC.embed_dim :], np.tile(hidden, (3, 5, 1)), atol=1e-6)
    np.testing.assert_allclose(none[1], features[1], atol=1e-5)


@pytest.mark.parametrize("name", ["context_ids", "response_ids"])
def test_words_reach_the_decoder_s_states_alone(params, inputs, features, name):
    other = {**inputs, name: np.roll(inputs[name], 1, axis=0)}
    changed = np.abs(states(MODEL, params, other) - features)
    assert (changed[..., : SPEC.embed_dim].max(axis=(1, 2)) > 1e-3).all()
    assert not changed[..., SPEC.embed_dim :].any()


def test_no_token_looks_ahead(params, inputs, features):
    check_no_token_looks_ahead(MODEL, params, inputs, features)


def test_gradients_reach_what_is_trained_and_nothing_that_is_frozen(params, samples):
    """Finite even with a row of padding alone."""
    filled = batch([*samples, {name: [] for name in samples[0]}])

    @jax.jit
    @functools.partial(jax.grad, allow_int=True)
    def gradients_of(params):
        features = MODEL.states(params, filled)
        return jnp.square(MODEL.head(params, NUM_TARGETS).logits(features)).sum()

    gradients = gradients_of(params)
    for name in ("entities", "entity_energies"):
        np.testing.assert_array_equal(gradients["graph"][name], 0)
    trained = {name: leaf for name, leaf in gradients.items() if name != "graph"}
    for path, leaf in jax.tree_util.tree_leaves_with_path(trained):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        assert np.isfinite(leaf).all(), name
        if not name.endswith("key.bias"):  # it shifts all scores of a query equally
            assert np.abs(leaf).max() > 1e-3, f"no gradient reaches {name}"


def test_dropout_is_a_function_of_its_key(params, inputs, features):
    first = states(MODEL, params, inputs, jax.random.key(0))
    np.testing.assert_array_equal(first, states(MODEL, params, inputs, jax.random.key(0)))
    assert np.abs(first - states(MODEL, params, inputs, jax.random.key(1))).max() > 1e-2
    assert np.abs(first - features).max() > 1e-2


def test_default_sizes_are_kbrds():
    shapes = jax.eval_shape(KBRD(KBRDSpec(), 23_932, 23_929).init, jax.random.key(0))
    assert set(shapes) == {
        *("tokens", "encoder_0", "encoder_1", "decoder_0", "decoder_1"),
        *("bias_hidden", "bias_kernel", "bias"),
    }
    assert shapes["bias_hidden"]["kernel"].shape == (128, 512)
    assert shapes["bias_kernel"].shape == (512, 23_929)
    assert set(shapes["decoder_0"]) >= {"memory_attention_0"}
    assert "memory_attention_1" not in shapes["decoder_0"]  # the context alone
    assert shapes["encoder_1"]["attention"]["query"]["kernel"].shape == (300, 2, 150)
    drawn = MODEL.init(jax.random.key(0))["tokens"]["embedding"]
    assert np.std(drawn) == pytest.approx(12**-0.5, rel=0.1)


def test_what_does_not_fit_is_refused(params):
    with pytest.raises(ValueError, match="head onto 30 targets, .* KBRD's output layer, got 31"):
        MODEL.head(params, 31)
    with pytest.raises(ValueError, match="KBRD.num_targets = 50 exceeds num_rows = 40"):
        KBRD(SPEC, 40, 50)
