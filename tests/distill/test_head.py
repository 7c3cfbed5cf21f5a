"""The head is an affine map with sums in float32; a switch and retrieved words add terms to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conkd_jax.distill.head import Head, Retrieved, Switch


def random_head(num_features=6, num_targets=11, dtype=jnp.float32):
    kernel, bias = jax.random.split(jax.random.key(0))
    return Head(
        jax.random.normal(kernel, (num_features, num_targets), dtype),
        jax.random.normal(bias, (num_targets,), dtype),
    )


@pytest.mark.parametrize("leading", [(), (4,), (2, 3)])
def test_logits_are_affine_in_the_features(leading):
    head = random_head()
    features = jax.random.normal(jax.random.key(1), (*leading, 6))
    expected = np.asarray(features) @ np.asarray(head.kernel) + np.asarray(head.bias)
    np.testing.assert_allclose(head.logits(features), expected, rtol=1e-5, atol=1e-5)


def test_bfloat16_features_of_a_float32_head_are_widened():
    head = random_head()
    features = jax.random.normal(jax.random.key(1), (4, 6)).astype(jnp.bfloat16)
    logits = head.logits(features)
    assert logits.dtype == jnp.float32
    np.testing.assert_array_equal(logits, head.logits(features.astype(jnp.float32)))


def test_bfloat16_products_are_summed_in_float32():
    head = Head(jnp.ones((1024, 3), jnp.bfloat16), jnp.zeros(3, jnp.bfloat16))
    features = jnp.ones((1, 1024), jnp.bfloat16).at[0, 0].set(0.5)
    logits = head.logits(features)
    assert logits.dtype == jnp.float32
    np.testing.assert_array_equal(logits, jnp.full((1, 3), 1023.5))  # not representable in bfloat16


def switched_head(num_words=7):
    kernel = jax.random.normal(jax.random.key(2), (6,))
    return random_head()._replace(switch=Switch(kernel, jnp.float32(0.3), num_words))


def test_a_switch_factors_the_softmax_into_class_and_member():
    head, features = switched_head(), jax.random.normal(jax.random.key(1), (4, 6))
    z = np.asarray(random_head().logits(features), np.float64)
    switch = np.asarray(features, np.float64) @ np.asarray(head.switch.kernel) + 0.3
    is_item = 1 / (1 + np.exp(-switch))[:, None]
    words = np.exp(z[:, :7]) / np.exp(z[:, :7]).sum(1, keepdims=True)
    items = np.exp(z[:, 7:]) / np.exp(z[:, 7:]).sum(1, keepdims=True)
    expected = np.concatenate([(1 - is_item) * words, is_item * items], axis=1)
    np.testing.assert_allclose(np.exp(head.logits(features)), expected, rtol=1e-5)
    np.testing.assert_allclose(expected.sum(1), 1, rtol=1e-12)


def test_an_item_offset_shifts_the_log_odds_of_an_item_under_a_switch():
    features = jax.random.normal(jax.random.key(1), (4, 6))

    def log_odds(head):
        probs = jnp.exp(head.logits(features))
        return jnp.log(probs[:, 7:].sum(1) / probs[:, :7].sum(1))

    head = switched_head()
    shifted = head.with_item_offset(7, 1.5)
    np.testing.assert_allclose(log_odds(shifted) - log_odds(head), 1.5, rtol=1e-4)


def retrieving_head():
    keys = jax.random.split(jax.random.key(3))
    term = Retrieved(jax.random.normal(keys[0], (2, 11)), jax.random.normal(keys[1], (11,)))
    return random_head()._replace(retrieved=term)


def test_retrieved_words_get_the_additional_term_and_no_other_target_does():
    head, features = retrieving_head(), jax.random.normal(jax.random.key(1), (3, 8))
    ids = np.array([[4, 0, -1], [-1, -1, -1], [6, 2, 1]])
    got = np.asarray(head.logits(features, jnp.asarray(ids)))
    expected = np.array(random_head().logits(features[:, :6]))
    term = np.asarray(features)[:, 6:] @ np.asarray(head.retrieved.kernel)
    term += np.asarray(head.retrieved.bias)
    for row, of_row in enumerate(ids):
        for word in of_row[of_row >= 0]:
            expected[row, word] += term[row, word]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    batched = head.logits(features[None], jnp.asarray(ids)[None])
    np.testing.assert_allclose(batched[0], got, rtol=1e-6)


def test_retrieved_words_must_be_given():
    with pytest.raises(ValueError, match="`retrieved_ids` must be given"):
        retrieving_head().logits(jnp.zeros((3, 8)))


@pytest.mark.parametrize("head", [switched_head(), retrieving_head()])
def test_neither_term_changes_the_order_of_items(head):
    features = jax.random.normal(jax.random.key(1), (4, head.num_features))
    ids = jnp.array([[0, 3], [1, -1], [2, 5], [-1, -1]])
    whole = head.logits(features, ids)[:, 7:]
    alone = head.items(7).logits(features[:, :6])
    np.testing.assert_array_equal(jnp.argsort(whole), jnp.argsort(alone))


def test_num_targets_is_the_width_of_the_kernel():
    assert random_head(num_targets=9).num_targets == 9
