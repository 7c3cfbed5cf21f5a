"""The loss of losses.py, computed without the logits of a whole batch.

The softmax runs over tens of thousands of targets, so arrays of shape [tokens, targets] are the
largest in a training step: the student's logits, the teacher's, both log-softmaxes and the
gradients of all of these. Here tokens pass through both heads a chunk at a time, and only sums
remain of a chunk. With the mixture target q_t of losses.py and token weights w_t,

    L            = Σ_t w_t (|q_t| logsumexp(z_t) - q_t · z_t),      |q_t| = sum of q_t, usually 1
    δ_t          = ∂L / ∂z_t = w_t (|q_t| softmax(z_t) - q_t)
    ∂L / ∂h_t    = δ_t Wᵀ,     ∂L / ∂W = Σ_t h_t δ_tᵀ,     ∂L / ∂b = Σ_t δ_t

where h_t are the student's features and z_t = h_t W + b.

**Gradients in the forward pass.** δ_t needs only what the forward pass of its chunk has at hand, so
the gradients are computed right there. They are the residuals of a custom VJP, whose backward pass
merely scales them by the cotangent of the scalar loss. Each head is therefore multiplied once and
nothing is recomputed. Automatic differentiation would store the logits of every chunk or compute
them twice, and can't reverse a loop whose length is known only at run time.

**Padding is free.** The loop ends with the chunk of the last real token. Tokens beyond `num_tokens`
may hold anything, and a batch's capacity may be generous.

No gradient reaches the teachers, the gate or the weights. This file must not depend on how features
were computed or how a teacher's outputs were stored. Where devices divide the targets among them
(`columns`), a chunk has the tokens of all devices and the columns of this one.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from conkd_jax.distill.columns import ALL, AllColumns
from conkd_jax.distill.head import Head, Retrieved, Switch, accumulation_dtype, wider_dtype
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
    retrieved_ids: Int[Array, "N L"] | None = None,
    columns: AllColumns = ALL,
) -> tuple[Scalar, Scalar]:
    """Weighted sum of the gated distillation loss (eqs. 8 to 11), and weighted sum of its NLL.

    Equals ``sum(weights * gated_kd_loss(head.logits(features), ...))`` over the real tokens, in
    value and in the gradients with respect to features and head.

    Args:
      features: the student's states that predict the labels; real tokens first, then padding.
      head: the student's. For bfloat16 products give features and head in bfloat16; sums are kept
        in float32.
      labels: gold tokens.
      weights: w_t, which already contain every division: 1 / (T · responses in the batch).
      num_tokens: number of real tokens; the loop runs over these only.
      teacher: the dialogue teacher; None for plain NLL or for the recommender alone.
      rec_logits: the recommender's, one row per response, over the items that have a token.
      response_index: each token's row of `rec_logits`.
      gate: λ_t; to be given exactly if there are two teachers. Ignored with gamma = 0.
      gamma: γ, the teachers' share; 0 for plain NLL.
      num_words: |V|, the index of the first item.
      chunk_size: number of tokens whose logits exist at once.
      retrieved_ids: the words retrieved for each token's response, for a head that scores them.
      columns: which targets this device has. With `DividedColumns`, heads have these columns, as do
        `rec_logits`, for the responses of all devices [D · G, w]. Everything else is of this
        device's tokens. The gradient of the head is then summed over all devices' tokens.

    Returns:
      The loss, and the weighted NLL for logging (without gradient). Both are sums, not means.

    Raises:
      ValueError: gamma is not a share, teachers, gate and gamma do not fit together, or a head
        whose columns are divided has further terms.
    """
    if columns is not ALL and (head.switch is not None or head.retrieved is not None):
        raise ValueError("A head with a switch or retrieved words needs all columns on a device.")
    _check(teacher, rec_logits, response_index, gate, gamma)
    if gamma == 0:
        teacher = rec_logits = None  # teachers without a share cost nothing
    if gate is None:
        gate = jnp.full(weights.shape, 0.0 if rec_logits is None else 1.0, weights.dtype)
    num_tokens = jnp.asarray(num_tokens, jnp.int32)
    fixed = _Fixed(
        labels, weights, num_tokens, teacher, rec_logits, response_index, gate, retrieved_ids
    )
    options = _Options(float(gamma), num_words, chunk_size, columns)
    return _fused(options, _Student(features, head), lax.stop_gradient(fixed))


class _Options(NamedTuple):
    gamma: float
    num_words: int
    chunk_size: int
    columns: AllColumns


class _Student(NamedTuple):
    """The arguments with a gradient."""

    features: Float[Array, "N F"]
    head: Head


class _Gradients(NamedTuple):
    """The gradients as the loop sums them: the kernel's transposed, in an embedding's layout."""

    features: Float[Array, "N F"]
    table: Float[Array, "Y F"]
    bias: Float[Array, " Y"]
    switch: Switch | None
    retrieved: Retrieved | None


class _Fixed(NamedTuple):
    """The arguments without a gradient."""

    labels: Int[Array, " N"]
    weights: Float[Array, " N"]
    num_tokens: Int[Array, ""]
    teacher: Teacher | None
    rec_logits: Float[Array, "G I"] | None
    response_index: Int[Array, " N"] | None
    gate: Float[Array, " N"]
    retrieved_ids: Int[Array, "N L"] | None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _fused(options, student, fixed):
    sums, _ = _over_chunks(options, student, fixed, with_gradients=False)
    return sums


def _fused_forward(options, student, fixed):
    return _over_chunks(options, student, fixed, with_gradients=True)


def _fused_backward(options, gradients, cotangents):
    cotangent, _ = cotangents  # the NLL is only logged
    scaled = jax.tree.map(lambda g: g * cotangent.astype(g.dtype), gradients)
    return scaled, None


_fused.defvjp(_fused_forward, _fused_backward)


def _over_chunks(
    options: _Options, student: _Student, fixed: _Fixed, *, with_gradients: bool
) -> tuple[tuple[Scalar, Scalar], _Student | None]:
    """(loss, nll) over the real tokens, and the gradients of the loss in the form of `student`."""
    capacity = student.features.shape[0]
    size = min(options.chunk_size, capacity)
    # The kernel of a tied head is a transposed embedding. Transposing it back costs nothing, since
    # XLA cancels the pair, and the gradient is summed in the layout of the parameter.
    table = student.head.kernel.T  # [Y, F]
    operand = wider_dtype(student.features.dtype, table.dtype)
    table, dtype = table.astype(operand), accumulation_dtype(operand)
    sums = (jnp.zeros((), dtype), jnp.zeros((), dtype))
    gradients = None
    if with_gradients:
        head = student.head
        like = _Gradients(student.features, table, head.bias, head.switch, head.retrieved)
        gradients = jax.tree.map(lambda x: jnp.zeros(x.shape, dtype), like)
    if capacity:
        rec_probs = None
        if fixed.rec_logits is not None:
            rec_probs = options.columns.softmax(fixed.rec_logits.astype(dtype))  # [G, I]

        def visit(i, carry):
            # Slices have a static size, so a last chunk that would reach beyond the arrays starts
            # earlier. The tokens that it shares with the chunk before it are masked out.
            start = jnp.minimum(i * size, capacity - size)
            positions = start + jnp.arange(size, dtype=jnp.int32)
            is_real = (positions >= i * size) & (positions < fixed.num_tokens)
            chunk = _cut(fixed, start, size)
            return _visit(options, student, table, rec_probs, chunk, start, is_real, carry)

        # A traced bound: one compilation serves every number of real tokens.
        num_chunks = options.columns.most((fixed.num_tokens + size - 1) // size)
        sums, gradients = lax.fori_loop(0, num_chunks, visit, (sums, gradients))
    if gradients is None:
        return sums, None
    head = Head(gradients.table.T, gradients.bias, gradients.switch, gradients.retrieved)
    gradients = _Student(gradients.features, head)
    return sums, jax.tree.map(lambda g, x: g.astype(x.dtype), gradients, student)


def _visit(options, student, table, rec_probs, chunk, start, is_real, carry):
    """Adds the C tokens of a chunk to the carry, (sums, gradients)."""
    sums, gradients = carry
    size, dtype, operand, columns = is_real.shape[0], sums[0].dtype, table.dtype, options.columns
    weights = chunk.weights.astype(dtype)
    # Other tokens may hold anything, nan included. A product with a zero weight would stay nan, so
    # their features, losses and δ are replaced, not multiplied.
    counts = is_real & (weights != 0)
    features = take_rows(student.features, start, size).astype(operand)
    features = jnp.where(counts[:, None], features, 0)  # [C, F]
    own_counts, own_weights = counts, weights
    features, counts, weights = columns.gathered((features, counts, weights))
    chunk = _gathered(columns, chunk)
    read = features[:, : table.shape[1]]  # without the features of retrieved words
    logits = _dot(read, table, (1, 1), dtype)  # [C, Y]
    logits += student.head.bias.astype(dtype)[None, :]
    add_terms = functools.partial(_with_terms, retrieved_ids=chunk.retrieved_ids)
    logits, pull_back = jax.vjp(add_terms, logits, features, student.head)

    log_normalizer = columns.logsumexp(logits)
    target, mass = _target(options, chunk, rec_probs, logits)
    target_logits = columns.sum(jnp.where(target > 0, target * logits, 0))
    label_logits = columns.at(logits, chunk.labels)
    losses = (mass * log_normalizer - target_logits, log_normalizer - label_logits)
    sums = tuple(
        total + jnp.sum(jnp.where(own_counts, own_weights * columns.own(loss), 0))
        for total, loss in zip(sums, losses, strict=True)
    )
    if gradients is None:
        return sums, None

    probs = jnp.exp(logits - log_normalizer[:, None])
    delta = weights[:, None] * (mass[:, None] * probs - target)
    delta = jnp.where(counts[:, None], delta, 0)  # [C, Y]
    delta, of_features, of_head = pull_back(delta)  # through the terms, if there are any
    error = delta.astype(operand)  # in float32, it would make both products below float32
    of_read = _dot(error, table, (1, 0), dtype)
    unread = features.shape[1] - read.shape[1]
    of_features = of_features.astype(dtype) + jnp.pad(of_read, ((0, 0), (0, unread)))
    terms = jax.tree.map(
        lambda total, of_chunk: total + of_chunk.astype(dtype),
        (gradients.switch, gradients.retrieved),
        (of_head.switch, of_head.retrieved),
    )
    return sums, _Gradients(
        _add_rows(gradients.features, start, columns.added_up(of_features)),
        gradients.table + _dot(error, read, (0, 0), dtype),
        gradients.bias + jnp.sum(delta, axis=0),
        *terms,
    )


def _with_terms(logits, features, head, *, retrieved_ids):
    """`Head.with_terms`, as a function of all that has a gradient."""
    return head.with_terms(logits, features, retrieved_ids)


def _gathered(columns: AllColumns, chunk: _Fixed) -> _Fixed:
    """A chunk of every device's tokens; with all columns on a device, the chunk itself."""
    if columns is ALL:
        return chunk
    index, teacher = chunk.response_index, chunk.teacher
    if index is not None and chunk.rec_logits is not None:
        index = index + columns.own(jnp.arange(chunk.rec_logits.shape[0], dtype=index.dtype))[0]
    labels, gate, index = columns.gathered((chunk.labels, chunk.gate, index))
    return chunk._replace(
        labels=labels,
        gate=gate,
        response_index=index,
        teacher=None if teacher is None else teacher.gathered(columns),
    )


def _cut(fixed: _Fixed, start, size: int) -> _Fixed:
    """Cuts out the tokens start … start + size - 1."""
    index, retrieved = fixed.response_index, fixed.retrieved_ids
    return fixed._replace(
        labels=take_rows(fixed.labels, start, size),
        weights=take_rows(fixed.weights, start, size),
        teacher=None if fixed.teacher is None else fixed.teacher.chunk(start, size),
        response_index=None if index is None else take_rows(index, start, size),
        gate=take_rows(fixed.gate, start, size),
        retrieved_ids=None if retrieved is None else take_rows(retrieved, start, size),
    )


def _target(options, chunk, rec_probs, logits):
    """The mixture target q_t of a chunk [C, Y], and its mass |q_t| [C]."""
    (size, num_targets), dtype = logits.shape, logits.dtype
    gamma, num_words = options.gamma, options.num_words
    gate = chunk.gate.astype(dtype)
    token_ids = options.columns.ids(logits.shape, chunk.labels.dtype)
    is_gold = token_ids == chunk.labels[:, None]
    target = jnp.where(is_gold, jnp.asarray(1 - gamma, dtype), 0)
    mass = jnp.full((size,), 1 - gamma, dtype)
    if chunk.teacher is not None:
        probs, kept = chunk.teacher.probs(num_targets, options.columns)
        share = gamma * (1 - gate)
        target = target + share[:, None] * probs.astype(dtype)
        mass = mass + share * jnp.asarray(kept, dtype)
    if rec_probs is not None:
        share = gamma * gate
        items = share[:, None] * rec_probs[chunk.response_index]  # [C, I]
        target = options.columns.with_items(target, items, num_words)
        mass = mass + share
    return target, mass


def _add_rows(array, start, rows):
    rows = lax.dynamic_slice_in_dim(array, start, rows.shape[0], axis=0) + rows
    return lax.dynamic_update_slice_in_dim(array, rows, start, axis=0)


def _dot(a, b, axes, dtype):
    """Contracts one axis of each without transposing either; sums are kept in `dtype`."""
    contract = (((axes[0],), (axes[1],)), ((), ()))
    return lax.dot_general(a, b, contract, preferred_element_type=dtype)


def _check(teacher, rec_logits, response_index, gate, gamma):
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma is the teachers' share and must lie in [0, 1]; got {gamma}.")
    if gamma > 0 and teacher is None and rec_logits is None:
        raise ValueError(
            f"gamma = {gamma} gives teachers a share of the loss, but neither `teacher` nor "
            "`rec_logits` was given. Give one, or set gamma = 0 for plain NLL."
        )
    if gamma > 0 and teacher is not None and rec_logits is not None and gate is None:
        raise ValueError(
            "`teacher` and `rec_logits` were given without a `gate` to choose between them."
        )
    if gate is not None and gamma > 0 and (teacher is None or rec_logits is None):
        raise ValueError(
            "A `gate` chooses between two teachers, but `teacher` or `rec_logits` is missing. "
            "Give both, or leave the gate out to learn from one teacher alone."
        )
    if rec_logits is not None and response_index is None:
        raise ValueError(
            "`rec_logits` has one row per response, so `response_index` must give each token's row."
        )
