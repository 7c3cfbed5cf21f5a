"""Removes a stage's artifact and what was made from it, so that the next run makes them anew."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator

from etils import epath

from conkd_jax.artifacts.lock import locked
from conkd_jax.artifacts.stage import Stage, chosen, in_order
from conkd_jax.io import integrity, terminal
from conkd_jax.io.integrity import MANIFEST, DamagedError
from conkd_jax.runtime import parallel


def remove(lasts: Collection[Stage], artifacts_dir: epath.PathLike, wanted: str) -> None:
    """Removes artifacts of some runs, and all artifacts of these runs that were made from them.

    Artifacts of other runs that were made from them are named and left as they are. Every process
    must call it.

    Args:
      lasts: the last stages of the runs.
      artifacts_dir: the root of all artifacts.
      wanted: the name of a stage; or name/fingerprint, for one of several stages of a name.

    Raises:
      ArtifactError: no run has such a stage.
    """
    root, order = epath.Path(artifacts_dir), in_order(*lasts)
    removed = {each.fingerprint for each in chosen(order, wanted, "rebuild")}
    for each in order:  # inputs come first
        if removed & set(each.input_fingerprints.values()):
            removed.add(each.fingerprint)
    if parallel.is_first_process():
        for label in _made_elsewhere(root, order, removed):
            terminal.say(f"{label} was made from it as well, by another run, and is left as it is")
    for each in reversed(order):  # if this is interrupted, what is damaged is still there
        directory = each.directory(root)
        if each.fingerprint in removed and parallel.broadcast(directory.exists()):
            with locked(each, root):
                if parallel.is_first_process():
                    terminal.say(f"{each.name} {each.fingerprint}: removing {directory}")
                    _remove_folder(directory)
                parallel.barrier(f"{each.fingerprint} removed")


def _remove_folder(directory: epath.Path) -> None:
    """Removes the manifest last: an artifact that lacks files is never taken for a partial one."""
    for path in directory.iterdir():
        if path.name != MANIFEST:
            path.rmtree() if path.is_dir() else path.unlink()
    directory.rmtree()


def _made_elsewhere(
    root: epath.Path, order: Iterable[Stage], removed: Collection[str]
) -> Iterator[str]:
    """Artifacts that are not of this run but were made from one that is removed."""
    own = {each.fingerprint for each in order}
    for path in sorted(root.glob(f"*/*/{MANIFEST}")):
        with contextlib.suppress(ValueError, KeyError, AttributeError, OSError):
            inputs = integrity.unsealed(path.read_text())["inputs"].values()
            if path.parent.name not in own and set(removed) & set(inputs):
                yield f"{path.parent.parent.name} {path.parent.name}"


def option(lasts: Collection[Stage], folders: Iterable[epath.Path]) -> str:
    """The option --rebuild that makes artifacts anew.

    Args:
      lasts: the last stages of the runs of the command that gets the option; none if they are
        not known.
      folders: the artifacts.
    """
    found = {each.fingerprint: each.name for each in in_order(*lasts)}
    labels = []
    for folder in folders:
        name = folder.parent.name
        is_alone = list(found.values()).count(name) == 1
        labels.append(name if is_alone else f"{name}/{folder.name}")
    return f"--rebuild={','.join(dict.fromkeys(labels))}"


@contextlib.contextmanager
def mended_by(command: str, lasts: Collection[Stage]) -> Iterator[None]:
    """Adds the command that mends it to the error of a damaged artifact.

    Args:
      command: a command that makes the artifacts and has the option --rebuild.
      lasts: the last stages of its runs.
    """
    try:
        yield
    except DamagedError as error:
        if error.folder is None or error.mend:
            raise
        mend = f"{command} {option(lasts, [error.folder])}"
        raise DamagedError(error.what, error.folder, mend) from error
