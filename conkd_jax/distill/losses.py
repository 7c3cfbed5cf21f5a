"""What the student learns at each token: eqs. 8 to 11, as they are printed.

This is the reference form. It is written to be read, and the fused form in fused.py is tested
against it. Every function returns one value per response token and averages nothing. The paper's
1/T and the mean over the batch are weights w_t = 1 / (T · responses in the global batch), by which
the caller multiplies. Padding, devices and micro-batches therefore cannot change a denominator.

**One cross-entropy.** Eq. 11 mixes two losses that share their first term,

    L_t = (1 - λ_t) [(1 - γ) NLL_t + γ CE(P_φ, P_θ)] + λ_t [(1 - γ) NLL_t + γ CE(P_ψ, P_θ)].

A cross-entropy is linear in its target, so L_t is one cross-entropy against one mixture,

    q_t = (1 - γ) onehot(y_t) + γ [(1 - λ_t) P_φ + λ_t P_ψ],
    L_t = logsumexp(z_t) - q_t · z_t,        ∂L_t / ∂z_t = softmax(z_t) - q_t,

where z_t are the student's logits. fused.py computes this form. The identity holds at temperature
1, which is the temperature of eqs. 8 to 10.

No gradient reaches a teacher or the gate. This file must not depend on how logits and gate were
computed.
"""

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from conkd_jax.typing import Array, Float, Int


def nll(logits: Float[Array, "N Y"], labels: Int[Array, " N"]) -> Float[Array, " N"]:
    """Negative log-likelihood of the gold token, -log P_θ(y_t | y_<t, x): one term of eq. 5."""
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    return -jnp.take_along_axis(log_probs, labels[:, None], axis=-1)[:, 0]


def dialogue_kd(
    logits: Float[Array, "N Y"], teacher_log_probs: Float[Array, "N Y"]
) -> Float[Array, " N"]:
    """Distillation from the dialogue teacher: one term of eq. 8.

    -Σ_{k in Y} P_φ(y_k | y_<t, x) log P_θ(y_k | y_<t, x)

    Args:
      logits: the student's.
      teacher_log_probs: log P_φ for the same targets; -inf at targets that the teacher excludes.
    """
    return _cross_entropy(jnp.exp(stop_gradient(teacher_log_probs)), logits)


def rec_kd(
    logits: Float[Array, "N Y"], rec_log_probs: Float[Array, "N I"], num_words: int
) -> Float[Array, " N"]:
    """Distillation from the recommender: one term of eq. 9.

    -Σ_{k in Y} P_ψ(y_k | x) log P_θ(y_k | y_<t, x), where P_ψ is zero on words. P_ψ depends on the
    dialogue alone and is therefore the same at every token of a response; only the gate depends on
    the tokens written so far.

    Args:
      logits: the student's.
      rec_log_probs: log P_ψ over the items that have a token, for each token's response.
      num_words: |V|, the index of the first item.
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
    """Contextualized knowledge distillation, one value per token: eqs. 10 and 11.

    L_DIAL = (1 - γ) L_NLL + γ L_DIAL-KD
    L_REC  = (1 - γ) L_NLL + γ L_REC-KD
    L      = (1 - λ_t) L_DIAL + λ_t L_REC

    Args:
      logits: the student's.
      labels: gold tokens.
      teacher_logits: the dialogue teacher's, for the same targets.
      rec_logits: the recommender's, for each token's response.
      gate: λ_t.
      gamma: γ, the teachers' share; .4 for DialoGPT in the paper.
      num_words: |V|, the index of the first item.

    Returns:
      L_t for each token, in nats. It is infinite, never nan, where a target has mass on a token
      that the student's logits exclude by -inf.
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
    """The single target distribution that eqs. 8 to 11 amount to.

    q_t = (1 - γ) onehot(y_t) + γ [(1 - λ_t) P_φ + λ_t P_ψ]
    """
    dialogue = jnp.exp(teacher_log_probs)
    rec = jnp.exp(embed_in_targets(rec_log_probs, num_words))
    gold = jax.nn.one_hot(labels, dialogue.shape[-1], dtype=dialogue.dtype)
    teachers = (1 - gate)[:, None] * dialogue + gate[:, None] * rec
    return (1 - gamma) * gold + gamma * teachers


def embed_in_targets(rec_log_probs: Float[Array, "*N I"], num_words: int) -> Float[Array, "*N Y"]:
    """Extends log P_ψ from the items to Y = V + I: words get -inf, that is, probability zero."""
    pad = [(0, 0)] * (rec_log_probs.ndim - 1) + [(num_words, 0)]
    return jnp.pad(rec_log_probs, pad, constant_values=-jnp.inf)


def _cross_entropy(probs: Float[Array, "N Y"], logits: Float[Array, "N Y"]) -> Float[Array, " N"]:
    """Computes -Σ p log q, where a term with p = 0 is 0 even if log q = -inf."""
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    # 0 · (-inf) is nan, so such terms are cut out before the sum.
    return -jnp.sum(jnp.where(probs > 0, probs * log_probs, 0.0), axis=-1)


def _share(share: Float[Array, " N"] | float, loss: Float[Array, " N"]) -> Float[Array, " N"]:
    """Computes share · loss, where a share of zero gives zero even of an infinite loss."""
    return jnp.where(jnp.broadcast_to(share, loss.shape) > 0, share * loss, 0.0)
