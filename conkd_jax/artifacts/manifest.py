"""Manifests: an artifact is complete when its folder holds a manifest, which is written last.

It lists all other files with their sizes and SHA-256 (`conkd_jax.io.integrity`). The manifest of an
earlier version has no such list; its artifact is used as it is.

The folder of an incomplete artifact holds a record of the attempts to build it instead. The
manifest takes its wall time and number of attempts from that record.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from etils import epath

from conkd_jax.artifacts.fingerprint import ArtifactError
from conkd_jax.artifacts.stage import Stage
from conkd_jax.config.files import HOME, IS_CHECKOUT
from conkd_jax.io import integrity
from conkd_jax.io.files import PARTIAL, flush, is_remote, parse_json, write_whole
from conkd_jax.io.integrity import FILES, MANIFEST, DamagedError
from conkd_jax.runtime import threads
from conkd_jax.training.checkpoint import CHECKPOINTS
from conkd_jax.versions import package_versions

TRIES = "tries.json"  # in the folder of an incomplete artifact
# A log of TensorBoard may be deleted; the others are deleted with the last write to the folder.
NOT_OF_THE_RESULT = (TRIES, CHECKPOINTS, "tensorboard")
INCOMPLETE = ("incomplete.", ".incomplete-")  # begin the names of temporary files of libraries
SHARD = ".array_record-"  # in the names of files of records


def read_manifest(stage: Stage, artifacts_dir: epath.PathLike) -> dict[str, Any] | None:
    """Reads a stage's manifest; None if its artifact is not complete.

    An artifact is not complete if a file that its manifest lists is missing.

    Raises:
      DamagedError: the manifest is truncated, was changed or is of another artifact, or a listed
        file has another size.
    """
    directory = stage.directory(artifacts_dir)
    path = directory / MANIFEST
    if not path.exists():
        return None
    try:
        manifest = integrity.unsealed(path.read_text())
    except ValueError as error:
        raise DamagedError(f"{path} is damaged: {error}.", directory) from error
    expected = {"stage": stage.name, "version": stage.version, "fingerprint": stage.fingerprint}
    got = {key: manifest.get(key) for key in expected}
    if got != expected:
        raise DamagedError(f"{path} is of another artifact: {got}; expected {expected}.", directory)
    entries = manifest.get(FILES, {})
    if integrity.missing(directory, entries):
        return None
    if why := integrity.of_another_size(directory, entries):
        raise DamagedError(f"{why}.", directory)
    return manifest


def missing_files(directory: epath.Path) -> list[str]:
    """The files that a folder lacks although its manifest lists them."""
    return integrity.missing(directory, integrity.entries_above(directory)[1])


def check_files(
    directory: epath.Path, names: Collection[str] | None = None, *, with_shards: bool = False
) -> None:
    """Checks the files of a complete artifact, each once a process, before they are read.

    Args:
      directory: the artifact's folder.
      names: the files to check, by path in the folder; None for all.
      with_shards: whether to check shards of records as well, which are otherwise checked when
        the first record of each is read (`data.shards.reader`).

    Raises:
      DamagedError: a file is missing or holds something else than what was written.
    """
    folder, entries = integrity.entries_above(directory)
    for name, entry in entries.items():
        if name in names if names is not None else with_shards or SHARD not in name:
            integrity.check(folder / name, entry, folder)


def checked(stage: Stage, artifacts_dir: epath.PathLike) -> epath.Path:
    """The folder of a complete artifact, once all its files but shards were checked.

    Raises:
      DamagedError: as `check_files`.
    """
    directory = stage.directory(artifacts_dir)
    check_files(directory)
    return directory


def is_whole(stage: Stage, artifacts_dir: epath.PathLike) -> bool:
    """Whether a stage's artifact is complete.

    Raises:
      UserError: as `read_manifest`.
    """
    return read_manifest(stage, artifacts_dir) is not None


def whole_manifest(stage: Stage, artifacts_dir: epath.PathLike) -> dict[str, Any]:
    """Reads the manifest of an artifact that has to be complete.

    Raises:
      ArtifactError: the artifact is missing or incomplete.
      DamagedError: its manifest can't be used.
    """
    manifest = read_manifest(stage, artifacts_dir)
    if manifest is None:
        raise ArtifactError(
            f"{stage.directory(artifacts_dir)}: expected the finished {stage.name} of the run, "
            "found it missing or unfinished. Run conkd_jax.train again."
        )
    return manifest


def write_manifest(
    stage: Stage,
    artifacts_dir: epath.PathLike,
    metrics: Mapping[str, Any],
    *,
    wall_seconds: float,
    tries: int,
    compile_seconds: float = 0.0,
    numerics: Sequence[threads.Numerics] = (),
    costs: Mapping[str, int] | None = None,
) -> None:
    """Writes the manifest, which makes the artifact complete, once all its files are on the disk.

    Args:
      stage: the stage that has run.
      artifacts_dir: the root of all artifacts.
      metrics: the result of the stage's `run`: plain JSON and scalars of NumPy or jax.
      wall_seconds: duration, including interrupted attempts.
      tries: number of attempts.
      compile_seconds: how much of the last attempt's duration was spent on compiling.
      numerics: what the attempts computed on, each once, in order.
      costs: bytes of memory and of disk that the attempt needed, see `cost`.
    """
    directory = stage.directory(artifacts_dir)
    manifest = {
        "stage": stage.name,
        "version": stage.version,
        "fingerprint": stage.fingerprint,
        "config": stage.config_part,
        "inputs": stage.input_fingerprints,
        "git": git_hash(),
        "seed": stage.config_part.get("seed"),
        "wall_seconds": round(wall_seconds, 3),
        "compile_seconds": round(compile_seconds, 3),
        "tries": tries,
        "metrics": metrics,
        "machine": {
            "system": platform.platform(),
            "num_cpus": os.cpu_count(),
            "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
            "num_processes": jax.process_count(),
            **threads.numerics(),
        },
        "packages": package_versions(),
        "numerics": list(numerics),
        "costs": dict(costs or {}),
        "finished_at": now(),
        FILES: integrity.inventory(directory, without=NOT_OF_THE_RESULT),
    }
    for folder in (directory.parent, epath.Path(artifacts_dir)):
        flush(folder)
    # `default` is called for scalars of NumPy and jax only.
    text = integrity.sealed(manifest, default=lambda value: value.item())
    write_whole(directory / MANIFEST, text)


def git_hash() -> str:
    """The checkout's commit, with "+changes" if tracked files differ from it; or "unknown".

    A package that was installed from a wheel has no commit; `packages` has its version.
    """
    if not (IS_CHECKOUT and (HOME / ".git").exists()):
        return "unknown"  # not the commit of a repository that the environment happens to be in

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=True).stdout

    try:
        commit = git("rev-parse", "HEAD").strip()
        changes = git("status", "--porcelain", "--untracked-files=no").strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changes else "")


def now() -> str:
    """The current time in UTC, in ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


# --- attempts ----------------------------------------------------------------------------------


class Tries(NamedTuple):
    """The attempts to build an artifact that is not complete yet.

    Attributes:
      number: attempts so far, including the current one.
      seconds: total duration of the earlier attempts.
      began: start of the current attempt, as a Unix time.
      numerics: what the attempts computed on, each once, in order.
    """

    number: int
    seconds: float
    began: float
    numerics: Sequence[threads.Numerics] = ()


def begin_try(directory: epath.Path) -> Tries:
    """Creates the artifact's folder and records the start of an attempt in it.

    Temporary files of attempts that were killed are deleted.

    The end of an interrupted attempt is unknown, so its last write into the folder, for example of
    a checkpoint, counts as its end.

    Raises:
      ArtifactError: the record of earlier attempts is damaged.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _delete_leftovers(directory)
    path, now = directory / TRIES, threads.numerics()
    tries = Tries(1, 0.0, time.time(), [now])
    if (before := read_tries(directory)) is not None:
        last_written = max(map(_written_at, directory.iterdir()))
        seconds = before.seconds + max(0.0, last_written - before.began)
        numerics = [*before.numerics, *([] if now in before.numerics else [now])]
        tries = Tries(before.number + 1, seconds, tries.began, numerics)
    write_whole(path, json.dumps(tries._asdict()))
    return tries


def read_tries(directory: epath.Path) -> Tries | None:
    """The attempts to build an artifact; None if it is complete or was never begun.

    Raises:
      ArtifactError: the record is damaged.
    """
    path = directory / TRIES
    if not path.exists():
        return None
    try:
        return Tries(**parse_json(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ArtifactError(
            f"{path} is damaged ({error}); expected the file that conkd_jax wrote. Delete it: "
            "only the duration of earlier attempts is lost."
        ) from error


def _delete_leftovers(directory: epath.Path) -> None:
    """Deletes temporary files, in folders below as well; the lock keeps others from having any."""
    if not directory.exists():
        return  # an object store has no empty folders
    for path in list(directory.iterdir()):
        if PARTIAL in path.name or path.name.startswith(INCOMPLETE):
            path.rmtree() if path.is_dir() else path.unlink()
        elif path.is_dir():
            _delete_leftovers(path)


def _written_at(path: epath.Path) -> float:
    """When a file was written, or an entry of a folder last added or removed; a Unix time."""
    if is_remote(path):
        return path.stat().mtime
    return os.path.getmtime(path)  # epath also looks up the owner's name, which may not exist
