"""RevCore's dialogue model against plain NumPy, and what its reviews change and don't."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conkd_jax.models.kgsf import KGSFSpec
from conkd_jax.models.revcore import RevCore
from tests.models import small_kgsf, small_revcore
from tests.models.backbone_model import check_steps_equal_teacher_forcing, states
from tests.models.numpy_kgsf import oracle
from tests.models.numpy_transformer import embed, encode_states, linear, softmax
from tests.models.small_kgsf import MODEL as KGSF
from tests.models.small_kgsf import NUM_ROWS, NUM_TARGETS, SPEC
from tests.models.small_revcore import MODEL, batch

SMALL = small_revcore


def logits_of(params, features, inputs):
    ids = np.repeat(inputs["retrieved_ids"][:, None], features.shape[1], axis=1)
    return MODEL.head(params, NUM_TARGETS).logits(jnp.asarray(features), jnp.asarray(ids))


def third_term(params, sample, decoded):
    """(r, W_R c'_t + b_R on the retrieved words, 0 elsewhere [T, Y]) of one sample."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    own, places = params["reviews"], sample["places"]
    pooled = np.zeros(SPEC.embed_dim)
    if places:
        encoded = encode_states(params, embed(params, sample["context"])[places], SPEC.num_layers)
        hidden = np.tanh(encoded @ own["attention"]["a"]["kernel"])
        pooled = softmax((hidden @ own["attention"]["b"]["kernel"])[:, 0]) @ encoded
    copied = np.stack([linear(own["copy_state"], np.concatenate([pooled, s])) for s in decoded])
    mask = np.isin(np.arange(NUM_TARGETS), sample["retrieved"])
    return copied, (copied @ own["copy_kernel"] + own["copy_bias"]) * mask


def test_logits_are_the_sum_of_three_terms(params, samples, inputs, features):
    """Samples are padded in the batch and unpadded in the oracle."""
    logits = logits_of(params, features, inputs)
    width = SPEC.embed_dim
    for row, sample in enumerate(samples):
        decoded, copied, two_terms = oracle(params, sample)
        review_state, third = third_term(params, sample, decoded)
        np.testing.assert_allclose(features[row, :, :width], decoded, atol=1e-5)
        np.testing.assert_allclose(features[row, :, width : 2 * width], copied, atol=2e-5)
        np.testing.assert_allclose(features[row, :, 2 * width :], review_state, atol=2e-5)
        np.testing.assert_allclose(logits[row], two_terms + third, atol=1e-4)
        assert (np.abs(third).max() > 0.1) == bool(sample["places"])


def test_without_reviews_it_is_kgsf(params, samples):
    bare = batch([{**sample, "places": [], "retrieved": []} for sample in samples])
    kgsf = {name: leaf for name, leaf in params.items() if name != "reviews"}
    plain = states(KGSF, kgsf, bare)
    got = states(MODEL, params, bare)
    np.testing.assert_allclose(got[..., : plain.shape[-1]], plain, atol=1e-6)
    expected = KGSF.head(kgsf, NUM_TARGETS).logits(plain)
    np.testing.assert_allclose(logits_of(params, got, bare), expected, atol=1e-5)


def test_steps_equal_teacher_forcing(params, inputs, features):
    check_steps_equal_teacher_forcing(MODEL, params, inputs, features)


def test_padding_changes_nothing(params, samples, inputs, features):
    sizes = {"context": 13, "response": 8, "entities": 6, "concepts": 5, "retrieved": 7}
    wider = batch(samples, **sizes, fill=17)
    got = states(MODEL, params, wider)[:, :5]
    np.testing.assert_allclose(got, features, atol=1e-5)
    np.testing.assert_allclose(
        logits_of(params, got, wider), logits_of(params, features, inputs), atol=1e-4
    )


def test_reviews_are_read_alone_and_only_they(params, inputs, features):
    """r depends on the tokens of reviews and not on the rest of the context."""
    mask, width = inputs["review_mask"], SPEC.embed_dim

    def pooled(ids):
        return np.asarray(MODEL._pooled(params, {**inputs, "context_ids": ids}, None))

    ids = inputs["context_ids"]
    np.testing.assert_allclose(pooled(np.where(mask, ids, 39 - ids)), pooled(ids), atol=1e-6)
    moved = np.abs(pooled(np.where(mask, 39 - ids, ids)) - pooled(ids)).max(axis=1)
    assert (moved > 1e-3).tolist() == [True, False, True]
    other = {**inputs, "review_mask": np.zeros_like(mask)}
    changed = np.abs(states(MODEL, params, other) - features).max(axis=(0, 1))
    np.testing.assert_array_equal(changed[: 2 * width], 0)  # KGSF's own states read them as text
    assert changed[2 * width :].max() > 1e-3


@pytest.fixture(scope="module")
def gradients(params, samples):
    filled = batch([*samples, {name: [] for name in samples[0]}])

    @jax.jit
    @functools.partial(jax.grad, allow_int=True)
    def gradient(params):
        return jnp.square(logits_of(params, MODEL.states(params, filled), filled)).sum()

    return gradient(params)


def test_gradients_reach_what_is_trained_and_nothing_that_is_frozen(params, gradients):
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if name.startswith("graph."):
            if leaf.dtype == np.float32:
                np.testing.assert_array_equal(leaf, 0, err_msg=name)
        elif not name.endswith("key.bias"):
            assert np.isfinite(leaf).all(), name
            assert np.abs(leaf).max() > 1e-3, f"no gradient reaches {name}"


def test_words_that_were_not_retrieved_get_no_third_term(samples, gradients):
    retrieved = {word for sample in samples for word in sample["retrieved"]}
    found = np.flatnonzero(np.abs(gradients["reviews"]["copy_bias"]))
    assert set(found.tolist()) == retrieved


def test_dropout_is_a_function_of_its_key(params, inputs, features):
    first = states(MODEL, params, inputs, jax.random.key(0))
    np.testing.assert_array_equal(first, states(MODEL, params, inputs, jax.random.key(0)))
    own = np.abs(first - states(MODEL, params, inputs, jax.random.key(1)))[..., -SPEC.embed_dim :]
    assert own.max() > 1e-2


def test_sizes_and_start(start):
    shapes = jax.eval_shape(RevCore(KGSFSpec(), 23_932, 23_929).init, jax.random.key(0))
    assert shapes["reviews"]["attention"]["a"]["kernel"].shape == (300, 300)
    assert shapes["reviews"]["copy_state"]["kernel"].shape == (600, 300)
    assert shapes["reviews"]["copy_kernel"].shape == (300, 23_929)
    plain = small_kgsf.initial_params()
    assert set(start) == {*plain, "reviews"}
    for one, other in zip(
        jax.tree.leaves(plain),
        jax.tree.leaves({name: start[name] for name in plain}),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    vectors = np.ones((NUM_ROWS, SPEC.embed_dim), np.float32)
    given = MODEL.init(jax.random.key(0), vectors)
    np.testing.assert_array_equal(given["tokens"]["embedding"], vectors)
    assert {leaf.dtype for leaf in jax.tree.leaves(start)} == {np.dtype(np.float32)}
