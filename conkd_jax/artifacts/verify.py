"""Reads whole artifacts and says whether they still hold what was written; changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from etils import epath

from conkd_jax.io import integrity
from conkd_jax.io.files import is_remote
from conkd_jax.io.integrity import FILES, MANIFEST
from conkd_jax.training import checkpoint

DAMAGED, WHOLE, UNKNOWN, PARTIAL, MISSING = "damaged", "whole", "no hashes", "partial", "missing"


class Finding(NamedTuple):
    """What is known of an artifact.

    Attributes:
      folder: the artifact.
      state: "whole", "damaged", "no hashes" (of an earlier version: nothing could be checked),
        "partial" (not finished) or "missing".
      what: how many files were checked, or what is wrong.
    """

    folder: epath.Path
    state: str
    what: str

    @property
    def name(self) -> str:
        """Stage and fingerprint."""
        return f"{self.folder.parent.name}/{self.folder.name}"


def verify(folder: epath.PathLike) -> Finding:
    """Reads every file of an artifact and compares it with its size and SHA-256.

    Of a partial artifact, that is every file of its checkpoints.

    Args:
      folder: the artifact, or a link to it.
    """
    folder = epath.Path(folder if is_remote(folder) else os.path.realpath(folder))
    if not (folder / MANIFEST).exists():
        return _unfinished(folder)
    try:
        manifest = integrity.unsealed((folder / MANIFEST).read_text())
    except ValueError as error:
        return Finding(folder, DAMAGED, f"{folder / MANIFEST} is damaged: {error}")
    here = (folder.parent.name, folder.name)
    if (found := (manifest.get("stage"), manifest.get("fingerprint"))) != here:
        what = f"{folder / MANIFEST} is of another artifact, {found[0]}/{found[1]}"
        return Finding(folder, DAMAGED, what)
    if FILES not in manifest:
        what = "written by an earlier version, without hashes: its content was not checked"
        return Finding(folder, UNKNOWN, what)
    entries = manifest[FILES]
    problems = [integrity.problem(folder / name, entry) for name, entry in entries.items()]
    if problems := [each for each in problems if each]:
        return Finding(folder, DAMAGED, "; ".join(problems))
    size = sum(entry["bytes"] for entry in entries.values())
    return Finding(folder, WHOLE, f"{len(entries)} files, {size / 1e6:,.1f} MB")


def _unfinished(folder: epath.Path) -> Finding:
    if not folder.exists() or not any(folder.iterdir()):
        return Finding(folder, MISSING, "nothing there")
    saved = folder / checkpoint.CHECKPOINTS
    steps = [path for path in saved.iterdir() if path.name.isdecimal()] if saved.exists() else []
    if problems := [why for why in map(checkpoint.problem, steps) if why]:
        return Finding(folder, DAMAGED, "; ".join(problems))
    count = f"{len(steps)} checkpoint" + "s" * (len(steps) != 1)
    return Finding(folder, PARTIAL, f"not finished; {count} checked")


def artifacts_below(folder: epath.PathLike) -> Iterator[epath.Path]:
    """The artifacts in a folder: that folder itself, those of a stage, or those of all stages."""
    folder = epath.Path(folder)
    if _is_artifact(folder):
        yield folder
        return
    below = [path for path in sorted(folder.iterdir()) if _may_hold_artifacts(path)]
    for path in below:
        if _is_artifact(path):
            yield path
        else:
            inner = (each for each in sorted(path.iterdir()) if _may_hold_artifacts(each))
            yield from filter(_is_artifact, inner)


def _may_hold_artifacts(path: epath.Path) -> bool:
    return not path.name.startswith(".") and path.is_dir()


def _is_artifact(folder: epath.Path) -> bool:
    return any((folder / name).exists() for name in (MANIFEST, "tries.json"))
