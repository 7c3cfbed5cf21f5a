"""A user's own code: how it is found, compared with a protocol, and hashed."""

import sys
from typing import Protocol

import pytest

from conkd_jax import own_code
from conkd_jax.io.files import sha256


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_member_of_a_module_or_a_module_of_a_package_is_found(folder):
    (folder / "alone.py").write_text("class Outer:\n    inner = 3\n")
    (folder / "several").mkdir()
    (folder / "several" / "one.py").write_text("two = 2\n")
    assert own_code.find("alone:Outer.inner") == 3
    assert own_code.find("several:one").two == own_code.find("several.one:two") == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:name", "No module named 'nowhere'"),
        ("alone:other", "module 'alone' has no attribute 'other'"),
        ("several:other", "No module named 'several.other'"),
        ("several:broken", "No module named 'absent'"),  # not: there is no several.broken
        (":name", "expected package.module:name"),
        (".alone:name", "expected package.module:name"),
        ("alone:", "expected package.module:name"),
        ("a folder/alone:name", "expected package.module:name"),
    ],
)
def test_what_is_not_there_is_said(folder, name, message):
    (folder / "alone.py").write_text("")
    (folder / "several").mkdir()
    (folder / "several" / "broken.py").write_text("import absent\n")
    with pytest.raises(LookupError, match=message):
        own_code.find(name)


def test_a_module_is_hashed_alone_and_a_package_as_a_whole(folder):
    (folder / "alone.py").write_text("value = 1\n")
    (folder / "several" / "deep").mkdir(parents=True)
    for name in ("one.py", "deep/two.py"):
        (folder / "several" / name).write_text(f"value = {name!r}\n")
    (folder / "several" / "notes.txt").write_text("not source")
    own_code.find("alone:value")
    assert own_code.source_hashes("alone:value") == {"alone.py": sha256("value = 1\n")}
    own_code.find("several:one")
    whole = own_code.source_hashes("several:one")
    assert sorted(whole) == ["several/deep/two.py", "several/one.py"]
    assert own_code.find("several.one:value") == "one.py"
    of_one = own_code.source_hashes("several.one:value")
    assert of_one == {"one.py": whole["several/one.py"]}
    with pytest.raises(LookupError, match="math has no source file"):
        own_code.source_hashes("math:sin")


def test_a_change_on_the_disk_is_seen(folder):
    (folder / "alone.py").write_text("value = 1\n")
    own_code.find("alone:value")
    before = own_code.source_hashes("alone:value")
    (folder / "alone.py").write_text("value = 1_000\n")
    assert own_code.source_hashes("alone:value") != before


class Named(Protocol):
    label: str
    size: int | None

    def grow(self, by: int, *, times: int) -> int: ...


class Fits:
    label, size = "x", None

    def grow(self, amount, *, times=1, fast=False):
        """Other names of what is passed by position, and more options, are no shortcoming."""


class Falls:
    label = 3
    grow = staticmethod(lambda by: by)


def test_shortcomings_name_each_member_that_does_not_fit():
    assert [*own_code.shortcomings(Fits(), Named)] == []
    label, size, grow = own_code.shortcomings(Falls(), Named)
    assert label == "label: expected a value of type str, got 3"
    assert size == "size: expected a value of type int | None, got none"
    assert grow.startswith("grow: expected a function grow(by, times), got grow(by): ")
    assert own_code.members_of(Named) == ["label", "size", "grow"]
