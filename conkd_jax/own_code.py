"""A user's own code, which a config names as "package.module:name".

A gate and a backbone can live outside this package, in a module on Python's path. The functions
here find such code, compare it with what is expected of it, and hash its source for fingerprints.
They do not depend on what the code is for.
"""

from __future__ import annotations

import importlib
import inspect
import linecache
import pkgutil
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from conkd_jax.io.files import sha256, sha256_of_file


def find(name: str) -> Any:
    """Imports what "package.module:name" names: a member of a module, or a module of a package.

    >>> find("collections.abc:Mapping").__name__
    'Mapping'

    Raises:
      LookupError: there is no such module, it can't be imported, or it has no such member.
    """
    home, _, member = name.partition(":")
    if not all(part.isidentifier() for part in re.split(r"[.:]", name)):
        raise LookupError("expected package.module:name")
    try:
        module = importlib.import_module(home)
        if hasattr(module, "__path__") and not hasattr(module, member.partition(".")[0]):
            return importlib.import_module(f"{home}.{member}")
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError) as error:
        raise LookupError(str(error)) from error


def source_sha256(module: ModuleType) -> str:
    """SHA-256 of the source of a module; of a package, that of its `__init__.py`."""
    linecache.checkcache(module.__file__)
    return sha256(inspect.getsource(module))


def source_hashes(name: str) -> dict[str, str]:
    """SHA-256 of the source files of the code that `find` found.

    Args:
      name: "package.module:name". If what stands before the colon is a package, that is, a folder,
        all its modules count; otherwise the one module does.

    Returns:
      The hashes by path, relative to the folder that the module or package is in.

    Raises:
      LookupError: the module has no source file.
    """
    module = sys.modules[name.partition(":")[0]]
    files = {
        file.relative_to(Path(folder).parent).as_posix(): sha256_of_file(file)
        for folder in getattr(module, "__path__", ())
        for file in sorted(Path(folder).rglob("*.py"))
    }
    if not files and (module.__file__ or "").endswith(".py"):
        files = {Path(str(module.__file__)).name: source_sha256(module)}
    if not files:
        raise LookupError(f"the module {module.__name__} has no source file")
    return files


def shortcomings(value: object, protocol: type) -> Iterator[str]:
    """What keeps a value from fulfilling a protocol.

    Functions are not called, only their parameters are compared.

    Args:
      value: an object or a module.
      protocol: a class with annotated fields and with methods.

    Yields:
      For each member that is missing or doesn't fit: its name, what is expected, and what is there.
    """
    nothing = object()
    for name, hint in typing.get_type_hints(protocol).items():
        found = getattr(value, name, nothing)
        if not isinstance(found, hint):
            got = "none" if found is nothing else repr(found)
            yield f"{name}: expected a value of type {getattr(hint, '__name__', hint)}, got {got}"
    for name in functions_of(protocol):
        signature = inspect.signature(getattr(protocol, name))
        parameters = list(signature.parameters.values())[1:]  # without self
        expected = f"a function {name}({', '.join(parameter.name for parameter in parameters)})"
        found = getattr(value, name, nothing)
        if not callable(found):
            got = "none" if found is nothing else f"a {type(found).__name__}"
            yield f"{name}: expected {expected}, got {got}"
            continue
        is_keyword = {each.name: each.kind is each.KEYWORD_ONLY for each in parameters}
        try:
            inspect.signature(found).bind(
                *(each for each, alone in is_keyword.items() if not alone),
                **{each: None for each, alone in is_keyword.items() if alone},
            )
        except TypeError as error:
            yield f"{name}: expected {expected}, got {name}{inspect.signature(found)}: {error}"


def members_of(protocol: type) -> list[str]:
    """The names of a protocol's fields and methods."""
    return [*typing.get_type_hints(protocol), *functions_of(protocol)]


def functions_of(protocol: type) -> list[str]:
    """The names of a protocol's methods."""
    members = vars(protocol).items()
    return [name for name, each in members if inspect.isfunction(each) and name[0] != "_"]
