"""Reading and writing files: complete or not at all, local or remote, with line numbers.

A process that dies while it writes through `whole_path` or its shorthands leaves the old file or
none. Paths are `etils.epath` paths: local folders and `gs://` buckets work alike. The functions do
not depend on what a file means.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Any

import fsspec.config
from etils import epath

# The clients of object stores remember lists of files, and would neither see nor read what another
# process, or another client of this process, has written since. epath makes a client on first use.
for _scheme in ("gs", "s3"):
    fsspec.config.conf.setdefault(_scheme, {}).setdefault("use_listings_cache", False)

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, a quota, a limit of the process
PARTIAL = ".partial-"  # in the name of a file that is being written, or that a killed process left


def is_remote(path: epath.PathLike) -> bool:
    """Whether a path is on an object store (`gs://…`) rather than on a disk.

    >>> is_remote("gs://bucket/runs"), is_remote("runs")
    (True, False)
    """
    return "://" in os.fspath(path)


def absolute(path: epath.PathLike) -> epath.Path:
    """The absolute path of a file or a folder; one on an object store is always absolute.

    `epath.Path.resolve` would make gs://bucket a path below the working directory.

    >>> absolute("gs://bucket/runs")
    PosixGPath('gs://bucket/runs')
    """
    return epath.Path(path) if is_remote(path) else epath.Path(path).resolve()


# --- writing -----------------------------------------------------------------------------------


@contextlib.contextmanager
def whole_path(path: epath.PathLike) -> Iterator[str]:
    """Provides a temporary local path, for libraries that open files themselves.

    The file appears under its final name only when the block ends. On a disk, the temporary file is
    `<name>.partial-<random>` in the same folder; it is flushed and renamed, and then its folder is
    flushed, so that whatever is written next can rely on the file even if the power is cut. Each
    writer has its own temporary file, so processes can write the same file at once, and the last
    rename wins. For an
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
    partial = f"{os.fspath(path)}{PARTIAL}{secrets.token_hex(4)}"
    try:
        with naming(path):
            yield partial
        flush(partial)  # or a power cut could leave an empty file under the final name
        os.replace(partial, path)
        flush(path.parent)
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


@contextlib.contextmanager
def naming(path: epath.PathLike) -> Iterator[None]:
    """Adds a path to errors of the disk that have none, such as those of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from error


def flush(path: epath.PathLike) -> None:
    """Waits until a file's content, or a folder's entries, are on the disk.

    Does nothing on an object store, where a file that is there is stored. A file system without
    flushing, such as some network disks for folders, is left as it is.
    """
    if is_remote(path):
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(number)


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


def move(path: epath.PathLike, target: epath.PathLike) -> None:
    """Moves a file or a folder to a path that does not exist; the folder above it may be missing.

    On a disk that is one rename. An object store has no folders that could be renamed or made
    empty, so every file is copied and then the original is deleted. A process that dies in between
    leaves the original, or a part of it beside a whole copy; the same call then completes the move.

    Args:
      path: a file or a folder.
      target: its new path, of the same kind (local or remote).
    """
    path, target = epath.Path(path), epath.Path(target)
    if not is_remote(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        return
    _copy(path, target)
    path.rmtree() if path.is_dir() else path.unlink()


def _copy(path: epath.Path, target: epath.Path) -> None:
    if not path.is_dir():
        path.copy(target, overwrite=True)
        return
    for entry in path.iterdir():
        _copy(entry, target / entry.name)


# --- reading -----------------------------------------------------------------------------------


def parse_json(text: str | bytes) -> Any:
    """Parses JSON; whatever is wrong with the text, the error is a `ValueError`.

    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: nested too deeply to be read
    >>> parse_json('{"turn": 1, "turn": 2}')
    Traceback (most recent call last):
    ValueError: the key 'turn' stands twice in one object

    Raises:
      ValueError: the text is not JSON, is nested thousands of levels deep, or has an object with a
        key twice, of which readers would see the first or the last.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("nested too deeply to be read") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:80]!r} stands twice in one object")
    return found


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
        content = parse_json(path.read_bytes())
    except FileNotFoundError as missing:
        raise error(f"{path} is missing: {remedy}.") from missing
    except ValueError as invalid:
        raise error(f"{path} is not valid JSON ({invalid}): {remedy}.") from invalid
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise error(f"{path}: expected a JSON object, got {kind}: {remedy}.")
    return content


def read_csv(
    text: str, delimiter: str = ",", *, may_be_shorter: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Reads the non-empty rows of a CSV text, each with the number of its first line.

    Every row must have as many cells as the first one, in which cells are added where a comma in a
    text or a decimal comma is not quoted. Empty cells at the end, as spreadsheets add them, are not
    counted.

    Args:
      text: the content of the file; a byte order mark at its start is skipped.
      delimiter: the character between cells.
      may_be_shorter: whether a row may have fewer cells than the first one; it is then filled up
        with empty cells.

    Yields:
      (line number, from 1; cells).

    Raises:
      csv.Error: a row has too many or too few cells, a quotation mark is not closed, or a cell
        breaks the rules of CSV in another way; the message names the line.
    """
    # Without `strict`, an unclosed quotation mark makes one cell of all rows up to the next mark.
    lines = io.StringIO(text.removeprefix("\ufeff"), newline="")
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    width, first = 0, 1
    try:
        for row in reader:
            cells = _without_empty_end(row)
            if cells:
                width = width or len(cells)
                _check_width(len(cells), len(row), width, may_be_shorter)
                yield first, (cells + [""] * width)[:width]
            first = reader.line_num + 1
    except csv.Error as error:
        place = f"line {first}"
        if reader.line_num > first:
            place = f'lines {first} to {reader.line_num} (is a quotation mark " not closed?)'
        raise csv.Error(f"{place}: {error}") from error


def _without_empty_end(row: list[str]) -> list[str]:
    end = len(row)
    while end and not row[end - 1].strip():
        end -= 1
    return row[:end]


def _check_width(num_filled: int, num_cells: int, width: int, may_be_shorter: bool) -> None:
    if num_filled > width:
        raise csv.Error(
            f"expected {width} cells as in the first row, got {num_filled}; a cell that contains "
            "the separator has to be in quotation marks"
        )
    if num_cells < width and not may_be_shorter:
        raise csv.Error(f"expected {width} cells as in the first row, got {num_cells}")


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


def numbered_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yields the non-blank lines of a file, each with its number, from 1.

    A byte order mark at the start of the file is left out.
    """
    for number, line in enumerate(lines, start=1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if line.strip():
            yield number, line
