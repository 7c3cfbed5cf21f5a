"""What an artifact is: a stage, its fingerprint, and the manifest that makes it whole.

The fingerprint says what made an artifact; the manifest, written last, says that it is whole. This
file must not know what any stage computes, nor when one runs.
"""

import dataclasses
import datetime
import functools
import hashlib
import json
import os
import pathlib
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
from etils import epath

from conkd_jax.errors import UserError

MANIFEST = "manifest.json"
TRIES = "tries.json"  # beside a partial artifact; what it says goes into the manifest
FINGERPRINT_LENGTH = 16  # hexadecimal digits: 64 bits


class ArtifactError(UserError):
    """An artifact that can't be used: truncated, foreign, or on a disk that isn't shared."""


@dataclasses.dataclass(frozen=True)
class Context:
    """What a stage's `run` is given besides its folder.

    Attributes:
      artifacts_dir: the root of all artifacts.
      inputs: {input name: its folder}; all whole.
      manifests: {input name: its manifest}.
      is_resumed: whether the folder holds something of an earlier try.
    """

    artifacts_dir: epath.Path
    inputs: Mapping[str, epath.Path]
    manifests: Mapping[str, Mapping[str, Any]]
    is_resumed: bool


@dataclasses.dataclass(frozen=True)
class Stage:
    """One step of the pipeline, and all that its artifact depends on.

    Attributes:
      name: also the folder under the artifacts' root.
      version: bumped when the meaning of the output changes; code alone retrains nothing.
      config_part: plain JSON; the fields that the output depends on and no others. Raw files enter
        as `digest_files` of their content.
      inputs: stages whose artifacts this one reads.
      run: fills the folder and returns metrics (plain JSON). Every process calls it.
    """

    name: str
    version: int
    config_part: Mapping[str, Any]
    inputs: Mapping[str, "Stage"]
    run: Callable[[epath.Path, Context], Mapping[str, Any]]

    @functools.cached_property
    def fingerprint(self) -> str:
        """First digits of SHA-256 over name, version, config part and the inputs' fingerprints."""
        identity = {
            "stage": self.name,
            "version": self.version,
            "config": self.config_part,
            "inputs": self.input_fingerprints,
        }
        return digest(identity, self.name)[:FINGERPRINT_LENGTH]

    @property
    def input_fingerprints(self) -> dict[str, str]:
        """{input name: fingerprint}."""
        return {name: stage.fingerprint for name, stage in self.inputs.items()}

    def directory(self, artifacts_dir: epath.PathLike) -> epath.Path:
        """The artifact's folder, there or not."""
        return epath.Path(artifacts_dir) / self.name / self.fingerprint

    def is_whole(self, artifacts_dir: epath.PathLike) -> bool:
        """Whether the artifact's manifest exists (and is this stage's, else ArtifactError)."""
        return read_manifest(self, artifacts_dir) is not None


# --- fingerprints ------------------------------------------------------------------------------


def digest(value: Any, where: str = "value") -> str:
    """SHA-256 of canonical JSON: sorted keys, no spaces, UTF-8; tuples count as lists.

    Raises:
      ArtifactError: something in `value` is not plain JSON, or a number is not finite.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise ArtifactError(
            f"{where}: only plain JSON (dicts with text keys, lists, text, finite numbers, true, "
            f"false, null) has a fingerprint; got {value!r} ({error})"
        ) from error
    return hashlib.sha256(text.encode()).hexdigest()


def digest_files(paths: Iterable[epath.PathLike]) -> dict[str, str]:
    """{file name: SHA-256 of its content}: how raw files enter a config part, whatever their path.

    Raises:
      ArtifactError: two files of one name, which content alone could not tell apart.
    """
    digests: dict[str, str] = {}
    for path in map(epath.Path, paths):
        if path.name in digests:
            raise ArtifactError(f"two raw files are named {path.name!r}; expected unique names")
        content = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                content.update(block)
        digests[path.name] = content.hexdigest()
    return digests


def named_content(name: str, made_here: str) -> str | dict[str, str]:
    """How a published thing, or a file or folder of a user's own, enters a config part.

    Args:
      name: on the hub, or a path.
      made_here: the name that stands for neither, but for what the program makes itself.

    Returns:
      `digest_files` of the file, or of the folder's files; the name itself where neither is there.
    """
    path = epath.Path(name)
    if name == made_here:
        return name
    if path.is_dir():
        return digest_files(each for each in sorted(path.iterdir()) if each.is_file())
    return digest_files([path]) if path.is_file() else name


# --- manifests ---------------------------------------------------------------------------------


def read_manifest(stage: Stage, artifacts_dir: epath.PathLike) -> dict[str, Any] | None:
    """The stage's manifest; None where its artifact is not whole.

    Raises:
      ArtifactError: the manifest is truncated or belongs to something else.
    """
    path = stage.directory(artifacts_dir) / MANIFEST
    if not path.exists():
        return None
    advice = f"Delete the folder {path.parent} to have the stage run again."
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


def whole_manifest(stage: Stage, artifacts_dir: epath.PathLike) -> dict[str, Any]:
    """The manifest of a stage whose artifact is needed.

    Raises:
      ArtifactError: the artifact is not whole, or gone; as `read_manifest`.
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
    """Makes the artifact whole: the last file written, and there all at once or not at all.

    Args:
      stage: the stage that has run.
      artifacts_dir: the root of all artifacts.
      metrics: what the stage gave back; plain JSON, scalars of NumPy and jax too.
      wall_seconds: how long it took, the tries that were stopped included.
      tries: how often it was begun.
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
    _write_whole(directory / MANIFEST, text)


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


def is_remote(path: epath.Path) -> bool:
    """Whether the path is on an object store (gs://), not a disk."""
    return "://" in os.fspath(path)


def _write_whole(path: epath.Path, text: str) -> None:
    """Writes a file that is there all at once or not at all."""
    if is_remote(path):  # an object store shows a file once it is whole
        path.write_text(text)
        return
    unfinished = path.with_name(f"{path.name}.tmp")
    with unfinished.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


# --- tries -------------------------------------------------------------------------------------


class Tries(NamedTuple):
    """The tries at an artifact that is not whole yet, kept beside it.

    Attributes:
      number: how many have begun, the last one included.
      seconds: what those before the last one took.
      began: when the last one began; a Unix time, as files have.
    """

    number: int
    seconds: float
    began: float


def begin_try(directory: epath.Path) -> Tries:
    """Makes the artifact's folder and notes in it that a try begins.

    The try before it was stopped, perhaps killed: it took as long as from its beginning to the
    last thing that it wrote into the folder, a checkpoint for example.

    Raises:
      ArtifactError: the note of the tries before is damaged.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path, tries = directory / TRIES, Tries(1, 0.0, time.time())
    if path.exists():
        try:
            before = Tries(**json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise ArtifactError(
                f"{path} is damaged ({error}); expected what conkd_jax wrote. Delete it: only the "
                "seconds of earlier tries are lost."
            ) from error
        last_written = max(map(_written_at, directory.iterdir()))
        seconds = before.seconds + max(0.0, last_written - before.began)
        tries = Tries(before.number + 1, seconds, tries.began)
    _write_whole(path, json.dumps(tries._asdict()))
    return tries


def _written_at(path: epath.Path) -> float:
    """When a file was written, or a name inside a folder last changed; a Unix time."""
    if is_remote(path):
        return path.stat().mtime
    return os.path.getmtime(path)  # epath would ask for the owner's name, which not all users have
