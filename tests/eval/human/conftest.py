"""Two runs to be judged."""

from pathlib import Path

import pytest

from tests.eval.exported import write_run


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    return [write_run(tmp_path / "x" / name, name) for name in ("dialogpt", "dialogpt_hard")]
