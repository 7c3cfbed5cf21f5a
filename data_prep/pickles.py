"""Reads pickles of plain data without trusting them.

KGSF publishes its graph as pickles, and loading a pickle can run any code. A pickle is a program
for a small machine with a stack. This module runs the instructions that build dictionaries, lists,
tuples, sets, strings, numbers and None itself, and refuses every other one, so no code of the file
is ever run. It also bounds what a few bytes can ask for: how deeply values are nested, how many
values there are if shared ones are counted each time, and the size of numbers.
"""

from __future__ import annotations

import collections
import pickletools
import warnings
from collections.abc import Callable
from typing import Any

from etils import epath

from conkd_jax.errors import UserError

MAX_BYTES = 1 << 30  # of a file; KGSF's largest pickle has 2 MB
MAX_DEPTH = 100  # of values inside values
MAX_VALUES = 20_000_000  # with shared ones counted each time: what a reader of the result may see
MAX_INTEGER = 2**63  # beyond it, no number of a node or an item

_KINDS = {
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
# The same kinds under the names of Python 2.
_KINDS |= {("__builtin__", name): kind for (_, name), kind in _KINDS.items()}
_EXPECTED = "a pickle of dict, list, tuple, set, str, int, float and None"


class UnsafePickleError(UserError, ValueError):
    """A pickle is damaged, too large, or holds something other than plain data."""


class _RefusedError(Exception):
    """An instruction that plain data does not need."""


class _Value:
    """A value on the stack, with the depth and the number of values in it.

    A container may be filled only before it is put into another one: then these two numbers hold
    for what contains it as well, and no value can contain itself.
    """

    __slots__ = ("content", "count", "depth", "is_inside")

    def __init__(self, content: Any, depth: int = 1, count: int = 1):
        self.content, self.depth, self.count, self.is_inside = content, depth, count, False

    def take(self, parts: list[_Value]) -> list[Any]:
        """Counts the parts as inside this value; returns their contents."""
        for part in parts:
            part.is_inside = True
        if self.is_inside:
            raise _RefusedError("found a container that is changed after it was stored in another")
        for part in parts:
            self.depth = max(self.depth, part.depth + 1)
            self.count += part.count
        if self.depth > MAX_DEPTH:
            raise _RefusedError(f"found values nested more than {MAX_DEPTH} levels deep")
        if self.count > MAX_VALUES:
            raise _RefusedError(f"found more than {MAX_VALUES:,} values, shared ones counted again")
        return [part.content for part in parts]


_MARK = _Value(None)


class _Machine:
    """The stack, the memo, and one method for each group of instructions."""

    def __init__(self):
        self.stack: list[_Value] = []
        self.memo: dict[int, _Value] = {}
        self.num_hashed = 0

    def pop(self) -> _Value:
        value = self.stack.pop()
        if value is _MARK:
            raise _RefusedError("found a mark in place of a value")
        return value

    def to_mark(self) -> list[_Value]:
        """Takes what lies above the last mark off the stack, and the mark."""
        parts: list[_Value] = []
        while (value := self.stack.pop()) is not _MARK:
            parts.append(value)
        return parts[::-1]

    def some(self, number: int) -> list[_Value]:
        return [self.pop() for _ in range(number)][::-1]

    def top(self, *kinds: type) -> _Value:
        value = self.stack[-1]
        if value is _MARK or not isinstance(value.content, kinds):
            raise _RefusedError("found items for something that holds none")
        return value

    def push(self, content: Any, parts: list[_Value] | None = None) -> None:
        """Puts a value onto the stack; `parts` are what a new container is made of."""
        value = _Value(None)
        value.content = content if parts is None else content(value.take(parts))
        self.stack.append(value)

    def hashed(self, parts: list[_Value]) -> list[_Value]:
        """Counts what a dictionary or a set has to look at to hash its keys."""
        self.num_hashed += sum(part.count for part in parts)
        if self.num_hashed > MAX_VALUES:
            raise _RefusedError(f"found keys of more than {MAX_VALUES:,} values")
        return parts

    # --- instructions -----------------------------------------------------------------------

    def number(self, value: int | bool | float) -> None:
        if isinstance(value, int) and not -MAX_INTEGER <= value < MAX_INTEGER:
            raise _RefusedError("found an integer of more than 64 bits")
        self.push(value)

    def extend(self, parts: list[_Value]) -> None:
        target = self.top(list)
        target.content.extend(target.take(parts))

    def add(self, parts: list[_Value]) -> None:
        target = self.top(set)
        target.content.update(target.take(self.hashed(parts)))

    def set_items(self, parts: list[_Value]) -> None:
        target = self.top(dict)
        self.hashed(parts[::2])
        contents = target.take(parts)
        target.content.update(zip(contents[::2], contents[1::2], strict=True))

    def new_dict(self, parts: list[_Value]) -> None:
        self.stack.append(_Value({}))
        self.set_items(parts)

    def kind(self, module: str, name: str) -> None:
        if (module, name) not in _KINDS:
            raise _RefusedError(f"found {module}.{name}")
        self.push(_KINDS[module, name])

    def call(self) -> None:
        """Makes a container from a list, as in set([1, 2]), or an empty defaultdict(list)."""
        function, arguments = self.some(2)
        given = arguments.content
        if not isinstance(given, tuple) or function.content not in _KINDS.values():
            raise _RefusedError("found a call of something other than a container")
        if function.content is collections.defaultdict:
            if not (len(given) <= 1 and all(kind in (None, *_KINDS.values()) for kind in given)):
                raise _RefusedError("found a defaultdict of something other than a container")
        elif not (
            not given
            or (len(given) == 1 and isinstance(given[0], list | tuple | set | frozenset | dict))
        ):
            raise _RefusedError(f"found a call of {function.content.__name__} with other arguments")
        if function.content in (set, frozenset):
            self.hashed([arguments])
        value = _Value(None)
        value.take([arguments])
        value.content = function.content(*given)
        self.stack.append(value)

    def put(self, index: int) -> None:
        if self.stack[-1] is _MARK:
            raise _RefusedError("found a mark in place of a value")
        self.memo[index] = self.stack[-1]

    def global_name(self) -> None:
        module, name = self.some(2)
        self.kind(module.content, name.content)


def _tuple(number: int) -> Callable[[_Machine, Any], object]:
    return lambda machine, _: machine.push(tuple, machine.some(number))


# Instruction -> what it does with the machine and its argument.
_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], object]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    **dict.fromkeys(
        ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        lambda machine, value: machine.number(value),
    ),
    **dict.fromkeys(
        ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
        + ("STRING", "BINSTRING", "SHORT_BINSTRING"),
        lambda machine, value: machine.push(value),
    ),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": lambda machine, _: machine.stack.append(_MARK),
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.to_mark(),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "TUPLE": lambda machine, _: machine.push(tuple, machine.to_mark()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "LIST": lambda machine, _: machine.push(list, machine.to_mark()),
    "APPEND": lambda machine, _: machine.extend(machine.some(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.to_mark()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "DICT": lambda machine, _: machine.new_dict(machine.to_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.some(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.to_mark()),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    "ADDITEMS": lambda machine, _: machine.add(machine.to_mark()),
    "FROZENSET": lambda machine, _: machine.push(frozenset, machine.hashed(machine.to_mark())),
    **dict.fromkeys(
        ("PUT", "BINPUT", "LONG_BINPUT"), lambda machine, index: machine.put(int(index))
    ),
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    **dict.fromkeys(
        ("GET", "BINGET", "LONG_BINGET"),
        lambda machine, index: machine.stack.append(machine.memo[int(index)]),
    ),
    "GLOBAL": lambda machine, value: machine.kind(*value.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.global_name(),
    "REDUCE": lambda machine, _: machine.call(),
}


def load_plain(path: epath.PathLike) -> Any:
    """Loads a pickle that holds plain containers, strings and numbers only.

    Raises:
      UnsafePickleError: the file is truncated, is not a pickle, is too large, or has an instruction
        that plain data does not need.
    """
    path = epath.Path(path)
    if (size := path.stat().length) > MAX_BYTES:
        raise UnsafePickleError(f"{path}: expected at most {MAX_BYTES:,} bytes, got {size:,}.")
    machine = _Machine()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of an escape in a damaged text
            for instruction, argument, _ in pickletools.genops(path.read_bytes()):
                if instruction.name == "STOP":
                    return machine.pop().content
                if instruction.name not in _INSTRUCTIONS:
                    raise _RefusedError(f"found the instruction {instruction.name}")
                _INSTRUCTIONS[instruction.name](machine, argument)
    except _RefusedError as error:
        raise UnsafePickleError(
            f"{path}: expected {_EXPECTED}; {error}. No code of it was run. Get the file from its "
            "official source again."
        ) from None
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise UnsafePickleError(
            f"{path} is truncated or not a pickle ({type(error).__name__}: {error}). "
            "Get the file from its official source again."
        ) from error
    raise UnsafePickleError(f"{path} is truncated or not a pickle. Get it again.")
