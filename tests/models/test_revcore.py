"""RevCore's dialogue model against plain NumPy, and what its reviews change and don't."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conkd_jax.models.kgsf import KGSFSpec
from conkd_jax.models.revcore import RevCore
from tests.models import small_kgsf
from tests.models.numpy_kgsf import oracle
from tests.models.numpy_transformer import embed, encode_states, linear, softmax
from tests.models.small_kgsf import MODEL as KGSF
from tests.models.small_kgsf import NUM_ROWS, NUM_TARGETS, SPEC, draw, make_samples, padded

MODEL = RevCore(SPEC, NUM_ROWS, NUM_TARGETS)
REVIEWS = ([2, 3, 4, 7], [], [0, 5])  # places of each context; the second has no review


@pytest.fixture(scope="module")
def start():
    return MODEL.init(jax.random.key(0))


@pytest.fixture(scope="module")
def params(start):
    """KGSF's parameters of the other tests, and those of the reviews away from their start."""
    rng = np.random.default_rng(3)
    own = jax.tree.map(lambda leaf: leaf + 0.3 * draw(rng, *leaf.shape), start["reviews"])
    return {**small_kgsf.perturbed_params(small_kgsf.initial_params()), "reviews": own}


@pytest.fixture(scope="module")
def samples():
    """KGSF's, with the places of reviews and the words retrieved from them."""
    found = make_samples()
    for sample, places in zip(found, REVIEWS, strict=True):
        sample["context"][places] %= NUM_TARGETS - 10  # words
        retrieved = list(dict.fromkeys(sample["context"][places].tolist()))
        sample |= {"places": places, "retrieved": retrieved}
    return found


def batch(samples, *, context=9, retrieved=4, **lengths):
    inputs = small_kgsf.batch(samples, context=context, **lengths)
    mask = np.zeros((len(samples), context), bool)
    for row, sample in enumerate(samples):
        mask[row, sample["places"]] = True
    ids = padded([sample["retrieved"] for sample in samples], retrieved, -1)
    return {**inputs, "review_mask": mask, "retrieved_ids": ids}


@pytest.fixture(scope="module")
def inputs(samples):
    return batch(samples)


@functools.partial(jax.jit, static_argnums=0)
def states(model, params, inputs, rng=None):
    return model.states(params, inputs, rng)


@pytest.fixture(scope="module")
def features(params, inputs):
    return np.asarray(states(MODEL, params, inputs))


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
    prompt = {name: array for name, array in inputs.items() if name != "response_ids"}
    prompt["first_token"] = inputs["response_ids"][:, 0]
    got, cache = jax.jit(MODEL.open_cache, static_argnums=2)(params, prompt, 8)
    step = jax.jit(MODEL.step)
    np.testing.assert_allclose(got, features[:, 0], atol=1e-5)
    for t in range(1, 5):
        got, cache = step(params, inputs["response_ids"][:, t], cache)
        np.testing.assert_allclose(got, features[:, t], atol=1e-5)


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
