"""Fingerprints: a hash of everything that an artifact's content depends on.

A stage declares its settings as a frozen dataclass. `fingerprinted` turns them into plain JSON, and
that JSON is what the fingerprint hashes and the manifest records: what a stage can read and what
its artifact is addressed by are the same object.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from etils import epath

from conkd_jax.errors import UserError
from conkd_jax.files import sha256_of_file, sha256_of_json

View = TypeVar("View")

FINGERPRINT_LENGTH = 16  # hexadecimal digits: 64 bits
_OUTSIDE, _MERGED = "outside the fingerprint because", "merged"


class ArtifactError(UserError):
    """An artifact that can't be used: truncated, foreign, or on a disk that isn't shared."""


# --- fields of settings --------------------------------------------------------------------------


def outside_fingerprint(*, because: str) -> Any:
    """A field of a stage's settings that does not enter the fingerprint.

    Args:
      because: why no output depends on it, for the reader of the dataclass.
    """
    return dataclasses.field(metadata={_OUTSIDE: because})


def merged() -> Any:
    """A field of a stage's settings that is a dataclass itself, and enters field by field.

    Without it, `rows: RowSettings` enters the fingerprint as {"rows": {…}}; merged, the fields of
    `RowSettings` stand beside those of the class that holds it.
    """
    return dataclasses.field(metadata={_MERGED: True})


def is_outside_fingerprint(field: dataclasses.Field) -> bool:
    """Whether a field was declared with `outside_fingerprint`."""
    return _OUTSIDE in field.metadata


def view(part: Any, kind: type[View]) -> View:
    """The fields of one dataclass, read from an object that has more.

    Args:
      part: for example a part of the config.
      kind: a frozen dataclass whose fields `part` has.
    """
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(part, name) for name in names})


def fingerprinted(settings: Any) -> Any:
    """The part of settings that enters a fingerprint, as plain JSON.

    A field that is None is left out: None means that this artifact does not depend on it, so a
    field that is added later, None by default, changes no fingerprint.

    Args:
      settings: a dataclass, or any value inside one.
    """
    if isinstance(settings, Mapping):
        return {name: fingerprinted(value) for name, value in settings.items()}
    if isinstance(settings, tuple):
        return [fingerprinted(value) for value in settings]
    if not dataclasses.is_dataclass(settings):
        return settings
    entries: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value is None or is_outside_fingerprint(field):
            continue
        entry = fingerprinted(value)
        entries |= entry if _MERGED in field.metadata else {field.name: entry}
    return entries


# --- hashes --------------------------------------------------------------------------------------


def digest(value: Any, where: str = "value") -> str:
    """SHA-256 of a value's canonical JSON.

    Raises:
      ArtifactError: something in `value` is not plain JSON, or a number is not finite.
    """
    try:
        return sha256_of_json(value)
    except (TypeError, ValueError) as error:
        raise ArtifactError(
            f"{where}: only plain JSON (dicts with text keys, lists, text, finite numbers, true, "
            f"false, null) has a fingerprint; got {value!r} ({error})"
        ) from error


def digest_files(paths: Iterable[epath.PathLike]) -> dict[str, str]:
    """{file name: SHA-256 of its content}: raw files enter a fingerprint by content, not by path.

    Raises:
      ArtifactError: two files have the same name, so their contents could be swapped unnoticed.
    """
    digests: dict[str, str] = {}
    for path in map(epath.Path, paths):
        if path.name in digests:
            raise ArtifactError(f"two raw files are named {path.name!r}; expected unique names")
        digests[path.name] = sha256_of_file(path)
    return digests


def named_content(name: str, made_here: str) -> str | dict[str, str]:
    """How something that is named by a hub name or by a local path enters a fingerprint.

    Args:
      name: a name on the hub, or a path.
      made_here: the one name that stands for something the program makes itself.

    Returns:
      `digest_files` of the file, or of the folder's files; the name itself where neither exists.
    """
    path = epath.Path(name)
    if name == made_here:
        return name
    if path.is_dir():
        return digest_files(each for each in sorted(path.iterdir()) if each.is_file())
    return digest_files([path]) if path.is_file() else name
