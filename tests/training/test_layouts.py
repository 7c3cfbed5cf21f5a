"""What a layout keeps where, and that every stage computes the same in both.

That is on one device, on eight, and in two processes with four each. Single steps and the loop are
compared in test_parallel and test_loop.
"""

import json

import jax
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from conkd_jax.artifacts import build as artifacts
from conkd_jax.config import frozen
from conkd_jax.runtime import parallel
from conkd_jax.stages import pipeline
from conkd_jax.training import layouts
from tests.fixtures.layout_runs import (
    Place,
    check_same_stages,
    config_of,
    run_pipeline,
    stage_folder,
)
from tests.fixtures.points import Points, make_task
from tests.fixtures.small_world import STAGES, get_config
from tests.fixtures.training import KINDS, assert_close, assert_same

TREE = {
    "wide": np.arange(48, dtype=np.float32).reshape(3, 16),
    "tall": np.arange(80, dtype=np.int32).reshape(16, 5),
    "odd": np.arange(3, dtype=np.float32),
    "number": np.int32(7),
    "none": None,
}


def bytes_on(device, tree) -> int:
    """Bytes of a placed tree that one device holds."""
    shards = [shard for leaf in jax.tree.leaves(tree) for shard in leaf.addressable_shards]
    return sum(shard.data.nbytes for shard in shards if shard.device == device)


@pytest.fixture(params=KINDS)
def layout(request):
    return layouts.layout_of(request.param, parallel.select_devices(8))


@pytest.fixture
def mesh():
    return layouts.layout_of("mesh", parallel.select_devices(8))


@pytest.mark.parametrize(
    "shape, split",
    [
        ((16, 8), ("devices",)),
        ((8, 16), (None, "devices")),
        ((8, 8), ("devices",)),  # the first of equals
        ((50257, 768), (None, "devices")),  # the larger one does not divide
        ((2, 3, 24), (None, None, "devices")),
        ((7, 9), ()),
        ((0, 9), ()),
        ((), ()),
    ],
)
def test_the_largest_axis_that_divides_is_split(shape, split):
    assert layouts.split_of(shape, 8) == PartitionSpec(*split)


def test_what_is_put_comes_back(layout):
    placed = layout.put(TREE)
    assert_same(layout.to_host(placed), TREE)
    on_one = layout.on_one_device(placed)
    assert_same(on_one, TREE)
    assert {leaf.sharding.device_set.pop() for leaf in jax.tree.leaves(on_one)} == {
        jax.devices()[0]
    }
    assert all(leaf.is_fully_addressable for leaf in jax.tree.leaves(on_one))


def test_what_is_read_has_its_own_memory(layout):
    """A step takes over the memory of the state; a save in the background still reads."""
    placed = layout.put(TREE)
    read = layout.to_host(placed)
    for leaf in jax.tree.leaves(placed):
        assert not any(np.shares_memory(leaf.addressable_data(0), each) for each in read.values())


def test_each_device_of_a_mesh_holds_a_part(mesh):
    placed = mesh.put(TREE)
    for device in mesh.devices:
        parts = TREE["wide"].nbytes // 8 + TREE["tall"].nbytes // 8
        assert bytes_on(device, placed) == parts + TREE["odd"].nbytes + 4


def test_shapes_are_those_of_what_is_put(layout):
    placed, planned = layout.put(TREE), layout.shapes(TREE)
    for one, other in zip(jax.tree.leaves(placed), jax.tree.leaves(planned), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        assert other.sharding is None or one.sharding == other.sharding


def test_a_step_on_a_mesh_keeps_the_state_split_and_compiles_once(mesh):
    task, optimizer = make_task(), optax.adam(1e-3)
    step = mesh.train_step(task.loss, optimizer, ema_decay=0.9)
    key = jax.random.key_data(jax.random.key(0))
    fixed = mesh.put({"key": key, "constants": task.constants})
    state = parallel.init_state(task.init(jax.random.key(0)), optimizer, with_ema=True)
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    state = first = mesh.put(state)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    for index in range(3):
        state, metrics = step(state, mesh.put_batch(Points(8).batch(index)), fixed)
    assert step._cache_size() == 1
    assert jax.tree.map(lambda leaf: leaf.sharding, state) == shardings
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first))
    # All but the last layer's bias and three numbers are split.
    assert bytes_on(mesh.devices[3], state) < whole / 8 + 64
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(metrics))


def test_constants_are_joined_for_the_loss(layout):
    """On a mesh they are split as well."""
    table = np.arange(32, dtype=np.float32).reshape(16, 2)

    def loss(params, batch, rng, constants):
        value = (params["w"] * constants["table"]).sum() * batch["weights"].sum()
        return value, {"rows": (constants["table"].shape[0] + 0.0, 1.0)}

    optimizer = optax.sgd(1.0)
    step = layout.train_step(loss, optimizer)
    key = jax.random.key_data(jax.random.key(0))
    fixed = layout.put({"key": key, "constants": {"table": table}})
    params = {"w": np.zeros((16, 2), np.float32)}
    state = layout.put(parallel.init_state(params, optimizer, with_ema=False))
    after, metrics = step(state, layout.put_batch(Points(8).batch(0)), fixed)
    # The weights of a batch sum to 1, so the gradient is the table.
    assert_close(layout.to_host(after).params, {"w": -table})
    rows, count = layout.to_host(metrics)["rows"]
    assert rows / count == 16


def test_a_layout_is_told_in_words():
    assert layouts.in_words("pmap", 4).endswith("each with all parameters (parallel.kind=pmap)")
    assert layouts.in_words("mesh", 4).startswith("training on 4 devices, which share parameters")


# --- whole pipelines ---------------------------------------------------------------------------

DIALOGPT, REDIAL = "demo", "demo,backbone=redial"
ADDED = {"questionnaires", "sentiment"}  # stages that only some systems have
EPOCHS = 12  # until responses differ from each other, and before rounding errors have grown
TRAINED = ("rec_teacher", "dialogue_teacher", "turn_classifier", "student")
ONE_DEVICE = Place("pmap", 1)


@pytest.mark.slow
def test_eight_devices_that_share_parameters_train_as_one(tmp_path):
    """Each stage reads what was trained in the same place, so differences would add up."""
    configs = [
        config_of(tmp_path / str(place), DIALOGPT, place, epochs=1)
        for place in (ONE_DEVICE, Place("mesh", 8))
    ]
    for config in configs:
        for name in TRAINED:
            artifacts.ensure(pipeline.build(config)[name], config.artifacts_dir)
    check_same_stages(*configs, names=["corpus", "vocabulary", "teacher_outputs", *TRAINED])


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory):
    """Runs a pipeline on one device, once; returns its config."""
    found = {}

    def run(argument):
        if argument not in found:
            root = tmp_path_factory.mktemp("one_device")
            found[argument] = run_pipeline(root, argument, ONE_DEVICE, epochs=EPOCHS)
        return found[argument]

    return run


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("num_processes", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("argument", [DIALOGPT, REDIAL])
def test_a_pipeline_computes_the_same_anywhere(
    argument, kind, num_processes, on_one_device, tmp_path
):
    place = Place(kind, 8, num_processes)
    config = run_pipeline(tmp_path, argument, place, epochs=EPOCHS)
    check_same_stages(on_one_device(argument), config)
    machine = json.loads((stage_folder(config, "student") / "manifest.json").read_text())["machine"]
    assert machine["num_processes"] == num_processes
    assert machine["devices"].startswith("8 x ")


def test_the_two_systems_have_every_stage():
    stages = [set(pipeline.build(frozen(get_config(each)))) for each in (DIALOGPT, REDIAL)]
    assert set.union(*stages) == {*STAGES, *ADDED}
