"""Fixtures of a backbone's tests: its small model with parameters, samples, inputs and features.

A test module names the module of its small model as `SMALL`, and its model as `MODEL`; it may
replace any of these fixtures by its own.
"""

import numpy as np
import pytest

from tests.models.backbone_model import states


@pytest.fixture(scope="module")
def start(request):
    """The trained part as initialised."""
    return request.module.SMALL.initial_params()


@pytest.fixture(scope="module")
def params(request, start):
    """All arrays, every leaf away from its initial value."""
    return request.module.SMALL.perturbed_params(start)


@pytest.fixture(scope="module")
def samples(request):
    """Samples without padding."""
    return request.module.SMALL.make_samples()


@pytest.fixture(scope="module")
def inputs(request, samples):
    """The inputs of `states`, padded."""
    return request.module.SMALL.batch(samples)


@pytest.fixture(scope="module")
def features(request, params, inputs):
    """What the model computes of them."""
    return np.asarray(states(request.module.MODEL, params, inputs))
