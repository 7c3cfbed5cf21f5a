import time

import jax
import jax.numpy as jnp

from conkd_jax import compiling


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
