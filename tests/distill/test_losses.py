"""The reference form of eqs. 8 to 11, and the identity that turns them into one cross-entropy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.distill.losses import (
    dialogue_kd,
    embed_in_targets,
    gated_kd_loss,
    mixture_target,
    nll,
    rec_kd,
)

V, I = 7, 5  # noqa: E741 (the letters of the paper)
Y = V + I


def problem(seed=0, num_tokens=6, scale=3.0, dtype=np.float32):
    """Random logits of student, dialogue teacher and recommender, with labels and a gate."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(scale * rng.standard_normal(shape), dtype)  # noqa: E731
    return {
        "logits": normal(num_tokens, Y),
        "labels": jnp.asarray(rng.integers(0, Y, num_tokens), jnp.int32),
        "teacher_logits": normal(num_tokens, Y),
        "rec_logits": normal(num_tokens, I),
        "gate": jnp.asarray(rng.random(num_tokens), dtype),
    }


def by_hand(p, gamma):
    """Eqs. 8 to 11 in plain NumPy loops, float64."""

    def log_softmax(row):
        row = np.asarray(row, np.float64)
        return row - row.max() - np.log(np.exp(row - row.max()).sum())

    losses = []
    for t in range(len(p["labels"])):
        student = log_softmax(p["logits"][t])
        dialogue = np.exp(log_softmax(p["teacher_logits"][t]))
        rec = np.exp(log_softmax(p["rec_logits"][t]))
        loss_nll = -student[int(p["labels"][t])]
        loss_dialogue_kd = -sum(dialogue[k] * student[k] for k in range(Y))
        loss_rec_kd = -sum(rec[i] * student[V + i] for i in range(I))
        loss_dialogue = (1 - gamma) * loss_nll + gamma * loss_dialogue_kd
        loss_rec = (1 - gamma) * loss_nll + gamma * loss_rec_kd
        gate = float(p["gate"][t])
        losses.append((1 - gate) * loss_dialogue + gate * loss_rec)
    return np.array(losses)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_loss_is_the_equations_by_hand(seed, gamma):
    p = problem(seed)
    loss = gated_kd_loss(**p, gamma=gamma, num_words=V)
    np.testing.assert_allclose(loss, by_hand(p, gamma), rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_one_cross_entropy_against_the_mixture_is_eqs_8_to_11(seed, gamma):
    with jax.enable_x64(True):
        p = problem(seed, dtype=np.float64)

        def mixture_loss(logits):
            target = mixture_target(
                p["labels"],
                jax.nn.log_softmax(p["teacher_logits"]),
                jax.nn.log_softmax(p["rec_logits"]),
                p["gate"],
                gamma,
                V,
            )
            return jax.nn.logsumexp(logits, axis=-1) - jnp.sum(target * logits, axis=-1), target

        loss, target = mixture_loss(p["logits"])
        printed = gated_kd_loss(**p, gamma=gamma, num_words=V)
        assert printed.dtype == jnp.float64
        np.testing.assert_allclose(target.sum(-1), 1.0, atol=1e-12)
        np.testing.assert_allclose(loss, printed, atol=1e-12)
        gradient = jax.grad(
            lambda z: gated_kd_loss(**{**p, "logits": z}, gamma=gamma, num_words=V).sum()
        )(p["logits"])
        np.testing.assert_allclose(gradient, jax.nn.softmax(p["logits"]) - target, atol=1e-12)


def test_gamma_zero_is_nll():
    p = problem()
    loss = gated_kd_loss(**p, gamma=0.0, num_words=V)
    np.testing.assert_allclose(loss, nll(p["logits"], p["labels"]), rtol=1e-6)


def test_gamma_one_never_reads_the_labels():
    p = problem()
    other = {**p, "labels": (p["labels"] + 1) % Y}
    loss = gated_kd_loss(**p, gamma=1.0, num_words=V)
    np.testing.assert_array_equal(loss, gated_kd_loss(**other, gamma=1.0, num_words=V))
    halfway = gated_kd_loss(**p, gamma=0.5, num_words=V)
    assert not np.allclose(halfway, gated_kd_loss(**other, gamma=0.5, num_words=V))


@pytest.mark.parametrize(("gate", "silent"), [(0.0, "rec_logits"), (1.0, "teacher_logits")])
def test_a_closed_gate_is_exactly_one_teacher(gate, silent):
    p = problem()
    p["gate"] = jnp.full_like(p["gate"], gate)
    other = {**p, silent: p[silent][::-1] * 2}
    loss = gated_kd_loss(**p, gamma=0.4, num_words=V)
    np.testing.assert_array_equal(loss, gated_kd_loss(**other, gamma=0.4, num_words=V))
    likelihood = nll(p["logits"], p["labels"])
    if gate == 0:
        kd = dialogue_kd(p["logits"], jax.nn.log_softmax(p["teacher_logits"]))
    else:
        kd = rec_kd(p["logits"], jax.nn.log_softmax(p["rec_logits"]), V)
    np.testing.assert_allclose(loss, 0.6 * likelihood + 0.4 * kd, rtol=1e-6)


@pytest.mark.parametrize("given_by", ["teacher_logits", "rec_logits", "gate"])
def test_no_gradient_reaches_teachers_or_gate(given_by):
    p = problem()
    gradient = jax.grad(
        lambda x: gated_kd_loss(**{**p, given_by: x}, gamma=0.4, num_words=V).sum()
    )(p[given_by])
    np.testing.assert_array_equal(gradient, jnp.zeros_like(gradient))


@pytest.mark.parametrize("kd", ["dialogue", "rec"])
def test_no_gradient_reaches_the_teacher_of_one_term(kd):
    p = problem()

    def term(teacher):
        if kd == "dialogue":
            return dialogue_kd(p["logits"], jax.nn.log_softmax(teacher)).sum()
        return rec_kd(p["logits"], jax.nn.log_softmax(teacher), V).sum()

    gradient = jax.grad(term)(p["teacher_logits" if kd == "dialogue" else "rec_logits"])
    np.testing.assert_array_equal(gradient, jnp.zeros_like(gradient))


def test_the_recommender_is_silent_on_words_and_whole_on_items():
    rec_log_probs = jax.nn.log_softmax(problem()["rec_logits"])
    probs = jnp.exp(embed_in_targets(rec_log_probs, V))
    assert probs.shape == (6, Y)
    np.testing.assert_array_equal(probs[:, :V], jnp.zeros((6, V)))
    np.testing.assert_allclose(probs[:, V:].sum(-1), np.ones(6), rtol=1e-6)
    np.testing.assert_array_equal(probs[:, V:], jnp.exp(rec_log_probs))


@pytest.mark.parametrize("excluded", [-1e9, -jnp.inf])
@pytest.mark.parametrize("who", ["teacher_logits", "rec_logits", "everyone"])
def test_excluded_targets_leave_value_and_gradient_finite(excluded, who):
    p = problem()
    p["labels"] = jnp.full_like(p["labels"], 3)
    for name in ["teacher_logits", "rec_logits"] if who == "everyone" else [who]:
        p[name] = p[name].at[:, 0].set(excluded)
    if who == "everyone":  # nobody gives mass to word 0 or item 0
        p["teacher_logits"] = p["teacher_logits"].at[:, V].set(excluded)
        p["logits"] = p["logits"].at[:, jnp.array([0, V])].set(excluded)
    loss, gradient = jax.value_and_grad(
        lambda z: gated_kd_loss(**{**p, "logits": z}, gamma=0.4, num_words=V).sum()
    )(p["logits"])
    assert np.isfinite(loss)
    assert np.all(np.isfinite(gradient))


def test_a_share_of_nothing_of_an_infinite_loss_is_nothing():
    p = problem()
    p["logits"] = p["logits"].at[:, V].set(-jnp.inf)  # the recommender wants this item
    p["teacher_logits"] = p["teacher_logits"].at[:, V].set(-jnp.inf)
    p["labels"] = jnp.zeros_like(p["labels"])
    closed, open_ = (
        gated_kd_loss(**{**p, "gate": jnp.full(6, g)}, gamma=0.4, num_words=V) for g in (0.0, 1.0)
    )
    assert np.all(np.isfinite(closed))
    assert np.all(np.isposinf(open_))


def test_nll_of_a_uniform_student_is_the_log_of_the_number_of_targets():
    loss = nll(jnp.zeros((2, Y)), jnp.array([0, Y - 1]))
    np.testing.assert_allclose(loss, np.full(2, np.log(Y)), rtol=1e-6)
