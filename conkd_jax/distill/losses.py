"""What the student learns at each step: eqs. 8 to 11, as they are printed.

This is the readable form, the reference that the fused form is held to. Every function returns one
value for each response token; nothing is averaged here. The paper's 1/T and the mean over the batch
are weights w_t = 1 / (T . responses in the global batch) that the caller multiplies in, so that
padding, devices and micro-batches cannot change what is divided by what.

**One cross-entropy.** Eq. 11 chooses between two losses that share their first term,

    L_t = (1 - lambda_t) [(1 - gamma) NLL_t + gamma CE(P_phi, P_theta)]
              + lambda_t [(1 - gamma) NLL_t + gamma CE(P_psi, P_theta)]

and a cross-entropy is linear in its target, so L_t is one cross-entropy against a mixture,

    q_t = (1 - gamma) onehot(y_t) + gamma [(1 - lambda_t) P_phi + lambda_t P_psi]
    L_t = logsumexp(z_t) - q_t . z_t,        dL_t / dz_t = softmax(z_t) - q_t.

That identity is what fused.py computes. It holds at temperature 1, the temperature of eqs. 8 to 10.

This file must not know what made the logits or the gate. No gradient reaches a teacher or a gate.
"""

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from conkd_jax.typing import Array, Float, Int


def nll(logits: Float[Array, "N Y"], labels: Int[Array, " N"]) -> Float[Array, " N"]:
    """Negative log-likelihood of the gold token: -log P_theta(y_t | y_<t, x) (eq. 5, one term)."""
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    return -jnp.take_along_axis(log_probs, labels[:, None], axis=-1)[:, 0]


def dialogue_kd(
    logits: Float[Array, "N Y"], teacher_log_probs: Float[Array, "N Y"]
) -> Float[Array, " N"]:
    """Distillation from the dialogue teacher (eq. 8, one step).

    -sum over k in Y of P_phi(y_k | y_<t, x) log P_theta(y_k | y_<t, x)

    Args:
        logits: of the student.
        teacher_log_probs: log P_phi at the same target; -inf where the teacher says never.
    """
    return _cross_entropy(jnp.exp(stop_gradient(teacher_log_probs)), logits)


def rec_kd(
    logits: Float[Array, "N Y"], rec_log_probs: Float[Array, "N I"], num_words: int
) -> Float[Array, " N"]:
    """Distillation from the recommender (eq. 9, one step).

    -sum over k in Y of P_psi(y_k | x) log P_theta(y_k | y_<t, x), with P_psi zero on words. It is
    the same at every step of a response: only the gate knows the context.

    Args:
        logits: of the student.
        rec_log_probs: log P_psi over the items that have a token, of each token's response.
        num_words: |V|, where the items begin.
    """
    teacher_log_probs = embed_in_targets(stop_gradient(rec_log_probs), num_words)
    return _cross_entropy(jnp.exp(teacher_log_probs), logits)


def gated_kd_loss(
    logits: Float[Array, "N Y"],
    labels: Int[Array, " N"],
    teacher_logits: Float[Array, "N Y"],
    rec_logits: Float[Array, "N I"],
    gate: Float[Array, " N"],
    gamma: float,
    num_words: int,
) -> Float[Array, " N"]:
    """Contextualized knowledge distillation, one value a step (eqs. 10 and 11).

    L_DIAL = (1 - gamma) L_NLL + gamma L_DIAL-KD
    L_REC  = (1 - gamma) L_NLL + gamma L_REC-KD
    L      = (1 - lambda_t) L_DIAL + lambda_t L_REC

    Args:
        logits: of the student.
        labels: gold tokens.
        teacher_logits: of the dialogue teacher, for the same targets.
        rec_logits: of the recommender, for the response each token belongs to.
        gate: lambda_t.
        gamma: the share of the teachers; the paper's DialoGPT row uses .4.
        num_words: |V|, where the items begin.

    Returns:
        L_t for each token, in nats. Infinite where the target has mass on a token the student's
        logits exclude by -inf; never nan.
    """
    gate = stop_gradient(gate)
    teacher_log_probs = jax.nn.log_softmax(teacher_logits, axis=-1)
    rec_log_probs = jax.nn.log_softmax(rec_logits, axis=-1)
    likelihood = _share(1 - gamma, nll(logits, labels))
    loss_dialogue = likelihood + _share(gamma, dialogue_kd(logits, teacher_log_probs))
    loss_rec = likelihood + _share(gamma, rec_kd(logits, rec_log_probs, num_words))
    return _share(1 - gate, loss_dialogue) + _share(gate, loss_rec)


def mixture_target(
    labels: Int[Array, " N"],
    teacher_log_probs: Float[Array, "N Y"],
    rec_log_probs: Float[Array, "N I"],
    gate: Float[Array, " N"],
    gamma: float,
    num_words: int,
) -> Float[Array, "N Y"]:
    """The one distribution that eqs. 8 to 11 ask the student for.

    q_t = (1 - gamma) onehot(y_t) + gamma [(1 - lambda_t) P_phi + lambda_t P_psi]
    """
    dialogue = jnp.exp(teacher_log_probs)
    rec = jnp.exp(embed_in_targets(rec_log_probs, num_words))
    gold = jax.nn.one_hot(labels, dialogue.shape[-1], dtype=dialogue.dtype)
    teachers = (1 - gate)[:, None] * dialogue + gate[:, None] * rec
    return (1 - gamma) * gold + gamma * teachers


def embed_in_targets(rec_log_probs: Float[Array, "*N I"], num_words: int) -> Float[Array, "*N Y"]:
    """log P_psi over items laid into Y = V + I: -inf, probability zero, on every word."""
    pad = [(0, 0)] * (rec_log_probs.ndim - 1) + [(num_words, 0)]
    return jnp.pad(rec_log_probs, pad, constant_values=-jnp.inf)


def _cross_entropy(probs: Float[Array, "N Y"], logits: Float[Array, "N Y"]) -> Float[Array, " N"]:
    """-sum p log q, where p = 0 counts nothing even if log q = -inf."""
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    return -jnp.sum(jnp.where(probs > 0, probs * log_probs, 0.0), axis=-1)


def _share(share: Float[Array, " N"] | float, loss: Float[Array, " N"]) -> Float[Array, " N"]:
    """share * loss, where a share of nothing is nothing, even of an infinite loss."""
    return jnp.where(jnp.broadcast_to(share, loss.shape) > 0, share * loss, 0.0)
