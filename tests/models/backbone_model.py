"""What the tests of every backbone's model check in the same way."""

import functools

import jax
import numpy as np


@functools.partial(jax.jit, static_argnums=0)
def states(model, params, inputs, rng=None):
    return model.states(params, inputs, rng)


def check_steps_equal_teacher_forcing(model, params, inputs, features):
    """Features that are computed token by token, with a cache, are those of a whole response.

    Args:
      model: a model that reads each response with its own context.
      params: all its arrays.
      inputs: those of `states`, with responses of five tokens.
      features: what `states` returned for them.
    """
    prompt = {name: array for name, array in inputs.items() if name != "response_ids"}
    prompt["first_token"] = inputs["response_ids"][:, 0]
    got, cache = jax.jit(model.open_cache, static_argnums=2)(params, prompt, 8)  # 5 are read
    step = jax.jit(model.step)
    np.testing.assert_allclose(got, features[:, 0], atol=1e-5)
    for t in range(1, 5):
        got, cache = step(params, inputs["response_ids"][:, t], cache)
        np.testing.assert_allclose(got, features[:, t], atol=1e-5)


def check_no_token_looks_ahead(model, params, inputs, features):
    """The features of the first three tokens do not depend on the later ones, which do change."""
    ids = inputs["response_ids"].copy()
    ids[:, 3:] = ids.max() - ids[:, 3:]
    assert (ids != inputs["response_ids"])[:, 3:].any(axis=1).all()
    got = states(model, params, {**inputs, "response_ids": ids})
    np.testing.assert_allclose(got[:, :3], features[:, :3], atol=1e-6)
    assert (np.abs(got - features)[:, 3:].max(axis=(1, 2)) > 1e-3).all()
