"""Reads files line by line and collects what is wrong with them, instead of stopping at the first.

A problem names the file, the line, what is wrong there and how to mend it.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from etils import epath

from conkd_jax.data.mentions import encodable
from conkd_jax.errors import UserError
from conkd_jax.io.files import numbered_lines, parse_json
from data_prep.custom.schema import EXAMPLES, ROLES
from data_prep.raw_dialogues import Problems as Cleaned
from data_prep.raw_dialogues import clean_text

Kind = TypeVar("Kind")

_KINDS = {  # of a JSON value, by msgspec's names
    "str": "a text",
    "int": "a whole number",
    "float": "a number with decimals",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}
LISTED = 20  # problems that are listed; all are counted
_LONGEST = 400  # characters of one problem


class OwnDataError(UserError, ValueError):
    """A folder of own data that can't be used; lists what is wrong, file by file."""


class Findings:
    """What is wrong with a folder, in the order of reading.

    Attributes:
      errors: the problems, each with its file and line; without those past `LISTED`.
      num_errors: how many there are.
      warnings: what can be used but is probably not meant.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.num_errors = 0
        self.warnings: list[str] = []

    def error(self, where: str, what: str, mend: str) -> None:
        """Notes a problem, and what to do about it."""
        self.num_errors += 1
        if len(self.errors) < LISTED:
            self.errors.append(f"{where}: {_shortened(what)}. {_shortened(mend)}.")

    def expect_none(self, directory: epath.PathLike) -> None:
        """Refuses a folder with problems.

        Raises:
          OwnDataError: there are some; lists them.
        """
        if not self.num_errors:
            return
        more = self.num_errors - len(self.errors)
        lines = [*self.errors, *([f"and {more:,} more"] if more else [])]
        count = f"{self.num_errors:,} problem{'s' * (self.num_errors > 1)}"
        raise OwnDataError(f"{directory}: {count}:\n" + "\n".join(f"  {line}" for line in lines))


def lines_of(path: epath.Path, findings: Findings) -> Iterator[tuple[str, str]]:
    """Yields (file and line, text) of the lines that are neither blank nor broken."""
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        findings.error(path.name, "expected UTF-8 text, got UTF-16", "Save the file as UTF-8")
        return
    for number, line in numbered_lines(content.splitlines()):
        where = f"{path.name}, line {number}"
        try:
            yield where, line.decode("utf-8")
        except UnicodeDecodeError as wrong:
            got = f"got the byte 0x{line[wrong.start]:02x} as byte {wrong.start + 1}"
            findings.error(where, f"expected UTF-8 text, {got}", "Save the file as UTF-8")


def objects_of(
    path: epath.Path, kind: type[Kind], findings: Findings
) -> Iterator[tuple[str, Kind]]:
    """Yields (file and line, object) of the lines that hold an object of a kind."""
    for where, line in lines_of(path, findings):
        mend = f"Write an object on one line: {EXAMPLES[kind]}"
        try:
            yield where, converted(parse_json(line), kind)
        except json.JSONDecodeError as wrong:
            reason = f"{wrong.msg[:1].lower()}{wrong.msg[1:]} at character {wrong.pos + 1}"
            what = f"expected JSON, got {line.strip()[:40]!r} ({reason})"
            findings.error(where, what, mend)
        except ValueError as wrong:
            findings.error(where, str(wrong), mend)


def converted(value: Any, kind: type[Kind]) -> Kind:
    """A JSON value as an object of a kind.

    Raises:
      ValueError: a field is missing, unknown or of another type.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as wrong:
        raise ValueError(_in_plain_words(str(wrong), kind)) from wrong


def _in_plain_words(message: str, kind: type) -> str:
    """The message of msgspec about an object of a kind, in the words of JSON.

    >>> _in_plain_words("Expected `str`, got `int` - at `$.id`", type)
    "field 'id': expected a text, got a whole number"
    """
    what, _, place = message.partition(" - at `")
    field = place.rstrip("`").removeprefix("$").removeprefix(".")
    if what.startswith("Expected"):
        what = re.sub(r"`([a-z |]+)`", lambda found: _kinds(found[1]), what)
    elif found := re.fullmatch("Invalid enum value (.*)", what):
        what = f"expected {' or '.join(map(repr, ROLES))}, got {found[1]}"
    elif what.startswith("Object contains unknown field") and not field:
        what += f", expected only {', '.join(kind.__struct_fields__)}"
    where = f"field {field!r}: ".replace("key` in `$.", "a name in ") if field else ""
    return where + what[:1].lower() + what[1:].replace("`", "'")


def _kinds(names: str) -> str:
    """Types of msgspec, such as "int | str", in words."""
    return " or ".join(_KINDS.get(name, f"'{name}'") for name in names.split(" | "))


def unclean(name: str) -> str:
    """Says what is wrong with an id, a name or an alias; "" if nothing is."""
    if name != name.strip() or not name:
        return "begins or ends with a space"
    if encodable(name) != name or clean_text(name, Cleaned()) != name:
        return "has a control character, repeated spaces, or half of a character"
    return ""


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
