"""Imports point one way, and each heavy library has one home. The source is read, not run."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A module may import modules on its own line and on the lines above. Add a new module here.
ROOMS = (
    ("errors", "typing", "versions"),
    ("io",),
    ("own_code", "runtime"),
    ("distill",),
    ("models",),
    ("config", "data", "eval"),
    ("training",),
    ("artifacts",),
    ("stages",),
    ("runs",),
    ("cli",),
    (
        "train",
        "rows",
        "evaluate",
        "tables",
        "human",
        "latency",
        "memory",
        "verify",
        "demo",
        "own_data",
        "gate",
        "idea",
        "costs",
        "store_formats",
        "cold_items",
        "samples",
        "tradeoff",
        "chat",
        "serve",
        "export",
        "__main__",
    ),
)
RANK = {room: rank for rank, line in enumerate(ROOMS) for room in line}

# Library -> the only files that may import it; a folder stands for all files in it.
HOMES = {
    "orbax": ("conkd_jax/training/checkpoint.py",),
    "jraph": ("conkd_jax/models",),
    "transformers": ("conkd_jax/models/gpt2_network.py",),
    "torch": ("conkd_jax/models/gpt2_weights.py",),  # inside a function: pytorch_model.bin
    "tensorflow_datasets": ("conkd_jax/data",),
    "array_record": ("conkd_jax/data/shards",),
    "grain": ("conkd_jax/data",),
    "pyarrow": ("conkd_jax/export/teachers.py",),
    "gguf": ("conkd_jax/io/published.py",),  # inside a function: an optional dependency
    "starlette": ("conkd_jax/serve",),
    "uvicorn": ("conkd_jax/serve",),
    "playwright": ("conkd_jax/serve/screenshots.py",),  # inside a function: an optional dependency
    "wandb": ("conkd_jax/training/trackers/wandb_run.py",),
    "mlflow": ("conkd_jax/training/trackers/mlflow_run.py",),
    "rapidfuzz": ("conkd_jax/data/title_links.py",),
    "gensim": ("conkd_jax/data/word_vectors.py",),
}
NEVER = ("tensorflow", "torch_geometric", "nltk", "beartype", "pytest", "clu")
PURE = ("distill", "models")  # no files, no datasets, no configs
NOT_IN_PURE = ("tensorflow_datasets", "array_record", "grain", "orbax", "ml_collections")


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imported_names(path: Path) -> Iterator[str]:
    """Yields the dotted name of every import in a file, including those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            # `from a import b` may mean the module a.b.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "conkd_jax").parts[0].removesuffix(".py")


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


PACKAGE = [path for path in sources("conkd_jax") if room_of(path) != "__init__"]
EVERYTHING = sources("conkd_jax", "data_prep", "configs")


@pytest.mark.parametrize("path", PACKAGE, ids=label)
def test_import_points_down(path: Path) -> None:
    room = room_of(path)
    assert room in RANK, f"{label(path)}: add {room!r} to ROOMS"
    for name in imported_names(path):
        package, _, rest = name.partition(".")
        if package == "conkd_jax" and rest:
            other = rest.split(".")[0]
            assert other in RANK, f"{label(path)} imports {name}, which is not in ROOMS"
            assert RANK[other] <= RANK[room], f"{label(path)} ({room}) may not import {name}"
        if package == "data_prep":
            assert room == "stages", f"{label(path)}: only stages import data_prep, got {name}"
        assert package not in ("configs", "tests", "benchmarks"), f"{label(path)} imports {name}"
        if room in PURE:
            assert package not in NOT_IN_PURE, f"{label(path)}: {room} never imports {package}"


@pytest.mark.parametrize("path", sources("data_prep"), ids=label)
def test_data_prep_imports_only_data(path: Path) -> None:
    for name in imported_names(path):
        if name.startswith("conkd_jax"):
            room = (name.split(".") + [""])[1]
            assert room in ("errors", "typing", "versions", "io", "data"), (
                f"{label(path)} may not import {name}"
            )


@pytest.mark.parametrize("path", sources("configs"), ids=label)
def test_config_files_import_only_configs(path: Path) -> None:
    for name in imported_names(path):
        package = name.split(".")[0]
        allowed = name.startswith(("conkd_jax.config", "configs.")) or name == "configs"
        assert allowed or package == "ml_collections", f"{label(path)} imports {name}"


@pytest.mark.parametrize("path", EVERYTHING, ids=label)
def test_libraries_stay_at_home(path: Path) -> None:
    for name in imported_names(path):
        package = name.split(".")[0]
        assert package not in NEVER, f"{label(path)} imports {name}"
        homes = HOMES.get(package)
        if homes is not None:
            at_home = any(
                label(path) == home or label(path).startswith(home + "/") for home in homes
            )
            assert at_home, f"{label(path)} imports {name}; its home is {', '.join(homes)}"


def test_homes_are_lived_in() -> None:
    for package, homes in HOMES.items():
        for home in homes:
            paths = [path for path in EVERYTHING if f"{label(path)}/".startswith(f"{home}/")]
            used = {name.split(".")[0] for path in paths for name in imported_names(path)}
            assert package in used, f"HOMES: {home} does not import {package}"


def uses(path: Path, owner: str, attribute: str) -> bool:
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == attribute
        and isinstance(node.value, ast.Name)
        and node.value.id == owner
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )


def test_pmap_has_one_home() -> None:
    users = [label(path) for path in EVERYTHING if uses(path, "jax", "pmap")]
    assert users == ["conkd_jax/runtime/parallel.py"]


def test_imports_form_no_cycle() -> None:
    """No module imports itself through a chain of imports at the top of files."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sources("conkd_jax", "data_prep")
    }

    def needs(module: str) -> set[str]:
        found: set[str] = set()
        for node in ast.parse(modules[module].read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                target = name if name in modules else name.rpartition(".")[0]
                if target in modules and target != module:
                    found.add(target)
        return found

    done: set[str] = set()

    def walk(module: str, chain: tuple[str, ...]) -> None:
        assert module not in chain, " -> ".join((*chain[chain.index(module) :], module))
        if module not in done:
            for other in sorted(needs(module)):
                walk(other, (*chain, module))
            done.add(module)

    for module in sorted(modules):
        walk(module, ())
    assert done == set(modules)
