"""A run of a backbone over the small world, which the tests of its module read.

A module names its backbone as `BACKBONE`, and as `FIELDS` what else its config has.
"""

import pytest

from conkd_jax.stages import language_model
from tests.fixtures.backbones import open_stages

# Of the small world's six epochs: enough for everything that is checked here.
FEW_EPOCHS = {"dialogue_teacher__epochs": 2, "student__epochs": 2}


@pytest.fixture(scope="module")
def config(request, small_world):
    """The config of the run."""
    module = request.module
    fields = {**FEW_EPOCHS, **getattr(module, "FIELDS", {})}
    return small_world.config(f"demo,backbone={module.BACKBONE}", **fields)


@pytest.fixture(scope="module")
def folder(small_world, config):
    """The folder of the run's results."""
    return small_world.run(config)


@pytest.fixture(scope="module")
def opened(config, folder):
    """(corpus, vocabulary, folder of each stage)."""
    return open_stages(config)


@pytest.fixture(scope="module")
def teacher(config, opened):
    """The trained dialogue teacher."""
    _, vocabulary, folders = opened
    return language_model.load(config.backbone, folders["dialogue_teacher"], vocabulary)
