"""Benchmarks at a tiny size, on one processor, without the peers that are no test dependencies."""

import json
from types import ModuleType

import pytest
import torch

from benchmarks import decode, report, side_by_side

OPTIONAL = ("ctranslate2", "liger_kernel")


@pytest.fixture(autouse=True)
def one_processor(monkeypatch):
    """Threads of several libraries on a busy machine would wait for each other."""
    for module in (side_by_side, report, decode):
        monkeypatch.setattr(module, "processors", lambda: [0])
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def only_test_dependencies(monkeypatch):
    is_installed = side_by_side.is_installed
    monkeypatch.setattr(
        side_by_side, "is_installed", lambda name: name not in OPTIONAL and is_installed(name)
    )


@pytest.fixture
def run_tiny(tmp_path, capsys):
    """Runs a benchmark once; returns its exit status, its JSON file and what it printed."""

    def run(module: ModuleType) -> tuple[int, dict, str]:
        file = tmp_path / "found.json"
        status = module.main(["--size=tiny", "--rounds=1", "--pause=0", f"--json={file}"])
        printed = capsys.readouterr()
        return status, json.loads(file.read_text()), printed.out + printed.err

    return run


def differences(document: dict) -> dict[str, float]:
    """The differences of all contenders that were compared, by name."""
    return {
        name: found["difference"]
        for case in document["cases"]
        for name, found in case["contenders"].items()
        if found.get("difference") is not None
    }
