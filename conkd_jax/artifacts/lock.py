"""A lock file beside each artifact's folder, so that only one run at a time builds it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import filelock
from etils import epath

from conkd_jax.artifacts.stage import Stage
from conkd_jax.io import terminal
from conkd_jax.io.files import is_remote
from conkd_jax.runtime import parallel

SECONDS_BETWEEN_LOCK_TRIES = 1.0


@contextlib.contextmanager
def locked(stage: Stage, artifacts_dir: epath.Path) -> Iterator[None]:
    """Locks an artifact against other runs; on an object store, which has no locks, does nothing.

    The operating system releases the lock when its process ends, so no lock is ever stale. The
    first process takes the lock. All processes retry together, so that none waits long inside a
    collective.
    """
    path = artifacts_dir / stage.name / f".{stage.fingerprint}.lock"
    lock, is_announced = None, False
    if parallel.is_first_process() and not is_remote(artifacts_dir):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
    try:
        while not parallel.broadcast(lock is None or _try_lock(lock)):
            if not is_announced and parallel.is_first_process():
                terminal.say(
                    f"{stage.name} {stage.fingerprint}: waiting for another run that builds it"
                )
            is_announced = True
            time.sleep(SECONDS_BETWEEN_LOCK_TRIES)
        yield
    finally:
        if lock is not None:
            lock.release()


@contextlib.contextmanager
def locked_if_free(stage: Stage, artifacts_dir: epath.Path) -> Iterator[bool]:
    """Locks an artifact for this process alone, if no other run has and the disk can be written.

    Yields:
      Whether it is locked.
    """
    lock = filelock.FileLock(artifacts_dir / stage.name / f".{stage.fingerprint}.lock")
    try:
        is_locked = _try_lock(lock)
    except OSError:  # a disk that can only be read
        is_locked = False
    try:
        yield is_locked
    finally:
        lock.release()


def _try_lock(lock: filelock.BaseFileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        return False
    return True
