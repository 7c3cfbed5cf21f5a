"""Reading and writing files: whole or not at all, local or remote, with line numbers for messages.

Everything that the project writes goes through `whole_file` and its shorthands, so that a process
that dies halfway leaves the old file or none. Paths are `etils.epath` paths: a folder on a disk and
a `gs://` bucket work alike. This module must not know what a file means.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
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
def whole_file(path: epath.PathLike, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a file for writing that appears under its name only once it is complete.

    On a disk the content goes to `<name>.partial` in the same folder, is flushed to the disk, and
    is renamed when the block ends. An object store shows a file only when it is closed. If the
    block raises, nothing is left and an older file of that name stays as it was.

    Args:
      path: the final path; its folder exists.
      mode: "w" for text (UTF-8) or "wb" for bytes.

    Yields:
      The open file.
    """
    path = epath.Path(path)
    encoding = None if "b" in mode else "utf-8"
    if is_remote(path):
        buffer: IO[Any] = io.BytesIO() if "b" in mode else io.StringIO()
        yield buffer
        content = buffer.getvalue()  # type: ignore[attr-defined]
        path.write_bytes(content if "b" in mode else content.encode("utf-8"))
        return
    partial = f"{os.fspath(path)}.partial"
    try:
        with open(partial, mode, encoding=encoding, newline=None if "b" in mode else "") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


def write_whole(path: epath.PathLike, content: str | bytes) -> None:
    """Writes text (as UTF-8) or bytes; the file is there completely or not at all."""
    with whole_file(path, "wb" if isinstance(content, bytes) else "w") as file:
        file.write(content)


def write_json(path: epath.PathLike, value: Any, *, indent: int | None = 1) -> None:
    """Writes a value as JSON for people and programs alike: readable text, finite numbers only.

    Args:
      path: the final path.
      value: plain JSON.
      indent: spaces a level; None puts everything on one line.

    Raises:
      ValueError: a number is not finite.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    write_whole(path, text + "\n")


# --- reading -----------------------------------------------------------------------------------


def read_csv(text: str, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV text that hold anything, each with the number of its last line.

    Args:
      text: the content of the file; a byte order mark at its start is skipped.
      delimiter: what stands between cells.

    Yields:
      (line number from 1, cells).

    Raises:
      csv.Error: with the line number in its message; a cell holds what CSV doesn't allow.
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

    Two values that are equal as JSON have one hash; a tuple counts as a list.

    >>> sha256_of_json({"b": (1, 2), "a": "é"}) == sha256_of_json({"a": "é", "b": [1, 2]})
    True

    Raises:
      TypeError: something in `value` is not plain JSON.
      ValueError: a number is not finite.
    """
    return sha256(
        json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    )


def by_hash(key: str, num_parts: int) -> int:
    """Which of `num_parts` parts a key falls into: its SHA-256's first eight bytes, modulo.

    The same on every machine and in every version of Python, unlike `hash`.

    >>> by_hash("391", 10_000)
    9838
    """
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % num_parts


def named_lines(lines: Iterable[bytes], name: str) -> Iterator[tuple[str, bytes]]:
    """Lines that hold anything, each with where it stands: "train_data.jsonl:12"."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{name}:{number}", line
