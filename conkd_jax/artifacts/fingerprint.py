"""Fingerprints: a hash of everything that an artifact's content depends on.

A stage declares its settings as a frozen dataclass. `fingerprinted` turns them into plain JSON,
which the fingerprint hashes and the manifest records. A stage can therefore not read an option that
is missing from its fingerprint, unless the field is declared with `outside_fingerprint`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from etils import epath

from conkd_jax.errors import UserError
from conkd_jax.io.files import sha256_of_file, sha256_of_json
from conkd_jax.io.published import located

View = TypeVar("View")

FINGERPRINT_LENGTH = 16  # hexadecimal digits: 64 bits
_OUTSIDE, _MERGED, _ADDED = "outside the fingerprint because", "merged", "added fields"


class ArtifactError(UserError):
    """An artifact that can't be used: truncated, foreign, or on a disk that isn't shared."""


# --- fields of settings --------------------------------------------------------------------------


def outside_fingerprint(*, because: str) -> Any:
    """A field of a stage's settings that is left out of the fingerprint.

    Args:
      because: why no output depends on the field; documentation only.
    """
    return dataclasses.field(metadata={_OUTSIDE: because})


def merged() -> Any:
    """A nested dataclass in a stage's settings, flattened into the fingerprint.

    A plain field `rows: RowSettings` enters the fingerprint as {"rows": {…}}. With `merged`, the
    fields of `RowSettings` enter on the same level as those of the outer class.
    """
    return dataclasses.field(metadata={_MERGED: True})


def with_added(*names: str) -> Any:
    """A nested dataclass some of whose fields were added after artifacts existed.

    An added field is left out of the fingerprint while it has its default, which must mean what the
    program did before. A part of the config can't have None as a default, so it needs this.

    Args:
      names: the added fields of the nested dataclass.
    """
    return dataclasses.field(metadata={_ADDED: names})


def is_outside_fingerprint(field: dataclasses.Field) -> bool:
    """Whether a field was declared with `outside_fingerprint`."""
    return _OUTSIDE in field.metadata


def view(part: Any, kind: type[View]) -> View:
    """Copies the fields of a dataclass from an object that has more.

    Args:
      part: the object, for example a part of the config.
      kind: a frozen dataclass; `part` has an attribute for each of its fields.
    """
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(part, name) for name in names})


def fingerprinted(settings: Any) -> Any:
    """The part of settings that enters a fingerprint, as plain JSON.

    A field that is None is left out, because the artifact does not depend on it. A new field that
    is None by default therefore changes no existing fingerprint.

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
        for name in field.metadata.get(_ADDED, ()):
            if getattr(value, name) == type(value).__dataclass_fields__[name].default:
                del entry[name]
        entries |= entry if _MERGED in field.metadata else {field.name: entry}
    return entries


# --- hashes --------------------------------------------------------------------------------------


def digest(value: Any, where: str = "value") -> str:
    """SHA-256 of a value's canonical JSON.

    Raises:
      ArtifactError: `value` is not plain JSON, or a number is not finite.
    """
    try:
        return sha256_of_json(value)
    except (TypeError, ValueError) as error:
        raise ArtifactError(
            f"{where}: only plain JSON (dicts with text keys, lists, text, finite numbers, true, "
            f"false, null) has a fingerprint; got {value!r} ({error})"
        ) from error


def digest_files(paths: Iterable[epath.PathLike]) -> dict[str, str]:
    """{file name: SHA-256 of the content}: raw files enter a fingerprint by content, not by path.

    Raises:
      ArtifactError: two files have the same name, so the result could not hold both.
    """
    digests: dict[str, str] = {}
    for path in map(epath.Path, paths):
        if path.name in digests:
            raise ArtifactError(f"two raw files are named {path.name!r}; expected unique names")
        digests[path.name] = sha256_of_file(path)
    return digests


def named_content(name: str, made_here: str) -> str | dict[str, str]:
    """The fingerprint entry of a tokenizer or weights, given by a hub name or a local path.

    Args:
      name: a hub name, a path, "package:NAME" (`published.located`), or `made_here`.
      made_here: the reserved name for what the program makes itself, such as "train" or "random".

    Returns:
      `digest_files` of a local file or of a folder's files; otherwise the name itself.
    """
    if name == made_here:
        return name
    try:
        path = epath.Path(located(name))
    except FileNotFoundError:
        return name  # a check of the sources says what is missing
    if path.is_dir():
        return digest_files(each for each in sorted(path.iterdir()) if each.is_file())
    return digest_files([path]) if path.is_file() else name
