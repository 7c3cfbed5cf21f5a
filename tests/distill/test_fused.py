"""The fused form equals the reference form in value and gradients, for any chunk size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from conkd_jax.distill.fused import fused_gated_kd_loss
from conkd_jax.distill.head import Head, Retrieved, Switch
from conkd_jax.distill.losses import gated_kd_loss, nll
from conkd_jax.distill.teachers import TeacherFeatures, TeacherLogits, TeacherTopK

V, I, F, G = 12, 7, 5, 4  # noqa: E741 (the letters of the paper)
Y = V + I
GAMMA = 0.4


def make_batch(num_tokens=17, capacity=23, seed=0, dtype=jnp.float32):
    """A batch of `num_tokens` real tokens, followed by padding that is random as well."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(rng.standard_normal(shape), dtype)  # noqa: E731
    return {
        "features": normal(capacity, F),
        "kernel": normal(F, Y),
        "bias": normal(Y),
        "labels": jnp.asarray(rng.integers(0, Y, capacity), jnp.int32),
        "weights": jnp.asarray(rng.random(capacity) + 0.1, dtype),
        "num_tokens": num_tokens,
        "teacher_features": normal(capacity, F + 1),
        "teacher_head": Head(normal(F + 1, Y), normal(Y)),
        "rec_logits": normal(G, I),
        "response_index": jnp.asarray(rng.integers(0, G, capacity), jnp.int32),
        "gate": jnp.asarray(rng.random(capacity), dtype),
    }


BATCH = make_batch()
DIFFERENTIATED = ("features", "kernel", "bias")
TEACHERS = ("features", "features, normalised", "logits", "logits, normalised")


def make_teacher(batch, form):
    logits = batch["teacher_head"].logits(batch["teacher_features"])
    log_normalizer = jax.nn.logsumexp(logits, axis=-1) if "normalised" in form else None
    if form.startswith("features"):
        return TeacherFeatures(batch["teacher_features"], batch["teacher_head"], log_normalizer)
    return TeacherLogits(logits, log_normalizer)


def head_of(batch):
    """The student's head; with the terms that a batch has parameters of."""
    switch = Switch(*batch["switch"], V) if "switch" in batch else None
    retrieved = Retrieved(*batch["retrieved"]) if "retrieved" in batch else None
    return Head(batch["kernel"], batch["bias"], switch, retrieved)


def fused(batch, teacher="features", chunk_size=8, gamma=GAMMA, **changes):
    arguments = {
        "teacher": make_teacher(batch, teacher) if isinstance(teacher, str) else teacher,
        "rec_logits": batch["rec_logits"],
        "gate": batch["gate"],
        **changes,
    }
    return fused_gated_kd_loss(
        batch["features"],
        head_of(batch),
        batch["labels"],
        batch["weights"],
        num_tokens=batch["num_tokens"],
        response_index=batch["response_index"],
        gamma=gamma,
        num_words=V,
        chunk_size=chunk_size,
        retrieved_ids=batch.get("retrieved_ids"),
        **arguments,
    )


def student_logits(batch):
    return head_of(batch).logits(batch["features"], batch.get("retrieved_ids"))


def reference(batch, gamma=GAMMA):
    losses = gated_kd_loss(
        student_logits(batch),
        batch["labels"],
        batch["teacher_head"].logits(batch["teacher_features"]),
        batch["rec_logits"][batch["response_index"]],
        batch["gate"],
        gamma,
        V,
    )
    likelihood = nll(student_logits(batch), batch["labels"])
    n = batch["num_tokens"]
    weigh = lambda losses: jnp.sum((batch["weights"] * losses)[:n])  # noqa: E731
    return weigh(losses), weigh(likelihood)


def value_and_gradients(function, batch, names=DIFFERENTIATED):
    """((loss, nll), gradients of the loss by name)."""

    def loss_of(values):
        loss, likelihood = function({**batch, **values})
        return loss, (loss, likelihood)

    gradients, sums = jax.jit(jax.grad(loss_of, has_aux=True))({n: batch[n] for n in names})
    return sums, gradients


def assert_same(left, right, rtol=1e-5, atol=1e-5):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol), left, right)


@pytest.mark.parametrize(
    ("teacher", "chunk_size"),
    [(teacher, 8) for teacher in TEACHERS] + [("features", c) for c in (1, 17, 64)],
)
def test_fused_is_the_reference(teacher, chunk_size):
    got = value_and_gradients(lambda b: fused(b, teacher, chunk_size), BATCH)
    assert_same(got, value_and_gradients(reference, BATCH))


def with_terms(batch, terms, dtype=jnp.float32, extra=3, longest=4):
    """The batch with a switch, with retrieved words, or with both."""
    rng = np.random.default_rng(1)
    normal = lambda *shape: jnp.asarray(rng.standard_normal(shape), dtype)  # noqa: E731
    capacity, batch = len(batch["labels"]), dict(batch)
    if "switch" in terms:
        batch["switch"] = (normal(F), normal())
    if "retrieved" in terms:
        batch["retrieved"] = (normal(extra, Y), normal(Y))
        batch["features"] = jnp.concatenate([batch["features"], normal(capacity, extra)], axis=1)
        ids = np.stack([rng.permutation(V)[:longest] for _ in range(capacity)])
        ids[rng.random(ids.shape) < 0.3] = -1
        batch["retrieved_ids"] = jnp.asarray(ids, jnp.int32)
    return batch


TERMS = [("switch",), ("retrieved",), ("switch", "retrieved")]


@pytest.mark.parametrize("terms", TERMS, ids="+".join)
def test_fused_is_the_reference_with_the_terms_of_a_head(terms):
    batch = with_terms(BATCH, terms)
    names = (*DIFFERENTIATED, *terms)
    got = value_and_gradients(fused, batch, names)
    assert_same(got, value_and_gradients(reference, batch, names))
    without = value_and_gradients(fused, {**BATCH, "features": batch["features"][:, :F]})
    assert abs(float(got[0][0] - without[0][0])) > 1e-2


@settings(deadline=None, max_examples=6)  # each compiles anew
@given(
    terms=st.sampled_from(TERMS),
    num_tokens=st.integers(1, 9),
    padding=st.integers(0, 9),
    size=st.integers(1, 12),
    gamma=st.floats(0, 1),
)
def test_fused_is_the_reference_with_terms_for_any_sizes(terms, num_tokens, padding, size, gamma):
    batch = with_terms(make_batch(num_tokens, num_tokens + padding), terms)
    names = (*DIFFERENTIATED, *terms)
    got = value_and_gradients(lambda b: fused(b, chunk_size=size, gamma=gamma), batch, names)
    expected = value_and_gradients(lambda b: reference(b, gamma), batch, names)
    assert_same(got, expected, rtol=1e-4)


def test_the_nll_of_a_switch_is_that_within_the_class_plus_that_of_the_class():
    batch = with_terms(BATCH, ("switch",))
    n, labels = batch["num_tokens"], batch["labels"]
    z = Head(batch["kernel"], batch["bias"]).logits(batch["features"])
    is_item = labels >= V
    own_class = jnp.where(is_item[:, None] == (jnp.arange(Y) >= V)[None, :], z, -jnp.inf)
    within = nll(own_class, labels)
    switch = batch["features"] @ batch["switch"][0] + batch["switch"][1]
    of_class = -jax.nn.log_sigmoid(jnp.where(is_item, switch, -switch))
    got = fused(batch, teacher=None, rec_logits=None, gate=None, gamma=0.0)[0]
    expected = jnp.sum((batch["weights"] * (within + of_class))[:n])
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("terms", TERMS, ids="+".join)
def test_terms_of_tokens_that_do_not_count_may_hold_anything(terms):
    names = ("features", "kernel", *terms)
    clean, spoiled = garbage(with_terms(BATCH, terms), jnp.nan, "padding")
    if "retrieved" in terms:
        padding = np.arange(23)[:, None] >= BATCH["num_tokens"]
        spoiled["retrieved_ids"] = jnp.where(padding, 5, spoiled["retrieved_ids"])
    got = value_and_gradients(fused, spoiled, names)
    assert_same(got, value_and_gradients(fused, clean, names), 1e-6, 1e-6)


def test_fused_is_the_reference_in_float64():
    with jax.enable_x64(True):
        batch = make_batch(dtype=jnp.float64)
        got = value_and_gradients(fused, batch)
        assert got[1]["kernel"].dtype == jnp.float64
        assert_same(got, value_and_gradients(reference, batch), rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=6)  # each compiles anew
@given(
    st.integers(0, 1000), st.integers(1, 9), st.integers(0, 9), st.integers(1, 12), st.floats(0, 1)
)
def test_fused_is_the_reference_for_any_sizes(seed, num_tokens, padding, chunk_size, gamma):
    batch = make_batch(num_tokens, num_tokens + padding, seed)
    got = jax.jit(lambda: fused(batch, chunk_size=chunk_size, gamma=gamma))()
    assert_same(got, jax.jit(lambda: reference(batch, gamma))(), rtol=1e-4)


def test_gradients_agree_with_finite_differences():
    with jax.enable_x64(True):
        batch = make_batch(dtype=jnp.float64)
        _, gradients = value_and_gradients(fused, batch)
        loss = jax.jit(lambda values: fused({**batch, **values})[0])
        values = {name: batch[name] for name in DIFFERENTIATED}
        for name in DIFFERENTIATED:
            direction = jax.random.normal(jax.random.key(1), batch[name].shape, jnp.float64)
            up, down = (loss({**values, name: batch[name] + h * direction}) for h in (1e-6, -1e-6))
            slope = jnp.sum(gradients[name] * direction)
            np.testing.assert_allclose((up - down) / 2e-6, slope, rtol=1e-6)


@pytest.mark.parametrize("gate", [0.0, 1.0])
def test_a_closed_gate_is_one_teacher_alone(gate):
    both = {**BATCH, "gate": jnp.full_like(BATCH["gate"], gate)}
    changes = {"rec_logits": None} if gate == 0 else {"teacher": None}
    alone = value_and_gradients(lambda b: fused(b, gate=None, **changes), BATCH)
    assert_same(value_and_gradients(fused, both), alone, 1e-6, 1e-6)


def test_no_teacher_is_plain_nll():
    def plain(b):
        return fused(b, teacher=None, rec_logits=None, gate=None, gamma=0.0)

    def expected(b):
        return reference(b)[1], reference(b)[1]

    got = value_and_gradients(plain, BATCH)
    assert_same(got, value_and_gradients(expected, BATCH))
    assert_same(got, value_and_gradients(lambda b: fused(b, gamma=0.0), BATCH), 0, 0)


@pytest.mark.parametrize("suffix", ["", ", normalised"])
def test_teacher_features_reproduce_teacher_logits(suffix):
    from_features = value_and_gradients(lambda b: fused(b, "features" + suffix), BATCH)
    from_logits = value_and_gradients(lambda b: fused(b, "logits" + suffix), BATCH)
    assert_same(from_features, from_logits, 1e-6, 1e-6)


def test_top_k_of_every_target_is_the_whole_teacher():
    logits = BATCH["teacher_head"].logits(BATCH["teacher_features"])
    log_probs, token_ids = lax.top_k(jax.nn.log_softmax(logits), Y)
    whole = TeacherTopK(token_ids, log_probs)
    assert_same(
        value_and_gradients(lambda b: fused(b, teacher=whole), BATCH),
        value_and_gradients(fused, BATCH),
    )


def test_top_k_leaves_the_tail_with_neither_teacher():
    logits = BATCH["teacher_head"].logits(BATCH["teacher_features"])
    log_probs, token_ids = lax.top_k(jax.nn.log_softmax(logits), 3)
    n = BATCH["num_tokens"]

    def by_definition(batch):  # -sum over the K kept of P_phi log P_theta, not renormalised
        student = jax.nn.log_softmax(student_logits(batch))
        kept = jnp.take_along_axis(student, token_ids, axis=-1)
        kd = -jnp.sum(jnp.exp(log_probs) * kept, axis=-1)
        likelihood = nll(student_logits(batch), batch["labels"])
        losses = (1 - GAMMA) * likelihood + GAMMA * kd
        return jnp.sum((batch["weights"] * losses)[:n]), jnp.sum(
            (batch["weights"] * likelihood)[:n]
        )

    def truncated(batch):
        return fused(batch, TeacherTopK(token_ids, log_probs), rec_logits=None, gate=None)

    assert_same(value_and_gradients(truncated, BATCH), value_and_gradients(by_definition, BATCH))


def test_top_k_between_both_teachers_is_the_mixture_written_out():
    """L_t = |q_t| logsumexp(z_t) - q_t · z_t and its gradient, in NumPy."""
    logits = np.asarray(BATCH["teacher_head"].logits(BATCH["teacher_features"]), np.float64)
    teacher = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    token_ids = np.argsort(-teacher, axis=1)[:, :3]
    target = np.zeros_like(teacher)
    np.put_along_axis(target, token_ids, np.take_along_axis(teacher, token_ids, 1), 1)
    gate, n = np.asarray(BATCH["gate"], np.float64)[:, None], BATCH["num_tokens"]
    rec = np.exp(np.asarray(BATCH["rec_logits"], np.float64))
    rec = (rec / rec.sum(1, keepdims=True))[np.asarray(BATCH["response_index"])]
    target *= GAMMA * (1 - gate)
    target[:, V:] += GAMMA * gate * rec
    target[np.arange(len(target)), np.asarray(BATCH["labels"])] += 1 - GAMMA
    mass = target.sum(1)
    assert (mass < 1).all() and mass.min() < 0.9
    z = np.asarray(student_logits(BATCH), np.float64)
    normalizer = np.log(np.exp(z).sum(1))
    weights = np.where(np.arange(len(z)) < n, np.asarray(BATCH["weights"], np.float64), 0)
    delta = weights[:, None] * (mass[:, None] * np.exp(z - normalizer[:, None]) - target)
    log_probs = jnp.asarray(np.log(np.take_along_axis(teacher, token_ids, 1)), jnp.float32)
    taught = TeacherTopK(jnp.asarray(token_ids, jnp.int32), log_probs)
    (loss, _), gradients = value_and_gradients(lambda b: fused(b, taught), BATCH)
    wanted = (weights * (mass * normalizer - (target * z).sum(1))).sum()
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    features = np.asarray(BATCH["features"], np.float64)
    np.testing.assert_allclose(gradients["kernel"], features.T @ delta, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradients["bias"], delta.sum(0), rtol=1e-4, atol=1e-5)


def test_what_top_k_loses_is_a_distillation_from_the_tail():
    """The difference that `TeacherTopK` states, in value and gradients."""
    log_probs = jax.nn.log_softmax(BATCH["teacher_head"].logits(BATCH["teacher_features"]))
    kept, token_ids = lax.top_k(log_probs, 3)
    rows = jnp.arange(log_probs.shape[0])[:, None]
    tail = jnp.exp(log_probs).at[rows, token_ids].set(0)
    lost = jnp.sum(tail, axis=1)
    n = BATCH["num_tokens"]

    def with_the_tail(batch):
        student = jax.nn.log_softmax(student_logits(batch))
        entropy = -jnp.sum(tail / lost[:, None] * student, axis=1)
        missing = GAMMA * (1 - batch["gate"]) * lost * entropy
        loss, likelihood = fused(batch, TeacherTopK(token_ids, kept))
        return loss + jnp.sum((batch["weights"] * missing)[:n]), likelihood

    assert_same(value_and_gradients(with_the_tail, BATCH), value_and_gradients(fused, BATCH))


def garbage(batch, value, kind):
    """The batch, and a copy with garbage in its padding or at tokens of weight zero."""
    n = batch["num_tokens"]
    spoiled = dict(batch)
    rows = np.arange(23) >= n
    if kind == "weightless":
        rows = np.arange(23) % 5 == 2
        spoiled["weights"] = jnp.where(rows, 0, batch["weights"])
    clean = dict(spoiled)
    for name in ("features", "teacher_features", "gate") + (
        ("weights",) if kind == "padding" else ()
    ):
        array = spoiled[name]
        mask = rows.reshape(-1, *[1] * (array.ndim - 1))
        spoiled[name] = jnp.where(jnp.broadcast_to(mask, array.shape), value, array)
    spoiled["labels"] = jnp.where(rows, -100, batch["labels"])
    spoiled["response_index"] = jnp.where(rows, 10**6, batch["response_index"])
    return clean, spoiled


@pytest.mark.parametrize("teacher", ["features", "logits"])
@pytest.mark.parametrize(
    ("value", "kind"),
    [(jnp.nan, "padding"), (jnp.inf, "padding"), (jnp.nan, "weightless"), (1e30, "weightless")],
)
def test_tokens_that_do_not_count_may_hold_anything(value, kind, teacher):
    clean, spoiled = garbage(BATCH, value, kind)
    got = value_and_gradients(lambda b: fused(b, teacher), spoiled)
    assert_same(got, value_and_gradients(lambda b: fused(b, teacher), clean), 1e-6, 1e-6)
    assert np.all(got[1]["features"][BATCH["num_tokens"] :] == 0)


def test_capacity_changes_nothing():
    short = make_batch()
    per_token = ("features", "labels", "weights", "teacher_features", "response_index", "gate")
    for name in per_token:
        short[name] = short[name][:17]
    got, expected = (value_and_gradients(fused, b) for b in (BATCH, short))
    assert_same(got[0], expected[0], 1e-6, 1e-6)
    assert_same(got[1]["kernel"], expected[1]["kernel"], 1e-6, 1e-6)
    assert_same(got[1]["features"][:17], expected[1]["features"], 1e-6, 1e-6)


@pytest.mark.parametrize("capacity", [23, 0])
def test_no_tokens_is_zero_and_no_gradient(capacity):
    batch = make_batch(num_tokens=0, capacity=capacity)
    sums, gradients = value_and_gradients(fused, batch)
    assert_same(sums, (0.0, 0.0), 0, 0)
    assert all(np.all(g == 0) for g in gradients.values())


def test_no_gradient_reaches_teachers_gate_or_weights():
    names = ("teacher_features", "teacher_head", "rec_logits", "gate", "weights")
    _, gradients = value_and_gradients(fused, BATCH, names)
    for leaf in jax.tree.leaves(gradients):
        np.testing.assert_array_equal(leaf, jnp.zeros_like(leaf))


def test_no_gradient_flows_from_the_logged_nll():
    gradient = jax.grad(lambda x: fused({**BATCH, "features": x})[1])(BATCH["features"])
    np.testing.assert_array_equal(gradient, jnp.zeros_like(gradient))


def test_the_gradient_scales_with_what_the_loss_is_multiplied_by():
    def gradient(scale):
        return jax.grad(lambda x: scale * fused({**BATCH, "features": x})[0])(BATCH["features"])

    np.testing.assert_allclose(gradient(-3.0), -3 * gradient(1.0), rtol=1e-6)


@pytest.mark.parametrize("excluded", [-1e9, -jnp.inf])
def test_excluded_targets_leave_value_and_gradient_finite(excluded):
    batch = dict(BATCH)
    batch["labels"] = jnp.full_like(batch["labels"], 3)
    head = batch["teacher_head"]
    batch["teacher_head"] = Head(head.kernel, head.bias.at[jnp.array([0, V])].set(excluded))
    batch["rec_logits"] = batch["rec_logits"].at[:, 0].set(excluded)
    batch["bias"] = batch["bias"].at[jnp.array([0, V])].set(excluded)
    expected = value_and_gradients(reference, batch)
    for teacher in ("features", "logits, normalised"):
        got = value_and_gradients(lambda b, t=teacher: fused(b, t), batch)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(got))
        assert_same(got, expected)


def test_large_logits_do_not_overflow():
    batch = {**BATCH, "features": 1e4 * BATCH["features"], "rec_logits": 1e4 * BATCH["rec_logits"]}
    got = value_and_gradients(fused, batch)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(got))
    assert_same(got, value_and_gradients(reference, batch), rtol=1e-4, atol=1e-2)


def test_bfloat16_student_keeps_float32_sums():
    names = ("features", "kernel", "bias")
    low = {**BATCH, **{name: BATCH[name].astype(jnp.bfloat16) for name in names}}
    low["teacher_features"] = BATCH["teacher_features"].astype(jnp.bfloat16)
    rounded = {**low, **{name: low[name].astype(jnp.float32) for name in names}}
    (loss, likelihood), gradients = value_and_gradients(fused, low)
    assert (loss.dtype, likelihood.dtype) == (jnp.float32, jnp.float32)
    assert all(gradients[name].dtype == jnp.bfloat16 for name in names)
    (expected, _), exact = value_and_gradients(fused, rounded)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)  # products exact, sums in float32
    for name in names:  # delta and the result are rounded: a few units of 2^-8
        got = gradients[name].astype(jnp.float32)
        scale = float(jnp.max(jnp.abs(exact[name])))
        np.testing.assert_allclose(got, exact[name], rtol=2e-2, atol=1e-2 * scale)


def test_micro_batches_in_a_scan_add_up():
    parts = [make_batch(num_tokens=n, seed=n) for n in (17, 23, 0, 5)]
    shared = ("kernel", "bias", "teacher_head")
    stacked = {
        name: jnp.stack([jnp.asarray(p[name]) for p in parts])
        for name in BATCH
        if name not in shared
    }

    def total(values, common):
        def add(sum_, part):
            return sum_ + fused({**common, **part, **values})[0], None

        return lax.scan(add, jnp.float32(0), stacked)[0]

    common = {name: BATCH[name] for name in shared}
    values = {name: BATCH[name] for name in ("kernel", "bias")}
    got = jax.jit(jax.value_and_grad(total))(values, common)
    expected = [
        value_and_gradients(fused, {**part, **common}, ("kernel", "bias")) for part in parts
    ]
    np.testing.assert_allclose(got[0], sum(float(sums[0]) for sums, _ in expected), rtol=1e-5)
    assert_same(got[1], jax.tree.map(lambda *g: sum(g), *[g for _, g in expected]))


def test_eight_devices_sum_to_one():
    num_devices, rows = jax.device_count(), 5
    assert num_devices == 8
    batch = make_batch(num_tokens=num_devices * rows, capacity=num_devices * rows)
    per_token = ("features", "labels", "weights", "teacher_features", "response_index", "gate")
    split = {
        name: batch[name].reshape(num_devices, rows, *batch[name].shape[1:]) for name in per_token
    }
    shared = {name: batch[name] for name in ("kernel", "bias", "teacher_head", "rec_logits")}

    def step(split, shared):
        whole = {**split, **shared, "num_tokens": rows}
        sums, gradients = value_and_gradients(
            functools.partial(fused, chunk_size=2), whole, ("kernel", "bias")
        )
        return lax.psum((sums, gradients), "devices")

    got = jax.pmap(step, axis_name="devices", in_axes=(0, None))(split, shared)
    expected = value_and_gradients(fused, batch, ("kernel", "bias"))
    assert_same(jax.tree.map(lambda x: x[0], got), expected)


def test_padding_costs_no_chunk():
    """The number of chunks follows num_tokens at run time: one compilation serves every batch."""
    compiled = jax.jit(lambda n: fused({**BATCH, "num_tokens": n}, chunk_size=4))
    for n in (0, 1, 4, 23):
        assert_same(compiled(n), reference({**BATCH, "num_tokens": n}))
    assert compiled._cache_size() == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": None, "rec_logits": None, "gate": None}, "neither `teacher` nor"),
        ({"gate": None}, "without a `gate`"),
        ({"teacher": None}, "`teacher` or `rec_logits` is missing"),
        ({"gamma": 1.5}, "gamma is the teachers' share"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        fused(BATCH, **changes)


def test_a_recommender_without_response_index_is_refused():
    with pytest.raises(ValueError, match="`response_index` must give"):
        fused({**BATCH, "response_index": None})
