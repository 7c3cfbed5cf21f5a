"""Devices that divide the targets compute the loss and gradients of one that has all of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from conkd_jax.distill.columns import NOTHING, DividedColumns, Part
from conkd_jax.distill.fused import fused_gated_kd_loss
from conkd_jax.distill.gates import hard_gate, item_mass, soft_gate
from conkd_jax.distill.head import Head, Switch
from conkd_jax.distill.teachers import TeacherFeatures, TeacherLogits, TeacherTopK

D, V, I, F, G, N = 8, 12, 7, 8, 3, 10  # noqa: E741 (the letters of the paper)
Y, ROWS = V + I, V + I + 2  # 19 targets, which 8 devices do not divide, and two input-only rows
AXIS = "devices"
GATES = {"hard": functools.partial(hard_gate, eta=0.4), "soft": soft_gate}
NUM_TOKENS = np.array([10, 3, 0, 7, 10, 1, 8, 5], np.int32)  # real tokens of each device


def split_of(shape):
    """The axis that a mesh divides: its largest that 8 divides."""
    axes = [axis for axis, size in enumerate(shape) if size % D == 0]
    return max(axes, key=lambda axis: shape[axis]) if axes else None


def spec_of(shape):
    axis = split_of(shape)
    return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, AXIS)


def make_arrays(num_rows=ROWS, width=F, seed=0):
    """Arrays of all devices' tokens [D · N], responses [D · G] and heads."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    return {
        "features": normal(D * N, width),
        "table": normal(num_rows, width),
        "labels": rng.integers(0, Y, D * N).astype(np.int32),
        "weights": rng.random(D * N).astype(np.float32) + np.float32(0.1),
        "teacher_features": normal(D * N, 16),
        "teacher_kernel": normal(16, Y),
        "teacher_bias": normal(Y),
        "user_vectors": normal(D * G, 5),
        "rec_kernel": normal(5, I),
        "rec_bias": normal(I),
        "response_index": rng.integers(0, G, D * N).astype(np.int32),  # of the device's own
    }


TABLES = ("table", "teacher_kernel", "teacher_bias", "rec_kernel", "rec_bias")


def teacher_logits(arrays):
    head = Head(arrays["teacher_kernel"], arrays["teacher_bias"])
    return head.logits(jnp.asarray(arrays["teacher_features"]))


def make_teacher(form, features, logits, head):
    if form == "top-k":
        return TeacherTopK(*lax.top_k(jax.nn.log_softmax(logits), 5)[::-1])
    normalizer = jax.nn.logsumexp(logits, axis=-1) if "normalised" in form else None
    if "features" in form:
        return TeacherFeatures(features, head, normalizer)
    return TeacherLogits(logits, normalizer)


def whole(arrays, gate, form):
    """(loss, NLL) and gradients by (features, table) of all tokens, on one device."""
    arrays = jax.tree.map(jnp.asarray, arrays)
    logits = teacher_logits(arrays)
    head = Head(arrays["teacher_kernel"], arrays["teacher_bias"])
    rec_head = Head(arrays["rec_kernel"], arrays["rec_bias"])
    device = np.repeat(np.arange(D), N)
    is_real = np.tile(np.arange(N), D) < NUM_TOKENS[device]

    def loss_of(features, table):
        sums = fused_gated_kd_loss(
            features,
            Head(table[:Y].T, jnp.zeros(Y)),
            arrays["labels"],
            jnp.where(is_real, arrays["weights"], 0),
            num_tokens=D * N,
            teacher=make_teacher(form, arrays["teacher_features"], logits, head),
            rec_logits=rec_head.logits(arrays["user_vectors"]),
            response_index=arrays["response_index"] + jnp.asarray(device * G, jnp.int32),
            gate=GATES[gate](item_mass(logits, V)),
            gamma=0.4,
            num_words=V,
            chunk_size=16,
        )
        return sums[0], sums

    return jax.grad(loss_of, argnums=(0, 1), has_aux=True)(arrays["features"], arrays["table"])[
        ::-1
    ]


def on_a_device(gate, form, shapes, arrays, logits, num_tokens):
    """The same, of one device's tokens; inside of `shard_map`."""
    own = {name: value for name, value in arrays.items() if name not in TABLES}
    parts = {n: Part(arrays[n], shapes[n], split_of(shapes[n]), AXIS) for n in TABLES}
    columns = parts["table"].columns()
    head = Head(
        parts["teacher_kernel"].block(columns, 1),
        parts["teacher_bias"].block(columns, 0, fill=NOTHING),
    )
    rec_kernel = parts["rec_kernel"].block(columns, 1, before=V)
    rec_bias = parts["rec_bias"].block(columns, 0, before=V, fill=NOTHING)

    def loss_of(features, table):
        table = Part(table, shapes["table"], split_of(shapes["table"]), AXIS).block(columns, 0)
        is_target = columns.ids((1, columns.width), jnp.int32)[0] < Y
        sums = fused_gated_kd_loss(
            features,
            Head(table.T, jnp.where(is_target, 0, NOTHING)),
            own["labels"],
            own["weights"],
            num_tokens=num_tokens[0],
            teacher=make_teacher(form, own["teacher_features"], logits, head),
            rec_logits=Head(rec_kernel, rec_bias).logits(columns.gathered(own["user_vectors"])),
            response_index=own["response_index"],
            gate=GATES[gate](item_mass(logits, V)),
            gamma=0.4,
            num_words=V,
            chunk_size=4,
            columns=columns,
        )
        return sums[0], sums

    (of_features, of_table), sums = jax.grad(loss_of, argnums=(0, 1), has_aux=True)(
        own["features"], arrays["table"]
    )
    if split_of(shapes["table"]) is None:
        of_table = lax.psum(of_table, AXIS)
    return lax.psum(sums, AXIS), (of_features, of_table)


def divided(arrays, gate, form):
    """The same of all tokens, on eight devices; also the compiled program."""
    shapes = {name: value.shape for name, value in arrays.items()}
    specs = {
        name: spec_of(value.shape) if name in TABLES else PartitionSpec(AXIS)
        for name, value in arrays.items()
    }
    function = jax.jit(
        jax.shard_map(
            functools.partial(on_a_device, gate, form, shapes),
            mesh=Mesh(np.array(jax.devices()[:D]), (AXIS,)),
            in_specs=(specs, PartitionSpec(AXIS), PartitionSpec(AXIS)),
            out_specs=(PartitionSpec(), (PartitionSpec(AXIS), specs["table"])),
            check_vma=False,
        )
    )
    return function(arrays, np.asarray(teacher_logits(arrays)), NUM_TOKENS)


def check_equal(arrays, gate, form):
    (sums, gradients), (sums_of_8, gradients_of_8) = (
        function(arrays, gate, form) for function in (whole, divided)
    )
    assert float(sums[0]) != pytest.approx(float(sums[1]), rel=1e-2)  # teachers matter
    np.testing.assert_allclose(sums, sums_of_8, rtol=1e-5)
    for one, eight in zip(gradients, gradients_of_8, strict=True):
        np.testing.assert_allclose(one, eight, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["features", "features, normalised", "logits", "top-k"])
@pytest.mark.parametrize("gate", GATES)
def test_loss_and_gradients_equal_those_of_one_device(gate, form):
    check_equal(make_arrays(), gate, form)


@pytest.mark.parametrize(
    ("num_rows", "width", "axis"), [(24, 8, 0), (21, 8, 1), (21, 5, None), (40, 5, 0), (19, 16, 1)]
)
def test_any_shape_of_the_table(num_rows, width, axis):
    """Divided by rows or by features, with few or many padding rows, or on every device."""
    assert split_of((num_rows, width)) == axis
    check_equal(make_arrays(num_rows, width), "soft", "features, normalised")


@pytest.mark.parametrize("shape", [(19, 8), (24, 3), (19, 3), (8, 40), (16, 16)])
@pytest.mark.parametrize("before", [0, 5])
@pytest.mark.parametrize("axis", [0, 1])
def test_blocks_are_pieces_of_the_padded_array(shape, before, axis):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    size = shape[axis] + before + 3

    def on_each(values):
        part = Part(values, shape, split_of(shape), AXIS)
        return part.block(part.columns(size), axis, before=before, fill=-1.0)

    spec = PartitionSpec(*[None] * axis, AXIS)
    mesh = Mesh(np.array(jax.devices()[:D]), (AXIS,))
    blocks = jax.shard_map(
        on_each, mesh=mesh, in_specs=spec_of(shape), out_specs=spec, check_vma=False
    )(array)
    padding = [(0, 0), (0, 0)]
    padding[axis] = (before, -(-size // D) * D - before - shape[axis])
    np.testing.assert_array_equal(blocks, np.pad(array, padding, constant_values=-1.0))


def test_rows_are_looked_up_where_they_are():
    table = np.arange(ROWS * F, dtype=np.float32).reshape(ROWS, F)
    ids = np.random.default_rng(0).integers(0, ROWS, D * N).astype(np.int32)
    cotangent = np.random.default_rng(1).standard_normal((D * N, F)).astype(np.float32)

    def on_each(values, ids, cotangent):
        def rows_of(values):
            part = Part(values, table.shape, split_of(table.shape), AXIS)
            columns = part.columns()
            return columns.look_up(part.block(columns, 0), ids)

        rows, pull_back = jax.vjp(rows_of, values)
        return rows, *pull_back(cotangent)

    each = PartitionSpec(AXIS)
    rows, gradient = jax.shard_map(
        on_each,
        mesh=Mesh(np.array(jax.devices()[:D]), (AXIS,)),
        in_specs=(spec_of(table.shape), each, each),
        out_specs=(each, spec_of(table.shape)),
        check_vma=False,
    )(table, ids, cotangent)
    np.testing.assert_array_equal(rows, table[ids])
    wanted = np.zeros_like(table)
    np.add.at(wanted, ids, cotangent)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-5)


def test_a_head_with_terms_needs_all_columns():
    columns = DividedColumns(AXIS, D, 3)
    head = Head(jnp.zeros((F, Y)), jnp.zeros(Y), Switch(jnp.zeros(F), jnp.zeros(()), V))
    with pytest.raises(ValueError, match="needs all columns"):
        fused_gated_kd_loss(
            jnp.zeros((N, F)),
            head,
            jnp.zeros(N, jnp.int32),
            jnp.ones(N),
            num_tokens=N,
            num_words=V,
            columns=columns,
        )
