"""What tests of own data share."""

import pytest

from tests.fixtures.own_data import games


@pytest.fixture
def folder(tmp_path):
    """The template, to be changed by a test."""
    return games(tmp_path / "games")
