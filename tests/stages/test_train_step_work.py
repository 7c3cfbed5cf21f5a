"""The work of a train step: counted products, beside the formulas that are in use for a GPT-2."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conkd_jax.models.compute import Compute
from conkd_jax.stages.train_step_memory import planned_step, step_work
from conkd_jax.stages.train_step_work import masked_attention_flops, product_flops
from tests.fixtures.small_world import SmallWorld

NUM_WORDS, NUM_ITEMS = 300, 40
X, W = jnp.ones((3, 4)), jnp.ones((4, 4))
PRODUCT = 2 * 3 * 4 * 4


def flops(function, *arguments) -> int:
    return product_flops(jax.make_jaxpr(function)(*arguments))


def repeated(w, x):
    return jnp.sum(jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=5)[0])


def test_loops_count_as_often_as_they_run():
    assert flops(repeated, W, X) == 5 * PRODUCT
    assert flops(jax.grad(repeated), W, X) == 3 * 5 * PRODUCT  # dW and dx take as much each


def test_what_is_computed_again_counts_again():
    def two(w, x):
        return jnp.tanh(x @ w) @ w

    kept = flops(jax.grad(lambda w, x: two(w, x).sum()), W, X)
    again = flops(jax.grad(lambda w, x: jax.checkpoint(two)(w, x).sum()), W, X)
    assert (kept, again) == (5 * PRODUCT, 6 * PRODUCT)


def test_batches_of_products_and_the_largest_branch():
    batch = jnp.ones((7, 3, 4))
    assert flops(lambda x: jnp.einsum("bij,bkj->bik", x, x), batch) == 7 * 2 * 3 * 3 * 4
    branches = (lambda x: x, lambda x: x @ W, lambda x: x @ W @ W)
    assert flops(lambda k, x: jax.lax.switch(k, branches, x), 1, X) == 2 * PRODUCT


def test_of_several_devices_the_work_of_one():
    devices = jax.devices()[:2]
    spread = jax.pmap(lambda x: x @ W, devices=devices)
    assert flops(spread, np.ones((2, 3, 4))) == PRODUCT


def test_a_loop_of_unknown_length_is_refused():
    def loop(x):
        return jax.lax.while_loop(lambda x: x.sum() < 5, lambda x: x @ W, x)

    with pytest.raises(ValueError, match="the rounds of a while loop"):
        flops(loop, X)
    assert product_flops(jax.make_jaxpr(loop)(X), rounds=3) == 3 * PRODUCT


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return SmallWorld(tmp_path_factory.mktemp("world")).config()


def test_a_step_is_that_of_the_formulas(config):
    """6 FLOPs a weight and token, attention's half, and a product each for the teachers' heads."""
    planned = planned_step(config, NUM_WORDS, NUM_ITEMS, num_devices=1)
    devices = jax.devices()[:1]
    work = step_work(config, planned, Compute(), devices)
    spec, optimizer = planned.start.model.spec, config.student.optimizer
    rows, length = planned.batch["input_ids"].shape
    rows *= optimizer.accumulate_steps
    d, num_layers, num_targets = spec.embed_dim, spec.num_layers, NUM_WORDS + NUM_ITEMS
    layers = 6 * rows * length * 12 * d**2 * num_layers
    attention = 6 * rows * length**2 * d * num_layers
    assert masked_attention_flops(rows, length, d, num_layers) == attention
    tokens = planned.batch["labels"].shape[0] * optimizer.accumulate_steps
    chunk = min(config.distill.chunk_size, tokens)
    assert tokens % chunk == 0, "tokens of the last chunk would be padded"
    head = 6 * tokens * num_targets * d
    assert work.model == layers + attention + head

    responses = planned.batch["response_id"].shape[0] * optimizer.accumulate_steps
    teachers = 2 * tokens * num_targets * d
    recommender = 2 * responses * NUM_ITEMS * config.rec_teacher.embed_dim
    assert work.products == work.model + attention + teachers + recommender

    remat = step_work(config, planned, Compute(remat=True), devices)
    forward = 2 * rows * length * 12 * d**2 * num_layers + 4 * rows * length**2 * d * num_layers
    assert remat.model == work.model
    assert work.products < remat.products <= work.products + forward


def test_devices_share_the_work(config):
    wide = config.replace({"student.batch_rows": 8})
    alone = planned_step(wide, NUM_WORDS, NUM_ITEMS, num_devices=1)
    spread = planned_step(wide, NUM_WORDS, NUM_ITEMS, num_devices=2)
    whole = step_work(wide, alone, Compute(), jax.devices()[:1])
    half = step_work(wide, spread, Compute(), jax.devices()[:2])
    assert dataclasses.astuple(half) == pytest.approx(
        [value / 2 for value in dataclasses.astuple(whole)], rel=1e-6
    )
    mesh = wide.replace({"parallel.kind": "mesh"})
    divided = step_work(mesh, spread, Compute(), jax.devices()[:2])  # its columns are padded
    assert half.model <= divided.model < 1.1 * half.model
