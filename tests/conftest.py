"""What every test runs under: eight virtual CPU devices, no network, and shared fixtures.

Devices, platform and caches are set here, at import, before anything creates an array. Warnings are
errors by pyproject.toml.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"  # a hub name must fail at once, not wait for a network
os.environ["MPLBACKEND"] = "Agg"
os.environ["USE_TORCH"] = "1"  # of transformers, whose PyTorch models are peers in parity tests
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive a fork
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
# Most programs here run once on a few numbers. They take longer to optimise than to run, and even
# the smallest are needed again in other modules, after `compiled_programs` has freed them.
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax  # noqa: E402
import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

pytest.register_assert_rewrite("tests.fixtures")  # their failures show values as well

from tests.fixtures.small_world import SmallWorld  # noqa: E402

NUM_DEVICES = 8
jax.config.update("jax_num_cpu_devices", NUM_DEVICES)

# The same examples in every run, so that a commit fails because of what it changed. For new ones:
# `make test PYTEST_FLAGS="--hypothesis-profile=explore"`.
# No time limits: the first example may have to compile, and on a busy core every example is slow.
unlimited = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fixed", unlimited, derandomize=True)
settings.register_profile("explore", unlimited, print_blob=True)
settings.load_profile("fixed")

# Rooms whose arithmetic must not rely on implicit promotion: the paper's losses.
STRICT_ROOMS = ("distill",)


def pytest_configure(config: pytest.Config) -> None:
    if jax.device_count() != NUM_DEVICES:
        raise pytest.UsageError(
            f"expected {NUM_DEVICES} virtual CPU devices, got {jax.device_count()}: something "
            "created an array before tests/conftest.py, or XLA_FLAGS sets another number"
        )


@pytest.fixture(autouse=True)
def strict_promotion(request: pytest.FixtureRequest):
    """Forbids silent float32 -> float64, int -> float and [N] -> [1, N] in the strict rooms."""
    room = request.path.relative_to(ROOT / "tests").parts[0]
    if room not in STRICT_ROOMS:
        yield
        return
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(autouse=True, scope="module")
def compiled_programs():
    """Frees the compiled programs of a module's tests.

    Each holds several memory maps. The thousands of a whole suite would reach Linux's limit for one
    process (vm.max_map_count, 65,530), and XLA would abort the process.
    """
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def no_raw_dir(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides CONKD_RAW_DIR from all tests but those marked `real_data`."""
    if request.node.get_closest_marker("real_data") is None:
        monkeypatch.delenv("CONKD_RAW_DIR", raising=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts tests of the small world first: one worker builds it, the others run the rest."""
    items.sort(key=lambda item: "small_world" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """The pipeline of `tests/fixtures/small_world.py`, run once for all tests and all workers."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # one worker builds an artifact; the others wait for it
    world = SmallWorld(root / "small_world")
    world.run(world.config())
    return world


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Calls a program in this process; returns its exit code, output and errors."""
    from tests.fixtures.programs import call_program  # not earlier: jaxtyping has to hook imports

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")

    def program(module, *arguments) -> tuple[int, str, str]:
        code = call_program(module, *arguments)
        return code, *capsys.readouterr()

    return program


@pytest.fixture
def object_store(monkeypatch: pytest.MonkeyPatch):
    """A stand-in for Google Cloud Storage, which `gs://` paths mean in this test."""
    from tests.fixtures import object_store  # not earlier: jaxtyping has to hook imports

    with object_store.object_store(monkeypatch) as store:
        yield store


@pytest.fixture(scope="session")
def raw_dir() -> Path:
    """The folder of raw ReDial and graph files, for tests marked `real_data`."""
    value = os.environ.get("CONKD_RAW_DIR", "")
    if not (Path(value) / "redial").is_dir():
        raise pytest.UsageError(
            "tests marked real_data read CONKD_RAW_DIR: expected a folder with redial/ and kg/, "
            f"got {value!r}. docs/data_card.md says where the files come from"
        )
    return Path(value)
