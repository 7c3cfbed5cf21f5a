"""P_ψ masked to new items equals its definition, alone and inside the loss."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.distill.fused import fused_gated_kd_loss
from conkd_jax.distill.head import Head
from conkd_jax.distill.losses import gated_kd_loss
from conkd_jax.distill.mentioned import without_mentioned
from conkd_jax.distill.teachers import TeacherLogits

V, I, F, G, N = 5, 7, 4, 3, 11  # noqa: E741 (the letters of the paper)
Y = V + I
GAMMA = 0.4


def by_definition(logits: np.ndarray, mentioned: list[set[int]]) -> np.ndarray:
    """P_ψ(i) / Σ_{j not in M} P_ψ(j), and 0 in M, one response and one item at a time."""
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    for row, items in zip(probs, mentioned, strict=True):
        if len(items) < I:
            row[list(items)] = 0
    return probs / probs.sum(axis=1, keepdims=True)


def padded(mentioned: list[set[int]], rng) -> jnp.ndarray:
    """Each set as a row of a rectangle, in any order; I or more is padding."""
    rows = np.full((len(mentioned), I + 1), I, np.int32)
    rows[:, -1] += 5
    for row, items in zip(rows, mentioned, strict=True):
        row[: len(items)] = rng.permutation(list(items))
    return jnp.asarray(rows)


sets_of_items = st.lists(st.sets(st.integers(0, I - 1)), min_size=G, max_size=G)


@settings(deadline=None, max_examples=40)
@given(sets_of_items, st.integers(0, 1000))
def test_the_softmax_is_the_definition(mentioned, seed):
    rng = np.random.default_rng(seed)
    logits = 3 * rng.standard_normal((G, I))
    with jax.enable_x64(True):
        masked = without_mentioned(jnp.asarray(logits), padded(mentioned, rng))
        found = np.asarray(jax.nn.softmax(masked))
        np.testing.assert_allclose(found, by_definition(logits, mentioned), rtol=1e-12)
    for probs, items in zip(found, mentioned, strict=True):
        if len(items) < I:
            assert not probs[list(items)].any()


def loss_and_gradients(loss, student):
    return jax.jit(jax.value_and_grad(loss))(student)


@settings(deadline=None, max_examples=10)  # each compiles anew
@given(sets_of_items, st.integers(0, 1000))
def test_the_loss_and_its_gradients_are_those_of_the_definition(mentioned, seed):
    """Gold items may be mentioned ones: their label stays, the recommender gives them nothing."""
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        normal = lambda *shape: jnp.asarray(rng.standard_normal(shape))  # noqa: E731
        features, teacher, rec_logits = normal(N, F), normal(N, Y), normal(G, I)
        student = {"kernel": normal(F, Y), "bias": normal(Y)}
        labels = jnp.asarray(rng.integers(0, Y, N), jnp.int32)
        response = jnp.asarray(rng.integers(0, G, N), jnp.int32)
        gate, weights = jnp.asarray(rng.random(N)), jnp.asarray(rng.random(N))
        items = padded(mentioned, rng)
        wanted = jnp.log(jnp.asarray(by_definition(np.asarray(rec_logits), mentioned)))

        def fused(student):
            return fused_gated_kd_loss(
                features,
                Head(**student),
                labels,
                weights,
                num_tokens=N,
                teacher=TeacherLogits(teacher),
                rec_logits=without_mentioned(rec_logits, items),
                response_index=response,
                gate=gate,
                gamma=GAMMA,
                num_words=V,
                chunk_size=4,
            )[0]

        def reference(student):
            logits = Head(**student).logits(features)
            losses = gated_kd_loss(logits, labels, teacher, wanted[response], gate, GAMMA, V)
            return jnp.sum(weights * losses)

        got, expected = loss_and_gradients(fused, student), loss_and_gradients(reference, student)
        jax.tree.map(
            lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12),
            got,
            expected,
        )


def test_low_precision_has_no_nan():
    for dtype in (jnp.bfloat16, jnp.float32):
        logits = jnp.array([[300.0, 0.0, -300.0], [0.0, 1.0, 2.0]], dtype)
        found = jax.nn.softmax(without_mentioned(logits, jnp.array([[0, 1], [0, 3]], jnp.int32)))
        np.testing.assert_allclose(found[0], [0, 0, 1])
        assert found[1, 0] == 0 and np.isfinite(np.asarray(found, np.float32)).all()
