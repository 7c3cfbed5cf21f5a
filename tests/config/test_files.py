"""A config file is found by path and by name, from any folder, and is the same run either way."""

import sys
from types import ModuleType

import pytest

from conkd_jax import rows, train
from conkd_jax.config import ConfigError, files, frozen, load_config_file
from conkd_jax.runs.folder import config_name
from tests.fixtures.programs import refused

NAMES = ("dialogpt_hard", "ablations/vanilla", "sweeps/gamma")


def spellings(name: str) -> list[str]:
    return [name, f"configs/{name}.py", f"configs/{name}", f"{name}.py"]


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_one_run_however_it_is_named(tmp_path, monkeypatch, name):
    assert name in files.config_names()
    at_home = frozen(load_config_file(f"{files.HOME}/configs/{name}.py:demo"))
    for folder in (files.HOME, tmp_path):  # in the checkout, and outside of it
        monkeypatch.chdir(folder)
        for spelling in spellings(name):
            path = files.resolved(f"{spelling}:demo")
            assert path.endswith(f"configs/{name}.py:demo")
            assert config_name(path) == name
            assert frozen(load_config_file(f"{spelling}:demo")) == at_home


def test_a_file_of_the_working_directory_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    own = tmp_path / "configs" / "kgsf.py"
    own.write_text("from configs import dialogpt_soft as other\nget_config = other.get_config\n")
    assert files.resolved("kgsf:demo") == "configs/kgsf.py:demo"
    assert frozen(load_config_file("kgsf:demo")).distill.gate == "soft"
    assert config_name(files.resolved("kgsf")) == "kgsf"
    other = load_config_file(f"{files.HOME}/configs/kgsf.py:demo")  # loaded after the user's
    assert other.paper_row == "KGSF"
    (tmp_path / "kgsf").write_text("get_config = None\n")  # a file of this very name
    assert files.resolved("kgsf:demo") == "kgsf:demo"


@pytest.mark.parametrize("name", ["../kgsf", "/kgsf", "", ".", "a//b", "kgsf.py.py", "nowhere"])
def test_what_is_no_name_stays_as_it_is(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert files.resolved(f"{name}:demo") == f"{name}:demo"
    with pytest.raises(ConfigError, match="expected a config file, found none"):
        load_config_file(f"{name}:demo")


def test_a_package_named_configs_is_not_mistaken_for_ours(monkeypatch):
    foreign = ModuleType("configs")
    monkeypatch.setitem(sys.modules, "configs", foreign)
    assert load_config_file("recommender_start/hard:demo").student.item_init == "recommender"
    assert sys.modules["configs"] is foreign
    assert "configs.dialogpt_hard" not in sys.modules or not hasattr(foreign, "dialogpt_hard")


def test_a_wrong_name_is_told_similar_ones_or_all(call):
    refused(call(train, "--config=dialog_hard:demo"), "found no such file", "mean dialogpt_hard")
    message = refused(call(train, "--config=xyz:demo"), "ablations/{both_teachers, ")
    assert all(name.rpartition("/")[2] in message for name in files.config_names())
    refused(call(rows, "dialog_hard:demo", "--dry_run"), "mean dialogpt_hard")


@pytest.mark.parametrize("argument", ["--config=dialogpt_hard:demo", "--config dialogpt_hard:demo"])
def test_a_name_works_on_the_command_line(call, tmp_path, monkeypatch, argument):
    monkeypatch.chdir(tmp_path)
    arguments = [*argument.split(), "--config.parallel.num_devices=1", "--plan"]
    code, output, errors = call(train, *arguments)
    assert code == 0, errors
    assert "never built" in output


def test_rows_take_names(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, output, errors = call(rows, "table2", "kgsf:demo", "--preset=mini", "--dry_run")
    assert code == 0, errors
    assert len(output.splitlines()) == 7
