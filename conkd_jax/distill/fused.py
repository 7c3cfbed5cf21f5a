"""The same loss as losses.py, never holding the logits of a whole batch.

The softmax runs over tens of thousands of targets, so `[tokens, targets]` arrays are the largest
thing in the step: the student's logits, the teacher's, their log-softmaxes and the gradients of all
of them. Here the tokens pass through the two heads a chunk at a time, and a chunk leaves behind
only its sums. With the mixture target q_t of losses.py and the tokens' weights w_t,

    L            = sum_t w_t (|q_t| logsumexp(z_t) - q_t . z_t),      |q_t| = sum of q_t, usually 1
    delta_t      = dL / dz_t = w_t (|q_t| softmax(z_t) - q_t)
    dL / dh_t    = delta_t W^T,    dL / dW = sum_t h_t delta_t^T,    dL / db = sum_t delta_t

delta needs nothing that the forward pass lacks, so the gradients are made right there (a custom
VJP whose residuals *are* the gradients): each head is multiplied once, nothing is recomputed.
Tokens beyond `num_tokens` are never visited but for the rest of the last chunk, and count nothing
whatever they hold, so the capacity of a batch may be generous.

No gradient reaches the teachers, the gate or the weights. This file must not know how the features
were made, where a teacher's outputs were kept, or how many devices there are.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from conkd_jax.distill.head import Head, accumulation_dtype, spread_over_targets, wider
from conkd_jax.distill.teachers import Teacher, take_rows
from conkd_jax.typing import Array, Float, Int, Scalar


def fused_gated_kd_loss(
    features: Float[Array, "N F"],
    head: Head,
    labels: Int[Array, " N"],
    weights: Float[Array, " N"],
    *,
    num_tokens: Int[Array, ""] | int,
    teacher: Teacher | None = None,
    rec_logits: Float[Array, "G I"] | None = None,
    response_index: Int[Array, " N"] | None = None,
    gate: Float[Array, " N"] | None = None,
    gamma: float = 0.0,
    num_words: int,
    chunk_size: int = 256,
    logit_bias: Float[Array, "G Y"] | Float[Array, "N 2"] | None = None,
) -> tuple[Scalar, Scalar]:
    """Weighted sum of the gated distillation loss (eqs. 8 to 11), and of its NLL.

    Equals ``sum(weights * gated_kd_loss(head.logits(features), ...))`` over the real tokens, in
    value and in its gradients with respect to features, head and logit_bias.

    Args:
        features: student states that predict the labels; real tokens first, then padding.
        head: of the student. For bfloat16 products give both in bfloat16; sums stay float32.
        labels: gold tokens.
        weights: w_t, in which every division is already done: 1 / (T . responses in the batch).
        num_tokens: real tokens. The loop runs over these, so padding costs no time.
        teacher: the dialogue teacher; None for plain NLL, or to learn from the recommender alone.
        rec_logits: of the recommender, a row for each response, over the items with a token.
        response_index: the row of the per-response arrays that each token belongs to.
        gate: lambda_t. May be left out where there are not two teachers to choose between.
        gamma: the share of the teachers, 0 for plain NLL.
        num_words: |V|, where the items begin.
        chunk_size: tokens whose logits exist at once.
        logit_bias: added to the student's logits and differentiated: a row of Y for each response
            (RevCore's mask), or two values for each token, one for every word and one for every
            item (RecInDial's pointer). An axis of length 2 means the latter.

    Returns:
        The loss, and the weighted NLL for the log (no gradient), both summed and not averaged.

    Raises:
        ValueError: the arguments leave it open what to learn from whom.
    """
    _check(teacher, rec_logits, response_index, gate, gamma, logit_bias)
    if gamma == 0:
        teacher = rec_logits = None  # teachers that nobody listens to cost nothing
    if gate is None:
        gate = jnp.full(weights.shape, 0.0 if rec_logits is None else 1.0, weights.dtype)
    num_tokens = jnp.asarray(num_tokens, jnp.int32)
    given = _Given(labels, weights, num_tokens, teacher, rec_logits, response_index, gate)
    options = _Options(float(gamma), num_words, chunk_size)
    return _fused(options, _Student(features, head, logit_bias), lax.stop_gradient(given))


class _Options(NamedTuple):
    gamma: float
    num_words: int
    chunk_size: int


class _Student(NamedTuple):
    """What is differentiated."""

    features: Float[Array, "N F"]
    head: Head
    logit_bias: Float[Array, "..."] | None


class _Gradients(NamedTuple):
    """What the loop sums; the kernel's gradient in the layout of an embedding."""

    features: Float[Array, "N F"]
    table: Float[Array, "Y F"]
    bias: Float[Array, " Y"]
    logit_bias: Float[Array, "..."] | None


class _Given(NamedTuple):
    """What is not."""

    labels: Int[Array, " N"]
    weights: Float[Array, " N"]
    num_tokens: Int[Array, ""]
    teacher: Teacher | None
    rec_logits: Float[Array, "G I"] | None
    response_index: Int[Array, " N"] | None
    gate: Float[Array, " N"]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _fused(options, student, given):
    sums, _ = _over_chunks(options, student, given, with_gradients=False)
    return sums


def _fused_forward(options, student, given):
    return _over_chunks(options, student, given, with_gradients=True)


def _fused_backward(options, gradients, cotangents):
    cotangent, _ = cotangents  # the NLL is for the log
    scaled = jax.tree.map(lambda g: g * cotangent.astype(g.dtype), gradients)
    return scaled, None


_fused.defvjp(_fused_forward, _fused_backward)


def _over_chunks(
    options: _Options, student: _Student, given: _Given, *, with_gradients: bool
) -> tuple[tuple[Scalar, Scalar], _Student | None]:
    """(loss, nll) over the real tokens, and the gradients of the loss in the shape of `student`."""
    capacity = student.features.shape[0]
    size = min(options.chunk_size, capacity)
    # Rows of the kernel are embeddings. Held that way, the tied embedding is never transposed, and
    # the gradient is summed in the layout that the parameter has.
    table = student.head.kernel.T  # [Y, F]
    operand = wider(student.features.dtype, table.dtype)
    table, dtype = table.astype(operand), accumulation_dtype(operand)
    sums = (jnp.zeros((), dtype), jnp.zeros((), dtype))
    gradients = None
    if with_gradients:
        held = _Gradients(student.features, table, student.head.bias, student.logit_bias)
        gradients = jax.tree.map(lambda x: jnp.zeros(x.shape, dtype), held)
    if capacity:
        rec_probs = None
        if given.rec_logits is not None:
            rec_probs = jax.nn.softmax(given.rec_logits.astype(dtype), axis=-1)  # [G, I]

        def visit(i, carry):
            # The last chunk is moved back to end with the arrays; what it sees twice counts once.
            start = jnp.minimum(i * size, capacity - size)
            positions = start + jnp.arange(size, dtype=jnp.int32)
            is_real = (positions >= i * size) & (positions < given.num_tokens)
            chunk = _cut(given, start, size)
            return _visit(options, student, table, rec_probs, chunk, start, is_real, carry)

        num_chunks = (given.num_tokens + size - 1) // size
        sums, gradients = lax.fori_loop(0, num_chunks, visit, (sums, gradients))
    if gradients is None:
        return sums, None
    head = Head(gradients.table.T, gradients.bias)
    gradients = _Student(gradients.features, head, gradients.logit_bias)
    return sums, jax.tree.map(lambda g, x: g.astype(x.dtype), gradients, student)


def _visit(options, student, table, rec_probs, chunk, start, is_real, carry):
    """Add the C tokens of a chunk to the carry, (sums, gradients)."""
    sums, gradients = carry
    size, dtype, operand = is_real.shape[0], sums[0].dtype, table.dtype
    weights = chunk.weights.astype(dtype)
    counts = is_real & (weights != 0)  # the other tokens may hold anything, nan included
    features = take_rows(student.features, start, size).astype(operand)
    features = jnp.where(counts[:, None], features, 0)  # [C, F]
    logits = _dot(features, table, (1, 1), dtype)  # [C, Y]
    logits += _bias(options, student, chunk.response_index, start, logits)

    log_normalizer = jax.nn.logsumexp(logits, axis=-1)
    target, mass = _target(options, chunk, rec_probs, logits)
    target_logits = jnp.sum(jnp.where(target > 0, target * logits, 0), axis=-1)
    label_logits = jnp.take_along_axis(logits, chunk.labels[:, None], axis=-1, mode="clip")[:, 0]
    losses = (mass * log_normalizer - target_logits, log_normalizer - label_logits)
    sums = tuple(
        total + jnp.sum(jnp.where(counts, weights * loss, 0))
        for total, loss in zip(sums, losses, strict=True)
    )
    if gradients is None:
        return sums, None

    probs = jnp.exp(logits - log_normalizer[:, None])
    delta = weights[:, None] * (mass[:, None] * probs - target)
    delta = jnp.where(counts[:, None], delta, 0)  # [C, Y]
    error = delta.astype(operand)  # left in float32, it would make both products float32
    bias = gradients.logit_bias
    return sums, _Gradients(
        features=_add_rows(gradients.features, start, _dot(error, table, (1, 0), dtype)),
        table=gradients.table + _dot(error, features, (0, 0), dtype),
        bias=gradients.bias + jnp.sum(delta, axis=0),
        logit_bias=_add_bias(options, bias, chunk.response_index, start, delta),
    )


def _cut(given: _Given, start, size: int) -> _Given:
    """What is given about the tokens start ... start + size - 1."""
    index = given.response_index
    return given._replace(
        labels=take_rows(given.labels, start, size),
        weights=take_rows(given.weights, start, size),
        teacher=None if given.teacher is None else given.teacher.chunk(start, size),
        response_index=None if index is None else take_rows(index, start, size),
        gate=take_rows(given.gate, start, size),
    )


def _target(options, chunk, rec_probs, logits):
    """q_t of losses.py for a chunk [C, Y], and its mass |q_t| [C]."""
    (size, num_targets), dtype = logits.shape, logits.dtype
    gamma, num_words = options.gamma, options.num_words
    gate = chunk.gate.astype(dtype)
    token_ids = lax.broadcasted_iota(chunk.labels.dtype, logits.shape, dimension=1)
    is_gold = token_ids == chunk.labels[:, None]
    target = jnp.where(is_gold, jnp.asarray(1 - gamma, dtype), 0)
    mass = jnp.full((size,), 1 - gamma, dtype)
    if chunk.teacher is not None:
        probs, kept = chunk.teacher.probs(num_targets)
        share = gamma * (1 - gate)
        target = target + share[:, None] * probs.astype(dtype)
        mass = mass + share * jnp.asarray(kept, dtype)
    if rec_probs is not None:
        share = gamma * gate
        items = share[:, None] * rec_probs[chunk.response_index]  # [C, I]
        target = jnp.concatenate([target[:, :num_words], target[:, num_words:] + items], axis=1)
        mass = mass + share
    return target, mass


def _bias(options, student, response_index, start, logits):
    """The student's bias for a chunk: [1, Y], or [C, Y] where there is a logit_bias."""
    size, num_targets = logits.shape
    bias = student.head.bias[None, :].astype(logits.dtype)
    if student.logit_bias is None:
        return bias
    extra = student.logit_bias.astype(logits.dtype)
    if _is_per_token(extra):
        pairs = take_rows(extra, start, size)  # [C, 2]
        return bias + spread_over_targets(pairs, options.num_words, num_targets)
    return bias + extra[response_index]


def _add_bias(options, gradient, response_index, start, delta):
    """The gradient of logit_bias, with that of a chunk added."""
    if gradient is None:
        return None
    if _is_per_token(gradient):
        words, items = jnp.split(delta, [options.num_words], axis=1)
        return _add_rows(gradient, start, jnp.stack([words.sum(1), items.sum(1)], axis=1))
    return gradient.at[response_index].add(delta)


def _is_per_token(logit_bias) -> bool:
    return logit_bias.shape[-1] == 2


def _add_rows(array, start, rows):
    rows = lax.dynamic_slice_in_dim(array, start, rows.shape[0], axis=0) + rows
    return lax.dynamic_update_slice_in_dim(array, rows, start, axis=0)


def _dot(a, b, axes, dtype):
    """a . b over one axis of each, without transposing either, summed in `dtype`."""
    contract = (((axes[0],), (axes[1],)), ((), ()))
    return lax.dot_general(a, b, contract, preferred_element_type=dtype)


def _check(teacher, rec_logits, response_index, gate, gamma, logit_bias):
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma is the share of the teachers, so in [0, 1]; got {gamma}.")
    if gamma > 0 and teacher is None and rec_logits is None:
        raise ValueError(
            f"gamma = {gamma} gives a share of the loss to teachers, but neither `teacher` nor "
            "`rec_logits` came. Give one, or set gamma = 0 for plain NLL."
        )
    if gamma > 0 and teacher is not None and rec_logits is not None and gate is None:
        raise ValueError("Two teachers came and no `gate` to choose between them at each token.")
    if gate is not None and gamma > 0 and (teacher is None or rec_logits is None):
        raise ValueError(
            "A `gate` chooses between two teachers, but one of `teacher` and `rec_logits` is "
            "missing. Give both, or leave the gate out to learn from the one alone."
        )
    per_response = rec_logits is not None or (
        logit_bias is not None and not _is_per_token(logit_bias)
    )
    if per_response and response_index is None:
        raise ValueError(
            "`rec_logits` and a `logit_bias` of whole rows are given per response: "
            "`response_index` must say which row each token belongs to."
        )
