"""The head is an affine map with sums in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conkd_jax.distill.head import Head, spread_over_targets


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


def test_two_values_are_spread_over_words_and_items():
    spread = spread_over_targets(jnp.array([[1.0, 2.0], [3.0, 4.0]]), num_words=3, num_targets=5)
    np.testing.assert_array_equal(spread, [[1, 1, 1, 2, 2], [3, 3, 3, 4, 4]])


def test_num_targets_is_the_width_of_the_kernel():
    assert random_head(num_targets=9).num_targets == 9
