"""One pair of systems, opened once, and a server of it with default settings."""

import pytest


@pytest.fixture(scope="session")
def systems(small_world):
    from conkd_jax.serve.systems import Systems  # not earlier: jaxtyping has to hook imports

    opened = Systems.open([small_world.folder, small_world.folder], batch_size=3)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def site(systems):
    from tests.fixtures.serving import running

    with running(systems) as site:
        yield site
