"""The gates of eqs. 6 and 7, and how a config names a gate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from conkd_jax.distill.gates import (
    GATES,
    constant_gate,
    gate_values,
    hard_gate,
    item_mass,
    make_gate,
    register_gate,
    soft_gate,
)
from conkd_jax.distill.head import Head
from conkd_jax.distill.teachers import TeacherFeatures, TeacherLogits, TeacherTopK

MASSES = jnp.array([0.0, 0.3, 0.6, 1.0])
logits_7 = arrays(np.float32, (2, 7), elements=st.floats(-50, 50, width=32))


def cubed_gate(mass):
    """A gate as a user might define it outside the package."""
    return mass**3


def doubled_gate(mass):
    return 2 * mass


def summed_gate(mass):
    return mass.sum()


@settings(deadline=None, max_examples=50)  # the first example compiles
@given(logits_7)
def test_item_mass_is_the_softmax_mass_of_items(logits):
    expected = jax.nn.softmax(jnp.asarray(logits), axis=-1)[:, 4:].sum(-1)
    np.testing.assert_allclose(item_mass(jnp.asarray(logits), 4), expected, atol=1e-6)


@settings(deadline=None, max_examples=50)  # the first example compiles
@given(logits_7, st.integers(1, 6))
def test_item_mass_is_a_probability_and_ignores_a_shift(logits, num_words):
    logits = jnp.asarray(logits)
    mass = item_mass(logits, num_words)
    assert np.all((mass >= 0) & (mass <= 1))
    # The shift itself rounds the logits, by up to 4e-6.
    np.testing.assert_allclose(mass, item_mass(logits + 30, num_words), atol=3e-5)


@pytest.mark.parametrize("excluded", [-1e9, -jnp.inf])
def test_item_mass_is_exact_where_words_or_items_are_excluded(excluded):
    logits = jnp.zeros((2, 5)).at[0, :3].set(excluded).at[1, 3:].set(excluded)
    np.testing.assert_array_equal(item_mass(logits, 3), [1.0, 0.0])


def test_item_mass_of_large_logits_does_not_overflow():
    logits = jnp.array([[1e4, 1e4 - 1, 1e4]])
    expected = 1 / (2 + np.exp(-1.0))
    np.testing.assert_allclose(item_mass(logits, 2), [expected], rtol=1e-6)


def test_item_mass_is_float32_for_bfloat16_logits():
    logits = jnp.array([[0.0, 1.0, 2.0]], jnp.bfloat16)
    assert item_mass(logits, 2).dtype == jnp.float32


def test_item_mass_takes_any_leading_shape():
    logits = jax.random.normal(jax.random.key(0), (2, 3, 5))
    assert item_mass(logits, 2).shape == (2, 3)
    np.testing.assert_allclose(item_mass(logits, 2)[1], item_mass(logits[1], 2), rtol=1e-6)


def test_hard_gate_opens_at_eta_itself():
    eta = 0.6
    below, at = np.nextafter(np.float32(eta), np.float32(0)), np.float32(eta)
    np.testing.assert_array_equal(hard_gate(jnp.array([below, at]), eta=eta), [0.0, 1.0])


# XLA flushes subnormal numbers to zero, NumPy does not.
probabilities = st.floats(0, 1, width=32, allow_subnormal=False)


@settings(deadline=None, max_examples=50)  # the first example compiles
@given(arrays(np.float32, 9, elements=probabilities), probabilities)
def test_hard_gate_is_eq_6(mass, eta):
    np.testing.assert_array_equal(hard_gate(jnp.asarray(mass), eta=eta), mass >= np.float32(eta))


def test_hard_gate_at_the_ends_of_eta():
    np.testing.assert_array_equal(hard_gate(MASSES, eta=0.0), jnp.ones(4))
    np.testing.assert_array_equal(hard_gate(MASSES, eta=1.0), [0, 0, 0, 1])


def test_soft_gate_is_the_mass():
    np.testing.assert_array_equal(soft_gate(MASSES), MASSES)


def test_constant_gate_ignores_the_mass():
    np.testing.assert_array_equal(constant_gate(MASSES, value=0.5), jnp.full(4, 0.5))


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("hard", {"eta": 1.5}),
        ("hard", {"eta": -0.1}),
        ("hard", {"eta": float("nan")}),
        ("constant", {"value": 2.0}),
    ],
)
def test_a_parameter_that_is_not_a_probability_is_refused(name, params):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        make_gate(name, **params)


@pytest.mark.parametrize(
    ("name", "params", "function"),
    [
        ("hard", {"eta": 0.6}, hard_gate),
        ("soft", {}, soft_gate),
        ("constant", {"value": 0.5}, constant_gate),
    ],
)
def test_make_gate_is_the_function_with_its_parameters(name, params, function):
    np.testing.assert_array_equal(make_gate(name, **params)(MASSES), function(MASSES, **params))


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("hrad", {}, "Known gates: constant, hard, oracle, soft"),
        ("hard", {}, "called with .* failed: .*eta"),
        ("soft", {"eta": 0.5}, "called with .* failed: .*eta"),
        ("no_such_package:gate", {}, "No gate was found"),
        (f"{__name__}:no_such_gate", {}, "No gate was found"),
        (f"{__name__}:summed_gate", {}, "must return one float32 for each mass"),
        (f"{__name__}:doubled_gate", {}, "must return numbers from 0 to 1.*returned .*2.0"),
        (f"{__name__}:MASSES", {}, "expected a function, written with def"),
        ("functools:partial", {}, "is a type; expected a function"),
    ],
)
def test_make_gate_says_what_is_wrong(name, params, message):
    with pytest.raises(ValueError, match=message):
        make_gate(name, **params)


def test_make_gate_finds_a_function_of_another_module():
    gate = make_gate("jax.numpy:square")
    np.testing.assert_array_equal(gate(MASSES), MASSES**2)


def test_a_new_gate_is_one_function():
    register_gate("cubed")(cubed_gate)
    try:
        np.testing.assert_array_equal(make_gate("cubed")(MASSES), MASSES**3)
        with pytest.raises(ValueError, match="exists already"):
            register_gate("cubed")(cubed_gate)
    finally:
        del GATES["cubed"]


def test_gates_are_jittable():
    for name, params in [("hard", {"eta": 0.6}), ("soft", {}), ("constant", {"value": 0.5})]:
        gate = make_gate(name, **params)
        np.testing.assert_array_equal(jax.jit(gate)(MASSES), gate(MASSES))


def test_the_oracle_gate_is_one_exactly_on_items():
    is_item = jnp.array([True, False, False, True])
    gate = make_gate("oracle")
    found = jax.jit(gate)(MASSES, is_item=is_item)
    np.testing.assert_array_equal(found, [1, 0, 0, 1])
    assert found.dtype == MASSES.dtype
    teacher = TeacherLogits(jnp.zeros((4, 5)))
    np.testing.assert_array_equal(gate_values(gate, MASSES, teacher, 5, is_item), found)


def surprised_gate(mass, *, log_probs):
    """Reads mass and distribution, so that a mismatch between their rows changes the result."""
    return mass * (1 - jnp.exp(jnp.max(log_probs, axis=-1)))


@pytest.mark.parametrize("num_tokens", [7, 64, 512, 640])
def test_a_gate_that_reads_the_distribution_gets_that_of_each_token(num_tokens):
    """Chunks give the same as all tokens at once, from features and from logits."""
    keys = jax.random.split(jax.random.key(0), 2)
    features = jax.random.normal(keys[0], (num_tokens, 3))
    head = Head(jax.random.normal(keys[1], (3, 5)), jnp.arange(5.0))
    logits = head.logits(features)
    mass = item_mass(logits, 2)
    expected = surprised_gate(mass, log_probs=jax.nn.log_softmax(logits, axis=-1))
    gate = make_gate(f"{__name__}:surprised_gate")
    is_item = jnp.arange(num_tokens) % 3 == 1
    for teacher in (TeacherFeatures(features, head), TeacherLogits(logits)):
        found = gate_values(gate, mass, teacher, 5, is_item)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    teacher = TeacherLogits(logits)
    np.testing.assert_array_equal(gate_values(soft_gate, mass, teacher, 5, is_item), mass)
    both = gate_values(make_gate(f"{__name__}:surprised_by_items_gate"), mass, teacher, 5, is_item)
    np.testing.assert_allclose(both, jnp.where(is_item, expected, 0), rtol=1e-5)


def test_the_most_probable_targets_are_no_distribution():
    log_probs, token_ids = jax.lax.top_k(jax.nn.log_softmax(jnp.arange(10.0).reshape(2, 5)), 2)
    teacher, mass, is_item = TeacherTopK(token_ids, log_probs), jnp.ones(2), jnp.zeros(2, bool)
    with pytest.raises(ValueError, match="needs the whole distribution"):
        gate_values(make_gate(f"{__name__}:surprised_gate"), mass, teacher, 5, is_item)
    np.testing.assert_array_equal(gate_values(soft_gate, mass, teacher, 5, is_item), mass)


def surprised_by_items_gate(mass, *, log_probs, is_item):
    return jnp.where(is_item, surprised_gate(mass, log_probs=log_probs), 0)


def entropy_gate(mass, *, log_probs):
    entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
    return mass * entropy / jnp.log(log_probs.shape[-1])


def test_a_probability_that_underflows_adds_no_nan_to_an_entropy():
    logits = jnp.array([[0.0, -200.0, -1e9]])
    gate = make_gate(f"{__name__}:entropy_gate")
    found = gate_values(gate, jnp.ones(1), TeacherLogits(logits), 3, jnp.zeros(1, bool))
    np.testing.assert_allclose(found, 0, atol=1e-6)
