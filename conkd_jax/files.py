"""Reading and writing files: complete or not at all, local or remote, with line numbers.

A process that dies while it writes through `whole_path` or its shorthands leaves the old file or
none. Paths are `etils.epath` paths: local folders and `gs://` buckets work alike. The functions do
not depend on what a file means.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Any

from etils import epath


def is_remote(path: epath.PathLike) -> bool:
    """Whether a path is on an object store (`gs://…`) rather than on a disk.

    >>> is_remote("gs://bucket/runs"), is_remote("runs")
    (True, False)
    """
    return "://" in os.fspath(path)


# --- writing -----------------------------------------------------------------------------------


@contextlib.contextmanager
def whole_path(path: epath.PathLike) -> Iterator[str]:
    """Provides a temporary local path, for libraries that open files themselves.

    The file appears under its final name only when the block ends. On a disk, the temporary file is
    `<name>.partial-<random>` in the same folder; it is flushed and renamed. Each writer has its own
    temporary file, so processes can write the same file at once, and the last rename wins. For an
    object store, the temporary file is uploaded. If the block raises, the temporary file is deleted
    and an older file of that name stays as it was.

    Args:
      path: the final path; its folder exists.

    Yields:
      The path to write to.
    """
    path = epath.Path(path)
    if is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            local = os.path.join(folder, path.name)
            yield local
            epath.Path(local).copy(path, overwrite=True)
        return
    partial = f"{os.fspath(path)}.partial-{secrets.token_hex(4)}"
    try:
        yield partial
        with open(partial, "rb") as file:
            # Without this, a power cut could leave an empty file under the final name.
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


@contextlib.contextmanager
def whole_file(path: epath.PathLike, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a file for writing; it appears under its final name only once it is complete.

    Args:
      path: the final path; its folder exists.
      mode: "w" for text (UTF-8, line ends as written) or "wb" for bytes.

    Yields:
      The open file.
    """
    is_text = "b" not in mode
    with whole_path(path) as partial:
        with open(
            partial, mode, encoding="utf-8" if is_text else None, newline="" if is_text else None
        ) as file:
            yield file


def write_whole(path: epath.PathLike, content: str | bytes) -> None:
    """Writes text (as UTF-8) or bytes: the file is complete or absent."""
    with whole_file(path, "wb" if isinstance(content, bytes) else "w") as file:
        file.write(content)


def write_json(path: epath.PathLike, value: Any, *, indent: int | None = 1) -> None:
    """Writes a value as indented JSON, without escapes of non-ASCII text.

    Args:
      path: the final path; its folder exists.
      value: plain JSON.
      indent: spaces per level; None writes a single line.

    Raises:
      ValueError: a number is not finite.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    write_whole(path, text + "\n")


# --- reading -----------------------------------------------------------------------------------


def read_json(path: epath.PathLike, error: type[Exception], remedy: str) -> dict[str, Any]:
    """Reads a JSON object; the error for an unusable file says what to do.

    Args:
      path: the file.
      error: the exception class for a file that can't be used.
      remedy: the end of its message, such as "build the corpus again".

    Raises:
      error: the file is missing, is not JSON, or holds something other than an object.
    """
    path = epath.Path(path)
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as missing:
        raise error(f"{path} is missing: {remedy}.") from missing
    except ValueError as invalid:
        raise error(f"{path} is not valid JSON ({invalid}): {remedy}.") from invalid
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise error(f"{path}: expected a JSON object, got {kind}: {remedy}.")
    return content


def read_csv(text: str, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Reads the non-empty rows of a CSV text, each with the number of its last line.

    Args:
      text: the content of the file; a byte order mark at its start is skipped.
      delimiter: the character between cells.

    Yields:
      (line number, from 1; cells).

    Raises:
      csv.Error: a cell breaks the rules of CSV; the message names the line.
    """
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=delimiter)
    try:
        for row in reader:
            if any(row):
                yield reader.line_num, row
    except csv.Error as error:
        raise csv.Error(f"line {reader.line_num}: {error}") from error


# --- hashes ------------------------------------------------------------------------------------


def sha256(content: str | bytes) -> str:
    """SHA-256 of text (as UTF-8) or bytes, in hexadecimal.

    >>> sha256("abc")[:16]
    'ba7816bf8f01cfea'
    """
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def sha256_of_file(path: epath.PathLike) -> str:
    """SHA-256 of a file's content, read a block at a time."""
    digest = hashlib.sha256()
    with epath.Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_json(value: Any) -> str:
    """SHA-256 of canonical JSON: sorted keys, no spaces, UTF-8 without escapes.

    Values that are equal as JSON have the same hash; a tuple counts as a list.

    >>> sha256_of_json({"b": (1, 2), "a": "é"}) == sha256_of_json({"a": "é", "b": [1, 2]})
    True

    Raises:
      TypeError: `value` holds something that is not plain JSON.
      ValueError: a number is not finite.
    """
    return sha256(
        json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    )


def by_hash(key: str, num_parts: int) -> int:
    """Assigns a key to one of `num_parts` parts: the first eight bytes of its SHA-256, modulo.

    Unlike that of `hash`, the result is the same on every machine and in every Python version.

    >>> by_hash("391", 10_000)
    9838
    """
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % num_parts


def named_lines(lines: Iterable[bytes], name: str) -> Iterator[tuple[str, bytes]]:
    """Yields the non-blank lines, each with its location, such as "train_data.jsonl:12"."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{name}:{number}", line
