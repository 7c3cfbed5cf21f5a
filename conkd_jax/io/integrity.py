"""Whether files still hold what was written: every file's size and SHA-256, listed beside it.

A finished folder has a *sealed* list: a JSON document with an entry "files" and, as its last entry,
the SHA-256 of its own text. A change of a single bit, in a listed file or in the list, is noticed.
Artifacts keep the list in `manifest.json`, checkpoints in `files.json`. Folders that were written
before there were lists carry none, and nothing about them is checked.

This module does not depend on what the files mean. Paths may be on an object store.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypedDict

from etils import epath

from conkd_jax.errors import UserError
from conkd_jax.io.files import (
    PARTIAL,
    flush,
    is_remote,
    parse_json,
    sha256,
    sha256_of_file,
    write_whole,
)

MANIFEST = "manifest.json"  # the list of an artifact, which holds more
LIST = "files.json"  # that of another folder
FILES, SEAL = "files", "sha256"
LEVELS = 3  # how many folders up an artifact's manifest may be


class Entry(TypedDict):
    """What is known of a file."""

    bytes: int
    sha256: str


Entries = Mapping[str, Entry]  # by path relative to the folder, with "/" on every system


class DamagedError(UserError):
    """A file that no longer holds what was written.

    Attributes:
      folder: the artifact that it belongs to; None if that is not known.
      what: the message without the advice at its end.
      mend: the command that makes the artifact anew; "" if it is not known.
    """

    def __init__(self, what: str, folder: epath.PathLike | None = None, mend: str = ""):
        """Describes the damage.

        Args:
          what: what is damaged, what was expected and what was found.
          folder: the folder of the artifact.
          mend: the command that makes the artifact anew; by default the message says which option
            to add to the command that made it.
        """
        self.what, self.mend = what, mend
        self.folder = None if folder is None else epath.Path(folder)
        advice = ""
        if self.folder is not None:
            stage = f"{self.folder.parent.name}/{self.folder.name}"
            advice = f" To make it anew, run the command that made it with --rebuild={stage}"
        super().__init__(what + (f" To mend it: {mend}" if mend else advice))


# --- lists -------------------------------------------------------------------------------------


def inventory(folder: epath.PathLike, *, without: Collection[str] = ()) -> dict[str, Entry]:
    """Lists all files in a folder, except for its own list, once they are safely on the disk.

    Every file, and every folder that holds one, is flushed to the disk first. Whatever is written
    afterwards can thus rely on them even if the power is cut.

    Args:
      folder: the folder.
      without: names of files and folders directly in it that are not part of what it holds.
    """
    folder = epath.Path(folder)
    found: dict[str, Entry] = {}
    for path in _files_below(folder, {MANIFEST, LIST, *without}):
        flush(path)
        name = path.relative_to(folder).as_posix()
        found[name] = entry_of(path)
    for inner in sorted({(folder / name).parent for name in found} | {folder}, reverse=True):
        flush(inner)
    return found


def entry_of(path: epath.PathLike) -> Entry:
    """The size and SHA-256 of a file as it is now."""
    return {"bytes": _size(epath.Path(path)), "sha256": sha256_of_file(path)}


def _files_below(folder: epath.Path, without: Collection[str] = ()) -> Iterator[epath.Path]:
    for path in sorted(folder.iterdir()):
        if path.name in without or PARTIAL in path.name:
            continue
        if path.is_dir():
            yield from _files_below(path)
        else:
            yield path


def _size(path: epath.Path) -> int:
    return path.stat().length if is_remote(path) else os.path.getsize(path)


def sealed(document: Mapping[str, Any], **options: Any) -> str:
    """The text of a document, with the SHA-256 of the text as its last entry.

    Args:
      document: plain JSON.
      options: arguments of `json.dumps`.
    """
    text = json.dumps({**document, SEAL: ""}, indent=2, **options)
    start, end = text.removesuffix('"\n}'), '"\n}'
    return start + sha256(text) + end


def unsealed(text: str) -> dict[str, Any]:
    """Reads what `sealed` wrote; a document without files and without a seal needs none.

    Raises:
      ValueError: the text is not a JSON object, or not what was written.
    """
    document = parse_json(text)
    if not isinstance(document, dict):
        raise ValueError(f"expected an object, got {type(document).__name__}")
    if FILES in document or SEAL in document:
        match = re.search(rf'(?<="{SEAL}": ")[0-9a-f]{{64}}(?="\n\}}\Z)', text)
        if match is None or sha256(text[: match.start()] + text[match.end() :]) != match[0]:
            raise ValueError("its text is not the one that was written: its own SHA-256 differs")
    return document


def write_list(folder: epath.PathLike, *, without: Collection[str] = ()) -> None:
    """Writes the list of a folder's files into it; arguments as in `inventory`."""
    folder = epath.Path(folder)
    write_whole(folder / LIST, sealed({FILES: inventory(folder, without=without)}))


def read_list(folder: epath.PathLike) -> Entries | None:
    """Reads what `write_list` wrote; None if there is no list.

    Raises:
      ValueError: the list is damaged.
    """
    path = epath.Path(folder) / LIST
    return unsealed(path.read_text())[FILES] if path.exists() else None


# --- checks ------------------------------------------------------------------------------------


def missing(folder: epath.PathLike, entries: Entries) -> list[str]:
    """The listed files that are not there."""
    folder = epath.Path(folder)
    if not is_remote(folder):
        return [name for name in entries if not os.path.isfile(folder / name)]
    there: set[epath.Path] = set()  # one request for each folder, not for each file
    for inner in {(folder / name).parent for name in entries}:
        there |= set(inner.iterdir()) if inner.exists() else set()
    return [name for name in entries if folder / name not in there]


def of_another_size(folder: epath.PathLike, entries: Entries) -> str:
    """Describes the first file whose size is not the listed one; "" if there is none.

    This is quick on a disk. On an object store, where it would take a request for each file, it
    is left to `problem`.
    """
    folder = epath.Path(folder)
    if not is_remote(folder):
        for name, entry in entries.items():
            if (size := os.path.getsize(folder / name)) != entry["bytes"]:
                return _other_size(folder / name, entry, size)
    return ""


def problem(path: epath.PathLike, entry: Entry) -> str:
    """Reads a whole file and says what is wrong with it; "" if nothing is."""
    path = epath.Path(path)
    if not path.exists():
        return f"{path} is missing"
    if (size := _size(path)) != entry["bytes"]:
        return _other_size(path, entry, size)
    if (found := sha256_of_file(path)) != entry["sha256"]:
        return (
            f"{path} is damaged: expected content with SHA-256 {entry['sha256'][:16]}…, "
            f"found {found[:16]}…"
        )
    return ""


def _other_size(path: epath.Path, entry: Entry, size: int) -> str:
    return f"{path} is damaged: expected {entry['bytes']:,} bytes, found {size:,}"


_unchanged: set[tuple[str, str, int, int]] = set()  # (path, SHA-256, size, time) found to be whole


def check(path: epath.PathLike, entry: Entry, folder: epath.PathLike) -> None:
    """Checks a file once a process; again only if it was written since.

    Args:
      path: the file, or a local copy of it.
      entry: what it should hold.
      folder: the artifact that it belongs to, for the message.

    Raises:
      DamagedError: it holds something else, or is missing.
    """
    key = _key(path, entry)
    if key in _unchanged:
        return
    if why := problem(path, entry):
        raise DamagedError(f"{why}.", folder)
    _unchanged.add(key)


def _key(path: epath.PathLike, entry: Entry) -> tuple[str, str, int, int]:
    name, size, time = os.path.abspath(path), 0, 0
    if not is_remote(path):
        try:
            status = os.stat(path)
            size, time = status.st_size, status.st_mtime_ns
        except OSError:
            pass  # `problem` says so
    return name, entry["sha256"], size, time


def entries_above(folder: epath.PathLike) -> tuple[epath.Path, Entries]:
    """The artifact that a folder belongs to, and the files of the artifact.

    Args:
      folder: the folder of an artifact, or one inside it.

    Returns:
      The artifact's folder and its list. The list is empty if there is no finished artifact, or if
      it carries no hashes.
    """
    above = epath.Path(folder)
    for _ in range(LEVELS):
        if (above / MANIFEST).exists():
            try:
                return above, unsealed((above / MANIFEST).read_text()).get(FILES, {})
            except ValueError as error:
                raise DamagedError(f"{above / MANIFEST} is damaged: {error}.", above) from error
        above = above.parent
    return epath.Path(folder), {}
