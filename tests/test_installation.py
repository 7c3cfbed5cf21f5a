"""The package works without a checkout: its commands, its metadata, and a whole training."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from conkd_jax import __main__ as programs
from conkd_jax.config import files
from tests.fixtures import small_world

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def constraints() -> dict[str, str]:
    """The version of each package in constraints.txt, by its normalised name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


# --- commands ------------------------------------------------------------------------------------


def test_every_program_is_a_command():
    scripts = PROJECT["scripts"]
    commands = {name: f"conkd-{name.replace('_', '-')}" for name in programs.PROGRAMS}
    commands["own_data"] = "conkd-data"  # conkd_jax.data is the library's
    assert set(commands.values()) <= set(scripts)
    for target in scripts.values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


# --- dependencies --------------------------------------------------------------------------------


def test_constraints_are_those_of_the_project():
    pinned, extras = constraints(), PROJECT["optional-dependencies"]
    tested = ("test", "kgsf", "gguf", "serve", "wandb", "mlflow", "peers")
    for text in (*PROJECT["dependencies"], *(each for name in tested for each in extras[name])):
        requirement = Requirement(text)
        if requirement.name != "conkd_jax":
            version = pinned[re.sub(r"[-_.]+", "-", requirement.name).lower()]
            assert requirement.specifier.contains(version), f"{text}: tested with {version}"


def test_gensim_is_optional():
    assert not any("gensim" in each for each in PROJECT["dependencies"])
    assert any("gensim" in each for each in PROJECT["optional-dependencies"]["kgsf"])


# --- the wheel -----------------------------------------------------------------------------------


def run(*command: object, cwd: Path = ROOT) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "USE_TORCH")}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}", ROOT)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_is_complete_and_its_readme_has_no_dead_links(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    for folder, home in (("conkd_jax", ""), ("data_prep", ""), ("configs", "conkd_jax/shipped/")):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                assert home + file.relative_to(ROOT).as_posix() in names, file
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {
        "conkd_jax",
        "data_prep",
    }
    assert "Description-Content-Type: text/markdown" in text
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert targets and all(re.match(r"https?://|#", target) for target in targets), targets


@pytest.mark.slow
def test_a_wheel_without_a_checkout_trains(wheel, tmp_path):
    """In an environment that has the wheel and, from here, all other packages."""
    environment, here = tmp_path / "environment", tmp_path / "here"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    Path(site, "others.pth").write_text(
        "".join(f"{path}\n" for path in sys.path if "site-p" in path)
    )
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel
    )
    (here / "configs").mkdir(parents=True)
    shutil.copy(small_world.__file__, here / "configs" / "mine.py")
    train = environment / "bin" / "conkd-train"

    assert f"conkd_jax {PROJECT['version']}" in run(train, "--version", cwd=here)
    assert run(train, "--help", cwd=here).startswith("usage: conkd-train ")
    plans = {
        run(train, f"--config={config}:demo", "--plan", cwd=here)
        for config in ("dialogpt_hard", "configs/dialogpt_hard.py")
    }
    (plan,) = plans  # by name and by path alike, and with the fingerprints of the checkout
    assert plan.replace("│", "").split() == (
        run(
            sys.executable,
            *("-m", "conkd_jax.train", "--config=configs/dialogpt_hard.py:demo", "--plan"),
            f"--config.artifacts_dir={tmp_path}/artifacts",
        )
        .replace("│", "")
        .split()
    )
    output = run(train, "--config=mine:demo", cwd=here)
    folder = here / "runs" / "mine-dialogpt-demo-seed0"
    assert f"Results of this run: {folder.relative_to(here)}" in output
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["command"] == "conkd-train --config=mine:demo"
    manifest = json.loads((folder / "artifacts" / "student" / "manifest.json").read_text())
    assert manifest["git"] == "unknown"
    assert manifest["packages"]["conkd_jax"] == PROJECT["version"]
    listed = run(
        python, "-c", "from conkd_jax.config import files; print(files.config_names())", cwd=here
    )
    assert listed.strip() == str(files.config_names())
