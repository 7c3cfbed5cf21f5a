"""What is compiled, and when: the clock, and the shapes of a training and of an evaluation."""

import contextlib
import time

import jax
import jax.numpy as jnp
import pytest
from jax import monitoring

from conkd_jax.artifacts import build as artifacts
from conkd_jax.data.batches.loader import BatchLoader
from conkd_jax.data.batches.plan import fixed_buckets
from conkd_jax.runtime import compiling
from conkd_jax.stages import pipeline

PROGRAM = "/jax/core/compile/backend_compile_duration"  # once for each, read from a cache or not
BUCKETS = 2


@contextlib.contextmanager
def counted():
    """Counts the programs that are compiled inside: the one entry of a list, which grows."""
    count = [0]

    def listen(event, duration_secs, **kwargs):
        count[-1] += event == PROGRAM

    monitoring.register_event_duration_secs_listener(listen)
    try:
        yield count
    finally:
        monitoring.unregister_event_duration_listener(listen)


def test_a_function_is_compiled_once_for_each_shape():
    @jax.jit
    def inner(x):
        return jnp.tanh(x) @ x

    @jax.jit
    def outer(x):  # nested functions are traced inside of it
        return jax.lax.scan(lambda c, _: (inner(c) + c, None), x, None, length=3)[0]

    square, larger = jnp.ones((3, 3)), jnp.ones((4, 4))
    took = []
    for argument in (square, square, larger):
        began, before = time.monotonic(), compiling.seconds()
        outer(argument).block_until_ready()
        took.append(compiling.seconds() - before)
        assert took[-1] <= time.monotonic() - began  # no second counts twice
    assert took[0] > 0 and took[1] == 0 and took[2] > 0


def test_nested_spans_count_once(monkeypatch):
    clock, now = compiling._Clock(), [0.0]
    monkeypatch.setattr(compiling.time, "monotonic", lambda: now[0])
    for end, duration in ((2.0, 1.0), (4.0, 1.0), (5.0, 5.0), (9.0, 1.0)):
        now[0] = end
        clock.add("/jax/core/compile/any", duration)
    clock.add("/jax/another/event", 100.0)
    assert clock.seconds == 6.0


@pytest.fixture(scope="module", params=["dialogpt", "kgsf"])
def config(request, small_world):
    """A student of its own, on artifacts of the small world."""
    return small_world.config(
        f"demo,backbone={request.param}",
        student__epochs=3,
        student__num_buckets=BUCKETS,
        seed=17,
    )


def test_only_the_first_epoch_of_a_training_compiles(config, monkeypatch):
    """One step for each length of its batches; scoring dev is a few more; then nothing at all."""
    stages = pipeline.build(config)
    artifacts.ensure(stages["teacher_outputs"], config.artifacts_dir)
    before = []  # programs that were compiled before each batch was asked for
    plans = []

    class Watched(BatchLoader):
        def iterate(self, start_step=0, num_steps=None):
            plans.append(self.plan)
            for batch in super().iterate(start_step, num_steps):
                before.append(count[-1])
                yield batch

    monkeypatch.setattr("conkd_jax.stages.training.BatchLoader", Watched)
    jax.clear_caches()
    with counted() as count:
        artifacts.ensure(stages["student"], config.artifacts_dir)
    (plan,) = plans
    epoch = plan.steps_per_epoch
    assert len(before) == 3 * epoch
    used = {plan.step(step).bucket_length for step in range(epoch)}
    assert before[epoch - 1] - before[0] == len(used) == BUCKETS
    assert 0 < before[epoch] - before[epoch - 1] <= 4 * len(fixed_buckets(64))
    assert before[epoch] == before[2 * epoch] == count[-1]


def test_only_the_first_evaluation_compiles(config):
    """Other responses, in another number, are decoded, scored and ranked by the same programs."""
    large, small = (pipeline.build(config, split) for split in ("train", "valid"))
    for name in ("student", "turn_classifier"):
        artifacts.ensure(small[name], config.artifacts_dir)
    jax.clear_caches()
    with counted() as first:
        artifacts.ensure(large["evaluation"], config.artifacts_dir)
    with counted() as second:
        artifacts.ensure(small["evaluation"], config.artifacts_dir)
    assert 0 < first[-1] <= 8 * len(fixed_buckets(64))
    assert second[-1] == 0
