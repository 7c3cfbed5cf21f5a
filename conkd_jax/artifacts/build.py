"""Builds missing artifacts: decides which stages run, and runs them.

An artifact is the folder <artifacts_dir>/<stage>/<fingerprint>/. If it is complete ("whole"), its
stage does not run again. If the folder has no manifest, the stage resumes there. If the artifact
was deleted, its stage runs only when another stage that has to run reads it. This module does not
depend on what any stage computes.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
from etils import epath

from conkd_jax.artifacts.cost import CostWatch, Estimate, expected, flat
from conkd_jax.artifacts.fingerprint import ArtifactError
from conkd_jax.artifacts.lock import locked, locked_if_free
from conkd_jax.artifacts.manifest import (
    TRIES,
    Tries,
    begin_try,
    check_files,
    is_whole,
    missing_files,
    now,
    read_manifest,
    write_manifest,
)
from conkd_jax.artifacts.numerics import other_numerics
from conkd_jax.artifacts.stage import Context, Stage, in_order
from conkd_jax.io import terminal
from conkd_jax.io.files import is_remote, naming, parse_json
from conkd_jax.io.integrity import MANIFEST, DamagedError
from conkd_jax.runtime import compiling, parallel
from conkd_jax.training.checkpoint import CHECKPOINTS

LOG, OLDER_LOG = "log.jsonl", "log.older.jsonl"
LOG_BYTES = 1 << 20  # a log that is larger takes the place of the older one


class PlanRow(NamedTuple):
    """One line of a plan: a stage and the state of its artifact.

    Attributes:
      name: the stage's name.
      fingerprint: the stage's fingerprint.
      state: "whole", "partial", "missing", or "not needed" (missing, but not read by any stage that
        has to run).
      why: the reason for the state.
      cost: what it is expected to cost; None if it would not run or no like run is known.
    """

    name: str
    fingerprint: str
    state: str
    why: str
    cost: Estimate | None = None


def ensure(stage: Stage, artifacts_dir: epath.PathLike) -> dict[str, Any]:
    """Completes the artifacts of a stage and of its inputs; runs only what is missing.

    Indirect inputs are built only if a stage that has to run reads them. The teacher store, for
    example, may be deleted once its students are complete. Direct inputs are always completed,
    since the folder of a run is written from them too (`runs.folder`).

    The first process decides which stages run, and the others follow. Two runs never build the same
    artifact at once: the second waits and reuses the result.

    Args:
      stage: the stage to complete.
      artifacts_dir: root of the artifacts; with several processes, on a disk that they share.

    Returns:
      The stage's manifest.

    Raises:
      DamagedError: an artifact that is read, or its manifest, is not what was written.
      ArtifactError: the processes don't share the root.
    """
    return _complete(stage, artifacts_dir)[stage.fingerprint]


def ensure_first(stage: Stage, artifacts_dir: epath.PathLike, names: Collection[str]) -> None:
    """Completes what `ensure` would complete, but only stages of some names.

    Args:
      stage: the stage that will be completed later.
      artifacts_dir: root of the artifacts.
      names: names of stages that read no others than each other.

    Raises:
      UserError: as `ensure`.
    """
    _complete(stage, artifacts_dir, names)


def _complete(
    stage: Stage, artifacts_dir: epath.PathLike, names: Collection[str] | None = None
) -> dict[str, dict]:
    """Completes artifacts; returns their manifests by fingerprint. None stands for all names."""
    artifacts_dir = epath.Path(artifacts_dir)
    if parallel.is_first_process():
        artifacts_dir.mkdir(parents=True, exist_ok=True)
    check_is_shared(artifacts_dir)
    unneeded = _from_first_process(lambda: _unneeded(stage, artifacts_dir))
    manifests: dict[str, dict] = {}
    for each in in_order(stage):
        if each.fingerprint not in unneeded and (names is None or each.name in names):
            manifests[each.fingerprint] = _ensure_one(each, artifacts_dir, manifests)
    return manifests


def _unneeded(stage: Stage, artifacts_dir: epath.PathLike) -> list[str]:
    """Fingerprints of incomplete artifacts that are not read by any stage that has to run."""
    order = in_order(stage)
    whole = {each.fingerprint for each in order if is_whole(each, artifacts_dir)}
    needed = {stage.fingerprint, *stage.input_fingerprints.values()}
    for each in reversed(order):  # a stage is visited before its inputs
        if each.fingerprint in needed - whole:
            needed |= set(each.input_fingerprints.values())
    return [each.fingerprint for each in order if each.fingerprint not in whole | needed]


def needed(stage: Stage, artifacts_dir: epath.PathLike) -> list[Stage]:
    """The incomplete stages that `ensure` would run, inputs first."""
    unneeded = _unneeded(stage, epath.Path(artifacts_dir))
    return [
        each
        for each in in_order(stage)
        if each.fingerprint not in unneeded and not is_whole(each, artifacts_dir)
    ]


def _ensure_one(stage: Stage, artifacts_dir: epath.Path, manifests: Mapping[str, dict]) -> dict:
    began = time.monotonic()

    def finished() -> dict | None:
        # Only the first process reads: the others might see an older state of a shared disk.
        manifest = _from_first_process(lambda: read_manifest(stage, artifacts_dir))
        if manifest is not None:
            _sweep(stage, artifacts_dir)
            _log(artifacts_dir, stage, "reused", time.monotonic() - began)
        return manifest

    if (manifest := finished()) is not None:  # without a lock, which a read-only disk can't have
        return manifest
    with locked(stage, artifacts_dir):
        if (manifest := finished()) is not None:  # another run has built it meanwhile
            return manifest
        return _build(stage, artifacts_dir, manifests)


def _sweep(stage: Stage, artifacts_dir: epath.Path) -> None:
    """Removes what a process leaves in a finished artifact if it is killed before it tidies up."""
    directory = stage.directory(artifacts_dir)
    left = [directory / name for name in (TRIES, CHECKPOINTS)]
    if not parallel.is_first_process() or is_remote(directory):  # an object store has no locks
        return
    if any(each.exists() for each in left):
        with locked_if_free(stage, artifacts_dir) as is_locked:
            if is_locked:
                _tidy(directory)


def _tidy(directory: epath.Path) -> None:
    """Removes what only an unfinished artifact needs, and what is larger than the result."""
    (directory / TRIES).unlink(missing_ok=True)
    (directory / CHECKPOINTS).rmtree(missing_ok=True)


def _build(stage: Stage, artifacts_dir: epath.Path, manifests: Mapping[str, dict]) -> dict:
    """Runs a stage, or resumes it, in its locked folder; returns the manifest."""
    began, compiled_before = time.monotonic(), compiling.seconds()
    watch = CostWatch()
    directory = stage.directory(artifacts_dir)
    _agree(lambda: _check_inputs(stage, artifacts_dir))
    if parallel.is_first_process() and (directory / MANIFEST).exists():
        directory.rmtree()  # some of its files are gone, and a stage resumes only what it stopped
    is_resumed = parallel.broadcast(directory.exists() and any(directory.iterdir()))
    tries = Tries(*_from_first_process(lambda: begin_try(directory)))
    if parallel.is_first_process():
        action = "resuming" if is_resumed else "building"
        terminal.say(f"{stage.name} {stage.fingerprint}: {action} {directory}")
        if not (directory / CHECKPOINTS).exists():  # a training tells what its checkpoint is of
            if why := other_numerics(tries):
                terminal.say(f"warning: {stage.name} {stage.fingerprint}: {why}")
    parallel.barrier(f"{stage.fingerprint} starts")
    context = Context(
        inputs={k: s.directory(artifacts_dir) for k, s in stage.inputs.items()},
        manifests={k: manifests[s.fingerprint] for k, s in stage.inputs.items()},
        is_resumed=is_resumed,
    )
    metrics = stage.run(stage.settings, directory, context)
    parallel.barrier(f"{stage.fingerprint} ends")
    if parallel.is_first_process():
        seconds, compiled = time.monotonic() - began, compiling.seconds() - compiled_before
        write_manifest(
            stage,
            artifacts_dir,
            metrics,
            wall_seconds=tries.seconds + seconds,
            compile_seconds=compiled,
            tries=tries.number,
            numerics=tries.numerics,
            costs=watch.costs(directory),
        )
        _tidy(directory)
        action = "resumed" if is_resumed else "built"
        _log(artifacts_dir, stage, action, seconds, compiled)
    manifest = _from_first_process(lambda: read_manifest(stage, artifacts_dir))
    if manifest is None:
        raise ArtifactError(
            f"the manifest in {directory} is gone right after it was written; expected no "
            "other program to change the folder. Run the same command again."
        )
    return manifest


def _check_inputs(stage: Stage, artifacts_dir: epath.Path) -> None:
    for each in stage.inputs.values():
        check_files(each.directory(artifacts_dir))


def _agree(check: Callable[[], None]) -> None:
    """Runs a check in every process; if it fails in one of them, all of them end with its error."""
    error = None
    try:
        check()
    except DamagedError as damage:
        error = damage
    if parallel.any_process(error is not None):
        raise error or DamagedError("Another process read a damaged file; its error names it.")


def _from_first_process(read: Callable[[], Any]) -> Any:
    """The first process's result, or its error, in every process."""
    answer: dict[str, Any] = {}
    if parallel.is_first_process():
        try:
            answer = {"value": read()}
        except ArtifactError as error:
            answer = {"error": str(error)}
        except DamagedError as error:
            answer = {"error": error.what, "damaged": os.fspath(error.folder or "")}
    answer = parallel.broadcast(answer)
    if "damaged" in answer:
        raise DamagedError(answer["error"], answer["damaged"] or None)
    if "error" in answer:
        raise ArtifactError(answer["error"])
    return answer["value"]


def explain(stage: Stage, artifacts_dir: epath.PathLike) -> list[PlanRow]:
    """Returns what `ensure` would run, in order, and why; changes nothing.

    Raises:
      DamagedError: a manifest, or the size of a file, is not what was written.
    """
    rows = []
    unneeded = _unneeded(stage, artifacts_dir)
    for each in in_order(stage):
        directory = each.directory(artifacts_dir)
        manifest = read_manifest(each, artifacts_dir)
        if manifest is not None:
            state, why = "whole", f"finished {manifest.get('finished_at')}"
        elif each.fingerprint in unneeded:
            state, why = "not needed", "missing, but everything built from it is whole"
        elif (directory / MANIFEST).exists():
            gone = missing_files(directory)
            more = f" and {len(gone) - 1} more" if gone[1:] else ""
            state, why = "partial", f"{gone[0]}{more} is missing: it will be made anew"
        elif directory.exists() and any(directory.iterdir()):
            state, why = "partial", "no manifest: it was interrupted and will resume"
        else:
            state, why = "missing", _why_missing(each, epath.Path(artifacts_dir))
        would_run = state in ("partial", "missing")
        cost = expected(each, artifacts_dir) if would_run else None
        rows.append(PlanRow(each.name, each.fingerprint, state, why, cost))
    return rows


def _why_missing(stage: Stage, artifacts_dir: epath.Path) -> str:
    """The fields that differ from the most similar artifact of the same stage."""
    wanted = flat(
        {
            "version": stage.version,
            "config": dict(stage.config_part),
            "inputs": stage.input_fingerprints,
        }
    )
    differences = []
    for path in sorted((artifacts_dir / stage.name).glob(f"*/{MANIFEST}")):
        try:
            other = parse_json(path.read_text())
            there = flat({key: other[key] for key in ("version", "config", "inputs")})
        except (ValueError, KeyError, TypeError):
            continue  # the comparison is a hint: a damaged manifest here is no error
        names = [k for k in sorted(wanted | there) if wanted.get(k) != there.get(k)]
        differences.append((len(names), path.parent.name, names, there))
    if not differences:
        return "never built"
    _, fingerprint, names, there = min(differences, key=lambda each: each[:2])
    changes = [f"{name} {there.get(name)} -> {wanted.get(name)}" for name in names[:3]]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"differs from {fingerprint} in {', '.join(changes)}{more}"


# --- disks -------------------------------------------------------------------------------------


def check_is_shared(artifacts_dir: epath.Path) -> None:
    """Checks that every process sees what the first one writes; does nothing with one process.

    Raises:
      ArtifactError: at least one process does not see it; raised in every process.
    """
    if jax.process_count() == 1:
        return
    probe, is_writable = artifacts_dir / f".shared-{parallel.broadcast(uuid.uuid4().hex)}", True
    if parallel.is_first_process():
        try:
            probe.write_text("")
        except OSError:
            is_writable = False  # it can only be read; a stage that has to run says so
    if not parallel.broadcast(is_writable):
        return
    parallel.barrier(f"{probe.name} written")
    is_unseen = parallel.any_process(not probe.exists())
    if parallel.is_first_process():
        probe.unlink()
    if is_unseen:
        raise ArtifactError(
            f"artifacts_dir {artifacts_dir} is not shared: a file of process 0 is not seen by all "
            f"{jax.process_count()} processes. Set it to a folder on a shared disk or to a gs:// "
            "path."
        )


def _log(
    artifacts_dir: epath.Path, stage: Stage, action: str, seconds: float, compiled: float = 0.0
) -> None:
    """Appends what happened to an artifact to log.jsonl, which with log.older.jsonl stays small.

    Args:
      artifacts_dir: the root of all artifacts.
      stage: the stage.
      action: "built", "resumed" or "reused".
      seconds: how long it took this process.
      compiled: how much of that was spent on compiling.
    """
    if not parallel.is_first_process():
        return
    line = {
        "stage": stage.name,
        "fingerprint": stage.fingerprint,
        "action": action,
        "seconds": round(seconds, 3),
        "compile_seconds": round(compiled, 3),
        "time": now(),
    }
    path, older = artifacts_dir / LOG, artifacts_dir / OLDER_LOG
    text = json.dumps(line) + "\n"
    if is_remote(path):  # an object store can't append
        before = path.read_text() if path.exists() else ""
        if len(before) > LOG_BYTES:
            older.write_text(before)
            before = ""
        path.write_text(before + text)
        return
    try:
        with naming(path):
            if path.is_file() and os.path.getsize(path) > LOG_BYTES:
                with contextlib.suppress(FileNotFoundError):  # another run was faster
                    os.replace(path, older)
            with path.open("a") as file:
                file.write(text)
    except OSError:
        if action != "reused":  # the artifacts of others, or of a full disk, may still be read
            raise
