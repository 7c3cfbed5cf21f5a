"""Importing the program never imports torch, although it is installed here."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
names = ["conkd_jax", "data_prep"]
for package in map(importlib.import_module, tuple(names)):
    names += [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
names = [name for name in names if not name.endswith("__main__")]  # these start programs
for name in names:
    importlib.import_module(name)
    assert "torch" not in sys.modules, f"{name} imports torch"
print(len(names))
"""


def in_a_process(code: str, **variables: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "USE_TORCH"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_module_imports_torch():
    assert importlib.util.find_spec("torch") is not None
    modules = [*(ROOT / "conkd_jax").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py")]
    num_programs = sum(path.name == "__main__.py" for path in modules)
    assert int(in_a_process(IMPORT_EVERYTHING)) == len(modules) - num_programs


@pytest.mark.slow
@pytest.mark.parametrize("first", ["import torch", ""])
def test_who_needs_both_gets_both(first):
    code = f"""
{first}
import conkd_jax.models.gpt2
import transformers, torch
print(transformers.is_torch_available(), torch.ones(2).sum().item())
"""
    variables = {} if first else {"USE_TORCH": "1"}
    assert in_a_process(code, **variables).split() == ["True", "2.0"]
