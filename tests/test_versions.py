"""Versions of packages are in every manifest and in no fingerprint; `--version` prints them."""

import importlib.metadata
import json
import platform
import tomllib
from pathlib import Path

import conkd_jax
from conkd_jax import __main__ as programs
from conkd_jax import train, versions
from conkd_jax.artifacts import build as artifacts
from conkd_jax.stages import pipeline
from data_prep import redial

ROOT = Path(__file__).resolve().parents[1]


def test_the_version_stands_in_two_places_alike():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == conkd_jax.__version__
    assert project["name"] == versions.PACKAGE


def test_all_that_a_run_uses_is_among_the_versions():
    found = versions.package_versions()
    assert found["python"] == platform.python_version()
    assert found["conkd_jax"] == conkd_jax.__version__
    for name in ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint", "transformers"):
        assert found[name] == importlib.metadata.version(name)
    assert found["torch"] == importlib.metadata.version("torch")  # reads pytorch_model.bin
    assert not {"pytest", "ruff", "playwright"} & set(found)


def test_every_manifest_has_them_and_no_fingerprint_depends_on_them(small_world, monkeypatch):
    config = small_world.config()
    stages = pipeline.build(config)
    for stage in stages.values():
        path = stage.directory(config.artifacts_dir) / "manifest.json"
        manifest = json.loads(path.read_text())
        assert manifest["packages"] == versions.package_versions()
        assert "packages" not in json.dumps(manifest["config"])
    before = {name: stage.fingerprint for name, stage in stages.items()}
    monkeypatch.setattr(versions.importlib.metadata, "version", lambda name: "99")
    assert {name: stage.fingerprint for name, stage in pipeline.build(config).items()} == before
    rows = artifacts.explain(stages["evaluation"], config.artifacts_dir)
    assert {row.state for row in rows} == {"whole"}


def test_every_program_prints_them(call, capsys):
    for module in (train, programs):
        code, output, errors = call(module, "--version")
        assert (code, output, errors) == (0, versions.versions_in_words() + "\n", "")
    try:
        redial.main(["--version"])
    except SystemExit as end:
        assert end.code == 0
    assert capsys.readouterr().out.split() == versions.versions_in_words().split()
