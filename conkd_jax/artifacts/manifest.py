"""Manifests: the file that makes an artifact complete, written last.

An artifact is complete when its folder holds a manifest. Beside an incomplete one lies a note of
the attempts at it, from which the manifest gets its wall time.
"""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import platform
import subprocess
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from etils import epath

from conkd_jax.artifacts.fingerprint import ArtifactError
from conkd_jax.artifacts.stage import Stage
from conkd_jax.files import is_remote, write_whole

MANIFEST = "manifest.json"
TRIES = "tries.json"  # beside an incomplete artifact; its content goes into the manifest


def read_manifest(stage: Stage, artifacts_dir: epath.PathLike) -> dict[str, Any] | None:
    """The stage's manifest; None where its artifact is not complete.

    Raises:
      ArtifactError: the manifest is truncated or belongs to another artifact.
    """
    path = stage.directory(artifacts_dir) / MANIFEST
    if not path.exists():
        return None
    advice = f"Delete the folder {path.parent} to run the stage again."
    try:
        manifest = json.loads(path.read_text())
    except ValueError as error:
        raise ArtifactError(
            f"{path} is not readable JSON ({error}); expected a manifest. {advice}"
        ) from error
    expected = {"stage": stage.name, "version": stage.version, "fingerprint": stage.fingerprint}
    got = {key: manifest.get(key) for key in expected} if isinstance(manifest, dict) else manifest
    if got != expected:
        raise ArtifactError(f"{path} is of another artifact: {got}; expected {expected}. {advice}")
    return manifest


def is_whole(stage: Stage, artifacts_dir: epath.PathLike) -> bool:
    """Whether a stage's artifact is complete.

    Raises:
      ArtifactError: as `read_manifest`.
    """
    return read_manifest(stage, artifacts_dir) is not None


def whole_manifest(stage: Stage, artifacts_dir: epath.PathLike) -> dict[str, Any]:
    """The manifest of a stage whose artifact is needed.

    Raises:
      ArtifactError: the artifact is incomplete or gone; or as `read_manifest`.
    """
    manifest = read_manifest(stage, artifacts_dir)
    if manifest is None:
        raise ArtifactError(
            f"{stage.directory(artifacts_dir)} is not finished, or gone: expected the {stage.name} "
            "of the run. Run conkd_jax.train again."
        )
    return manifest


def write_manifest(
    stage: Stage,
    artifacts_dir: epath.PathLike,
    metrics: Mapping[str, Any],
    *,
    wall_seconds: float,
    tries: int,
) -> None:
    """Makes the artifact complete.

    Args:
      stage: the stage that has run.
      artifacts_dir: the root of all artifacts.
      metrics: what the stage returned; plain JSON, scalars of NumPy and jax too.
      wall_seconds: how long it took, interrupted attempts included.
      tries: number of attempts.
    """
    manifest = {
        "stage": stage.name,
        "version": stage.version,
        "fingerprint": stage.fingerprint,
        "config": stage.config_part,
        "inputs": stage.input_fingerprints,
        "git": git_hash(),
        "seed": stage.config_part.get("seed"),
        "wall_seconds": round(wall_seconds, 3),
        "tries": tries,
        "metrics": metrics,
        "machine": {
            "system": platform.platform(),
            "num_cpus": os.cpu_count(),
            "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
            "num_processes": jax.process_count(),
        },
        "finished_at": now(),
    }
    # NumPy and jax scalars count as the numbers they are.
    text = json.dumps(manifest, indent=2, default=lambda value: value.item())
    write_whole(stage.directory(artifacts_dir) / MANIFEST, text)


def git_hash() -> str:
    """The checkout's commit, "+changes" where files differ from it, or "unknown"."""
    here = pathlib.Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout

    try:
        commit = git("rev-parse", "HEAD").strip()
        changes = git("status", "--porcelain", "--untracked-files=no").strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changes else "")


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


# --- attempts ----------------------------------------------------------------------------------


class Tries(NamedTuple):
    """The attempts at an artifact that is not complete yet.

    Attributes:
      number: how many have begun, the current one included.
      seconds: how long those before the current one took.
      began: when the current one began; a Unix time, as files have.
    """

    number: int
    seconds: float
    began: float


def begin_try(directory: epath.Path) -> Tries:
    """Creates the artifact's folder and notes in it that an attempt begins.

    An attempt that was interrupted, perhaps killed, is taken to have lasted until its last write
    into the folder, a checkpoint for example.

    Raises:
      ArtifactError: the note of earlier attempts is damaged.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path, tries = directory / TRIES, Tries(1, 0.0, time.time())
    if path.exists():
        try:
            before = Tries(**json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise ArtifactError(
                f"{path} is damaged ({error}); expected what conkd_jax wrote. Delete it: only the "
                "seconds of earlier attempts are lost."
            ) from error
        last_written = max(map(_written_at, directory.iterdir()))
        seconds = before.seconds + max(0.0, last_written - before.began)
        tries = Tries(before.number + 1, seconds, tries.began)
    write_whole(path, json.dumps(tries._asdict()))
    return tries


def _written_at(path: epath.Path) -> float:
    """When a file was written, or a name inside a folder last changed; a Unix time."""
    if is_remote(path):
        return path.stat().mtime
    return os.path.getmtime(path)  # epath would ask for the owner's name, which not all users have
