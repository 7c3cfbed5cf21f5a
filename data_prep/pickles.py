"""Reads pickles of plain data without trusting them.

KGSF publishes its graph as pickles, and a pickle can run any code when it is loaded. This reader
admits dictionaries, lists, tuples, sets, strings, numbers and None, and nothing else. It must not
know what the data means.
"""

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
# The names that Python 2 gave the same containers.
_PLAIN |= {("__builtin__", name): kind for (_, name), kind in _PLAIN.items()}


class UnsafePickleError(UserError, ValueError):
    """A pickle is damaged or holds something else than plain data."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN:
            return _PLAIN[module, name]
        raise UnsafePickleError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise UnsafePickleError("it refers to an object outside itself")


def load_plain(path: epath.PathLike) -> Any:
    """Loads a pickle that holds plain containers, strings and numbers only.

    Args:
      path: the pickle file.

    Returns:
      Its object.

    Raises:
      UnsafePickleError: the file is truncated, no pickle, or names any class or function.
    """
    path = epath.Path(path)
    try:
        with path.open("rb") as file:
            loaded = _PlainUnpickler(file).load()
    except UnsafePickleError as error:
        raise UnsafePickleError(
            f"{path}: expected a pickle of dict, list, tuple, set, str, int, float and None; "
            f"{error}. Nothing of it was run. Get the file from its official source again."
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
            f"{path} is truncated or no pickle ({type(error).__name__}: {error}). "
            "Get the file from its official source again."
        ) from error
    return loaded
