"""One run at a time builds an artifact: a lock file beside its folder."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import filelock
from etils import epath

from conkd_jax import parallel
from conkd_jax.artifacts.stage import Stage
from conkd_jax.files import is_remote

SECONDS_BETWEEN_LOCK_TRIES = 1.0


@contextlib.contextmanager
def locked(stage: Stage, artifacts_dir: epath.Path) -> Iterator[None]:
    """Holds the artifact against other runs on local disks; object stores have no such lock.

    The operating system releases the lock when the process that holds it ends, so it is never
    stale. All processes of this run try again together: none waits for long inside a collective.
    """
    path = artifacts_dir / stage.name / f".{stage.fingerprint}.lock"
    lock, is_told = None, False
    if parallel.is_first_process() and not is_remote(artifacts_dir):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
    try:
        while not parallel.broadcast(lock is None or _try_lock(lock)):
            if not is_told and parallel.is_first_process():
                print(
                    f"{stage.name} {stage.fingerprint}: waiting for another run that builds it",
                    flush=True,
                )
            is_told = True
            time.sleep(SECONDS_BETWEEN_LOCK_TRIES)
        yield
    finally:
        if lock is not None:
            lock.release()


def _try_lock(lock: filelock.BaseFileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        return False
    return True
