"""Help for the fields of the config: name, default and meaning.

The meanings are the comments after the fields in `options.py` and `parts.py`, read from the source.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import io
import itertools
import textwrap
import tokenize
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from conkd_jax.config.options import ARGUMENT_FIELDS, Config

COLUMN = 34  # where comments begin
INTRODUCTION = f"""\
Fields of the config, set with --config.PART.FIELD=VALUE. The defaults are the
paper's; presets and config files change some of them. The fields
{" and ".join(ARGUMENT_FIELDS)} determine others: they are given after the colon
of --config, and the backbone can be given as --config.backbone, too."""


class ConfigField(NamedTuple):
    """A field of the config: dotted name, default, and the comment in the source."""

    name: str
    default: Any
    comment: str


@functools.cache
def config_fields() -> Mapping[str, ConfigField]:
    """All fields by their dotted names, part by part, with the paper's defaults."""
    return {field.name: field for field in _fields(Config(), "")}


def _fields(part: Any, prefix: str) -> Iterator[ConfigField]:
    """The fields of a part of the config, then those of its subparts."""
    comments: dict[str, str] = {}
    for cls in type(part).__mro__[-2::-1]:  # a part may inherit fields
        comments |= field_comments(inspect.getsource(cls))
    values = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    for name, value in values.items():
        if not dataclasses.is_dataclass(value):
            yield ConfigField(prefix + name, value, comments[name])
    for name, value in values.items():
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{prefix}{name}.")


def field_comments(source: str) -> dict[str, str]:
    """The comment of every field of a class: after the field, and in comment lines right below it.

    Args:
      source: the source of one class.

    >>> field_comments('''
    ... class Part:
    ...     eta: float = 0.6  # threshold;
    ...     # 0 = fitted
    ...     name: str = (
    ...         "a"  # a | b
    ...     )
    ...     seed: int = 0
    ... ''')
    {'eta': 'threshold; 0 = fitted', 'name': 'a | b', 'seed': ''}
    """
    at_line: dict[int, str] = {}
    stands_alone = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            at_line[token.start[0]] = token.string.lstrip("# ")
            if token.line.strip().startswith("#"):
                stands_alone.add(token.start[0])
    found = {}
    (node,) = ast.parse(source).body
    for statement in ast.iter_child_nodes(node):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            last = statement.end_lineno or statement.lineno
            comment = [at_line[n] for n in range(statement.lineno, last + 1) if n in at_line]
            while comment and last + 1 in stands_alone:
                last += 1
                comment.append(at_line[last])
            found[statement.target.id] = " ".join(comment)
    return found


def config_help_text(width: int) -> str:
    """The text about config fields in `--help`, grouped by part.

    Args:
      width: the maximal length of a line.
    """
    lines = [INTRODUCTION]
    for part, members in itertools.groupby(
        config_fields().values(), key=lambda field: field.name.rpartition(".")[0]
    ):
        lines += ["", f"config.{part}".rstrip(".")]
        for field in members:
            lines += _field_lines(field, width)
    return "\n".join(lines)


def _field_lines(field: ConfigField, width: int) -> list[str]:
    name = f"  {field.name.rpartition('.')[2]}={field.default!r}"
    if not field.comment:
        return [name]
    indent = " " * COLUMN
    comment = textwrap.wrap(
        field.comment, width - COLUMN, break_long_words=False, break_on_hyphens=False
    )
    if len(name) + 2 > COLUMN:
        return [name, *(indent + line for line in comment)]
    return [name.ljust(COLUMN) + comment[0], *(indent + line for line in comment[1:])]
