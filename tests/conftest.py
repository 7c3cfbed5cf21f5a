"""What every test runs under: eight virtual CPU devices, no network, strict types where it matters.

The devices, the platform and the caches are settled here, at import, before anything can make an
array. Warnings are errors by pyproject.toml.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"  # a hub name must fail at once, not wait for a network
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive a fork
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from tests.small_world import SmallWorld  # noqa: E402

NUM_DEVICES = 8
jax.config.update("jax_num_cpu_devices", NUM_DEVICES)

# The same examples on every run: a commit fails by what it changed, not by a draw. New examples:
# `make test PYTEST_FLAGS="--hypothesis-profile=explore"`.
settings.register_profile("fixed", derandomize=True)
settings.register_profile("explore", print_blob=True)
settings.load_profile("fixed")

# Rooms whose arithmetic must not lean on implicit promotion: the paper's losses.
STRICT_ROOMS = ("distill",)


def pytest_configure(config: pytest.Config) -> None:
    if jax.device_count() != NUM_DEVICES:
        raise pytest.UsageError(
            f"the tests need {NUM_DEVICES} virtual CPU devices and jax shows {jax.device_count()}: "
            "something made an array before tests/conftest.py, or XLA_FLAGS sets another number"
        )


@pytest.fixture(autouse=True)
def strict_promotion(request: pytest.FixtureRequest):
    """No silent float32 -> float64, int -> float or [N] -> [1, N] in the strict rooms."""
    room = request.path.relative_to(ROOT / "tests").parts[0]
    if room not in STRICT_ROOMS:
        yield
        return
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(autouse=True)
def no_raw_dir(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only tests marked `real_data` see CONKD_RAW_DIR: the rest must pass without it."""
    if request.node.get_closest_marker("real_data") is None:
        monkeypatch.delenv("CONKD_RAW_DIR", raising=False)


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """The whole pipeline of `tests/small_world.py`, run once for all tests and all workers."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # shared: whoever comes second waits, then finds every artifact
    world = SmallWorld(root / "small_world")
    world.run(world.config())
    return world


@pytest.fixture(scope="session")
def raw_dir() -> Path:
    """The folder of raw ReDial and graph files, for tests marked `real_data`."""
    value = os.environ.get("CONKD_RAW_DIR", "")
    if not (Path(value) / "redial").is_dir():
        raise pytest.UsageError(
            "a real_data test needs CONKD_RAW_DIR to be a folder with redial/ and kg/, got "
            f"{value!r}. docs/data_card.md says where the files come from"
        )
    return Path(value)
