"""Where config files are: in the checkout, in the installed package, or in a folder of the user's.

A config file is given by its path, `configs/dialogpt_hard.py`, or by its name, `dialogpt_hard`. A
name stands for a file of the working directory's `configs/`, or else for one that comes with this
package, so that both work in any directory. How a file was given changes nothing about a run.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

FOLDER = "configs"
_PACKAGE = Path(__file__).resolve().parents[1]
_SHIPPED = _PACKAGE / "shipped"  # a wheel has the checkout's configs/ in this folder

IS_CHECKOUT = not _SHIPPED.exists()
HOME = _PACKAGE.parent if IS_CHECKOUT else _SHIPPED
"""The folder that holds the `configs/` of this version: the checkout, or a folder of the wheel."""


def config_names() -> list[str]:
    """The names of the config files that come with this package, such as "ablations/vanilla"."""
    files = (HOME / FOLDER).rglob("*.py")
    return sorted(file.relative_to(HOME / FOLDER).with_suffix("").as_posix() for file in files)


def resolved(filename: str) -> str:
    """The path of the config file that is meant by a path or a name.

    Args:
      filename: what --config takes: a path or a name and, after a colon, an argument.

    Returns:
      The path with the same argument; `filename` itself if there is no such file.
    """
    path, colon, argument = filename.partition(":")
    if os.path.isfile(path):
        return filename
    name = path.removeprefix(f"{FOLDER}/").removesuffix(".py")
    if re.fullmatch(r"[\w-]+(/[\w-]+)*", name):
        for root in ("", f"{HOME}/"):
            if os.path.isfile(file := f"{root}{FOLDER}/{name}.py"):
                return f"{file}{colon}{argument}"
    return filename


def names_like(filename: str) -> str:
    """A sentence that helps after a config file was not found: similar names, or all names."""
    name = filename.partition(":")[0].removeprefix(f"{FOLDER}/").removesuffix(".py")
    names = config_names()
    if alike := difflib.get_close_matches(name, names, n=3):
        return f"Did you mean {' or '.join(alike)}?"
    by_folder: dict[str, list[str]] = {}
    for each in names:
        folder, _, stem = each.rpartition("/")
        by_folder.setdefault(folder, []).append(stem)
    listed = [
        f"{folder}/{{{', '.join(stems)}}}" if folder else ", ".join(stems)
        for folder, stems in by_folder.items()
    ]
    return f"This version has {', '.join(listed)}."


@contextlib.contextmanager
def importable(path: str) -> Iterator[None]:
    """Lets a config file import others as `configs.…` while it is loaded.

    They are looked up in the `configs/` that the file is in, in that of the working directory, and
    in that of this package. A package of this name that happens to be installed is not among them.

    Args:
      path: the path of the config file.
    """
    own = os.path.abspath(path).rpartition(f"{os.sep}{FOLDER}{os.sep}")[0]
    roots = [own] if own else []
    module = importlib.util.module_from_spec(ModuleSpec(FOLDER, None, is_package=True))
    module.__path__ = [os.path.join(root, FOLDER) for root in (*roots, os.getcwd(), HOME)]

    def forget() -> dict:
        loaded = [name for name in sys.modules if name.partition(".")[0] == FOLDER]
        return {name: sys.modules.pop(name) for name in loaded}

    before = forget()
    sys.modules[FOLDER] = module
    try:
        yield
    finally:
        forget()
        sys.modules.update(before)
