"""The turn classifier: padding changes nothing, and the model learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from conkd_jax.models.turn_classifier import GEN, REC, TurnClassifier

MODEL = TurnClassifier(vocab=50, embed_dim=16, mlp_dim=24, num_positions=20)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def variables():
    ids = jnp.zeros((1, 4), jnp.int32)
    return jax.jit(MODEL.init)(jax.random.key(0), ids, jnp.ones((1, 4), bool))


@jax.jit
def logits(variables, ids, mask):
    return MODEL.apply(variables, ids, mask)


def test_default_sizes_are_the_specified_ones():
    shapes = jax.eval_shape(
        TurnClassifier(vocab=128).init,
        jax.random.key(0),
        jnp.zeros((1, 4), jnp.int32),
        jnp.ones((1, 4), bool),
    )["params"]
    assert set(shapes) == {"tokens", "positions", "layer_0", "layer_1", "classifier"}
    assert shapes["tokens"]["embedding"].shape == (128, 300)
    assert shapes["layer_1"]["attention"]["query"]["kernel"].shape == (300, 2, 150)
    assert shapes["layer_1"]["linear_1"]["kernel"].shape == (300, 300)
    assert shapes["classifier"]["kernel"].shape == (300, 2)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(variables, rng, side):
    ids = rng.integers(0, 50, (3, 6), dtype=np.int32)
    plain = logits(variables, ids, np.ones((3, 6), bool))
    noise = rng.integers(0, 50, (3, 5), dtype=np.int32)
    pieces = [(noise, np.zeros((3, 5), bool)), (ids, np.ones((3, 6), bool))]
    if side == "right":
        pieces.reverse()
    padded, mask = (np.concatenate(arrays, axis=1) for arrays in zip(*pieces, strict=True))
    np.testing.assert_allclose(logits(variables, padded, mask), plain, atol=1e-5)


def test_order_of_tokens_matters(variables, rng):
    ids = rng.integers(0, 50, (3, 6), dtype=np.int32)
    mask = np.ones((3, 6), bool)
    difference = logits(variables, ids, mask) - logits(variables, ids[:, ::-1], mask)
    assert np.abs(difference).min() > 1e-5


def test_empty_context_is_finite(variables):
    result = logits(variables, np.zeros((2, 4), np.int32), np.zeros((2, 4), bool))
    assert np.isfinite(result).all()


def test_dropout_needs_a_key_and_changes_the_logits(variables, rng):
    ids, mask = rng.integers(0, 50, (3, 6), dtype=np.int32), np.ones((3, 6), bool)

    @jax.jit
    def dropped(key):
        return MODEL.apply(variables, ids, mask, deterministic=False, rngs={"dropout": key})

    first, second = dropped(jax.random.key(0)), dropped(jax.random.key(1))
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(first, dropped(jax.random.key(0)))


def test_longer_than_positions_is_refused(variables):
    with pytest.raises(ValueError, match="21 tokens is longer than the classifier's 20 positions"):
        MODEL.apply(variables, np.zeros((1, 21), np.int32), np.ones((1, 21), bool))


def test_learns_what_the_last_tokens_say(variables, rng):
    """The label depends on the last token alone, so positions and attention have to be used."""
    lengths = rng.integers(4, 12, 256)
    mask = np.arange(12) < lengths[:, None]
    ids = rng.integers(0, 50, (256, 12), dtype=np.int32)
    labels = np.where(ids[np.arange(256), lengths - 1] < 25, GEN, REC)
    optimizer = optax.adam(3e-3)

    def loss(params):
        scores = MODEL.apply({"params": params}, ids, mask)
        return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()

    @jax.jit
    def train(params):
        def step(state, _):
            params, moments = state
            updates, moments = optimizer.update(jax.grad(loss)(params), moments)
            return (optax.apply_updates(params, updates), moments), None

        return jax.lax.scan(step, (params, optimizer.init(params)), length=60)[0][0]

    params = train(variables["params"])
    accuracy = (logits({"params": params}, ids, mask).argmax(-1) == labels).mean()
    assert accuracy > 0.95
