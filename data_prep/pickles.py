"""Reads pickles of plain data without trusting them.

KGSF publishes its graph as pickles, and loading a pickle can run any code. This reader accepts
dictionaries, lists, tuples, sets, strings, numbers and None, and nothing else.
"""

from __future__ import annotations

import collections
import pickle
from typing import Any

from etils import epath

from conkd_jax.errors import UserError

_PLAIN = {
    ("collections", "defaultdict"): collections.defaultdict,
    ("builtins", "dict"): dict,
    ("builtins", "list"): list,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "tuple"): tuple,
    ("builtins", "int"): int,
    ("builtins", "float"): float,
    ("builtins", "str"): str,
}
# The same containers under the names of Python 2.
_PLAIN |= {("__builtin__", name): kind for (_, name), kind in _PLAIN.items()}


class UnsafePickleError(UserError, ValueError):
    """A pickle is damaged or holds something other than plain data."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN:
            return _PLAIN[module, name]
        raise UnsafePickleError(f"found {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise UnsafePickleError("found a reference to an object outside the file")


def load_plain(path: epath.PathLike) -> Any:
    """Loads a pickle that holds plain containers, strings and numbers only.

    Raises:
      UnsafePickleError: the file is truncated, is not a pickle, or names a class or a function.
    """
    path = epath.Path(path)
    try:
        with path.open("rb") as file:
            loaded = _PlainUnpickler(file).load()
    except UnsafePickleError as error:
        raise UnsafePickleError(
            f"{path}: expected a pickle of dict, list, tuple, set, str, int, float and None; "
            f"{error}. No code of it was run. Get the file from its official source again."
        ) from None
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        AttributeError,
        MemoryError,
        OverflowError,
        UnicodeDecodeError,
    ) as error:
        raise UnsafePickleError(
            f"{path} is truncated or not a pickle ({type(error).__name__}: {error}). "
            "Get the file from its official source again."
        ) from error
    return loaded
