import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from conkd_jax.runtime import parallel
from tests.fixtures.points import NUM_ROWS, Points, make_task, read_result, train_in_processes
from tests.fixtures.training import KINDS, assert_close, first_step


def whole_batch_gradients(task):
    """The oracle: plain `jax.grad` of all 32 rows at once, no devices and no micro-batches."""
    params, batch = task.init(jax.random.key(0)), Points().arrays(0)
    loss = lambda p: task.loss(p, batch, jax.random.key(0), task.constants)[0]  # noqa: E731
    return jax.value_and_grad(loss)(params)


# AdamW would hide a factor (a mean in place of a sum), so these compare gradients.
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_devices, accumulate", [(1, 1), (8, 1), (2, 4), (1, 4), (8, 4)])
def test_gradients_equal_those_of_the_whole_batch(num_devices, accumulate, kind):
    task = make_task()
    devices = parallel.select_devices(num_devices)
    loader = Points(num_devices, accumulate)
    before, after, metrics = first_step(task, devices, loader, kind=kind)
    loss, gradients = whole_batch_gradients(task)
    got = jax.tree.map(lambda old, new: old - new, before, after.params)
    assert_close(got, jax.tree.map(np.asarray, gradients))
    np.testing.assert_allclose(metrics["loss"], (loss, 1.0), rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"][0], optax.tree.norm(gradients), rtol=1e-5)
    assert metrics["tokens"] == (NUM_ROWS, NUM_ROWS)
    assert metrics["accuracy"][1] == NUM_ROWS
    assert after.step == 1


@pytest.mark.parametrize("kind", KINDS)
def test_clipping_comes_after_the_sum(kind):
    """Clipping each device's gradient would give up to eight times the norm."""
    task, devices = make_task(), parallel.select_devices(8)
    optimizer = optax.chain(optax.clip_by_global_norm(0.01), optax.sgd(1.0))
    before, after, metrics = first_step(task, devices, Points(8), optimizer, kind=kind)
    change = jax.tree.map(lambda old, new: old - new, before, after.params)
    np.testing.assert_allclose(optax.tree.norm(change), 0.01, rtol=1e-4)
    assert metrics["grad_norm"][0] > 0.01  # measured before clipping


def test_every_device_and_micro_batch_has_its_own_rng():
    def loss(params, batch, rng, constants):
        value = jax.random.uniform(rng)
        return 0.0 * params["w"] + value, {"square": (value**2, jnp.float32(1))}

    task, devices = make_task(), parallel.select_devices(4)
    task.init, task.loss = (lambda rng: {"w": np.float32(0)}), loss
    _, _, metrics = first_step(task, devices, Points(4, 2))
    (total, _), (squares, count) = metrics["loss"], metrics["square"]
    assert count == 8
    assert squares / count - (total / count) ** 2 > 1e-3  # a variance: the draws differ


def test_every_step_has_its_own_rng():
    task, devices = make_task(), parallel.select_devices(1)
    task.init = lambda rng: {"w": np.float32(0)}
    task.loss = lambda params, batch, rng, _: (0.0 * params["w"] + jax.random.uniform(rng), {})
    optimizer = optax.sgd(1.0)
    step = parallel.make_train_step(task.loss, optimizer, devices)
    state = parallel.init_state(task.init(None), optimizer, with_ema=False)
    state = parallel.replicate(state, devices)
    key = jax.random.key_data(jax.random.key(0))
    fixed = parallel.replicate({"key": key, "constants": None}, devices)
    draws = []
    for index in range(3):
        state, metrics = step(state, Points(1).batch(index), fixed)
        draws.append(float(parallel.to_host(metrics)["loss"][0]))
    assert len(set(draws)) == 3


@pytest.mark.parametrize("rng_impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_dropout_is_a_function_of_the_root_key(rng_impl):
    task, devices = make_task(dropout=0.5), parallel.select_devices(8)
    runs = [first_step(task, devices, Points(8), rng_impl=rng_impl) for _ in range(2)]
    assert runs[0][2] == runs[1][2]
    assert (
        runs[0][2]["loss"] != first_step(task, devices[:4], Points(4), rng_impl=rng_impl)[2]["loss"]
    )


@pytest.mark.parametrize("rng_impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_no_two_micro_batches_of_a_training_share_their_rng(rng_impl):
    def loss(params, batch, rng, constants):
        draw = jax.random.uniform(rng)
        return 0.0 * params["w"] + draw, {"square": (draw**2, jnp.float32(1))}

    devices, optimizer = parallel.select_devices(2), optax.sgd(1.0)
    step = parallel.make_train_step(loss, optimizer, devices, rng_impl=rng_impl)
    key = jax.random.key_data(jax.random.key(3, impl=rng_impl))
    fixed = parallel.replicate({"key": key, "constants": None}, devices)
    state = parallel.init_state({"w": np.float32(0)}, optimizer, with_ema=False)
    state = parallel.replicate(state, devices)
    sums = []
    for index in range(3):  # step s on device d beside step d on device s, and s = d
        state, metrics = step(state, Points(2).batch(index), fixed)
        metrics = parallel.to_host(metrics)
        total, squares = metrics["loss"][0], metrics["square"][0]
        apart = np.sqrt(2 * squares - total**2)  # |a - b| of the two draws
        sums += [(total - apart) / 2, (total + apart) / 2]
    assert np.diff(np.sort(sums)).min() > 1e-3


def test_micro_batches_draw_as_devices_do():
    """With dropout, four devices are one device with four micro-batches."""
    task = make_task(dropout=0.5)
    ways = [(4, 1, "pmap"), (1, 4, "pmap"), (2, 2, "pmap"), (4, 1, "mesh"), (2, 2, "mesh")]
    steps = [
        first_step(task, parallel.select_devices(devices), Points(devices, micro), kind=kind)
        for devices, micro, kind in ways
    ]
    for _, after, metrics in steps[1:]:
        assert_close(after.params, steps[0][1].params)
        np.testing.assert_allclose(metrics["loss"], steps[0][2]["loss"], rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_ema_moves_toward_the_new_parameters(kind):
    task, devices = make_task(), parallel.select_devices(2)
    before, after, _ = first_step(task, devices, Points(2), kind=kind, ema_decay=0.75)
    wanted = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, before, after.params)
    assert_close(after.ema, wanted)


def test_a_train_step_compiles_once_and_donates_its_state():
    task, devices = make_task(), parallel.select_devices(8)
    optimizer = optax.adam(1e-3)
    step = parallel.make_train_step(task.loss, optimizer, devices)
    key = jax.random.key_data(jax.random.key(0))
    fixed = parallel.replicate({"key": key, "constants": task.constants}, devices)
    state = parallel.init_state(task.init(jax.random.key(0)), optimizer, with_ema=False)
    state = first = parallel.replicate(state, devices)
    loader = Points(8)
    state, _ = step(state, loader.batch(0), fixed)
    compiled = []
    listener = lambda event, seconds, **_: compiled.append(event)  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        for index in range(1, 4):
            state, _ = step(state, loader.batch(index), fixed)
        compiled_by_steps = list(compiled)
        jax.jit(lambda x: x + 1)(np.float32(0))  # shows that the listener hears compilations
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
    assert not compiled_by_steps and compiled
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first))


def test_replicated_trees_come_back():
    devices = parallel.select_devices(8)
    tree = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.int32(7), "none": None}
    placed = parallel.replicate(tree, devices)
    assert placed["a"].shape == (8, 2, 3)
    for back in (parallel.to_host(placed), parallel.unreplicate(placed)):
        np.testing.assert_array_equal(back["a"], tree["a"])
        assert back["b"] == 7 and back["b"].dtype == np.int32 and back["none"] is None
    summed = parallel.map_devices(lambda x: jax.lax.psum(x, parallel.AXIS), devices)(placed["b"])
    assert parallel.to_host(summed) == 56


def test_devices_are_chosen_or_refused():
    assert parallel.num_devices(0) == parallel.num_devices() == 8
    assert parallel.select_devices(3) == jax.devices()[:3]
    with pytest.raises(ValueError, match=r"num_devices is 9, but there are 8 devices"):
        parallel.select_devices(9)


def test_one_process_broadcasts_to_itself():
    value = {"a": [1, None, "é"], "b": 0.1}
    assert parallel.broadcast(value) == value
    assert parallel.any_process(True) and not parallel.any_process(False)
    assert parallel.is_first_process()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_equal_one(tmp_path, kind):
    for count in (1, 2):
        (tmp_path / str(count)).mkdir()
        options = ["--directory", tmp_path / str(count), "--kind", kind]
        outputs = train_in_processes(count, *options)
    params, one = read_result(tmp_path / "1")
    assert len(one["history"]) == 20
    for index in range(2):
        params_of_two, two = read_result(tmp_path / "2", index)
        assert_close(params_of_two, params, rtol=1e-4)
        assert two["step"] == one["step"]
        losses = [[line["loss"] for line in each["history"]] for each in (one, two)]
        np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
        norms = [each["history"][0]["grad_norm"] for each in (one, two)]
        np.testing.assert_allclose(norms[1], norms[0], rtol=1e-5)
    assert "done at step 20" in outputs[0] and "done at step" not in outputs[1]
