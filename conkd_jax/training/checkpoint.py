"""Checkpoints of a training run, and saved parameters: the only importer of orbax.

What is saved is restored bit for bit. Every checkpoint lists its files with their SHA-256, so that
one that was damaged later is noticed, and the one before it is used. This file must not depend on
what is trained, and it does not decide when to save.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from etils import epath

from conkd_jax.io import integrity, terminal
from conkd_jax.io.array_files import load_arrays
from conkd_jax.io.files import FULL_DISK, absolute, is_remote, naming, parse_json, write_whole
from conkd_jax.io.integrity import DamagedError
from conkd_jax.runtime import parallel
from conkd_jax.runtime.allocator import return_freed_memory
from conkd_jax.typing import PyTree

CHECKPOINTS = "checkpoints"  # folder of a run; not needed any more once the result is saved
# Folders are made before a save returns. Else, on a disk that has no room even for them, threads of
# orbax wait for them, and so does the end of the program: for up to twenty minutes.
_FOLDERS_LATER = False
_COMPLETE = "commit_success.txt"  # in a complete checkpoint on an object store
_TIMES = "_CHECKPOINT_METADATA"  # orbax writes the time of the end into it last of all


class Restored(NamedTuple):
    """One checkpoint.

    Attributes:
      step: number of steps done.
      state: the state's tree.
      best: parameters of the best evaluation; None before the first one.
      progress: plain JSON.
    """

    step: int
    state: PyTree
    best: PyTree | None
    progress: dict


class Checkpoints:
    """The two newest checkpoints of a run, written in the background.

    State, best parameters and progress form one checkpoint, which appears as a whole or not at all.
    They are therefore consistent even if the process is killed at any moment. An older checkpoint
    is deleted only when two newer ones are complete. Every process must call every method.
    """

    def __init__(self, directory: epath.PathLike):
        """Opens the folder of checkpoints, or creates it."""
        self.directory = absolute(directory)  # orbax requires absolute paths
        self._saving = -1  # the step whose checkpoint is being written
        _mark_copied(self.directory)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2,
            cleanup_tmp_directories=True,
            async_options=ocp.AsyncOptions(
                post_finalization_callback=self._list_files,
                create_directories_asynchronously=_FOLDERS_LATER,
            ),
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def _list_files(self) -> None:
        """Lists the files of the checkpoint that is complete but does not have its name yet.

        On an object store, where nothing is renamed, it has its name but not the file that marks
        it as complete.
        """
        if parallel.is_first_process():
            unfinished = [
                path
                for path in self.directory.iterdir()
                if path.name.partition(".")[0] == str(self._saving) and path.is_dir()
            ]
            for path in unfinished:
                integrity.write_list(path, without=[_TIMES])

    def save(self, step: int, state: PyTree, progress: Mapping, best: PyTree | None = None) -> None:
        """Starts to save in the background; raises the error of the previous save, if any.

        Args:
          step: number of steps done; a step that is already saved is not saved again.
          state: tree of NumPy arrays, which must not be changed afterwards.
          progress: plain JSON.
          best: parameters of the best evaluation, as NumPy arrays.
        """
        if self._manager.latest_step() == step:
            return
        items = {
            "state": ocp.args.StandardSave(state),
            "progress": ocp.args.JsonSave(dict(progress)),
        }
        if best is not None:
            items["best"] = ocp.args.StandardSave(best)
        with _full_disk_told(self.directory):
            self._manager.wait_until_finished()  # `_list_files` of the previous one
            return_freed_memory()  # that of the previous one
            self._saving = step
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def restore(self, state: PyTree, params: PyTree) -> Restored | None:
        """Reads the newest checkpoint that is not damaged.

        A damaged one is deleted, which is said, and the one before it is read.

        Args:
          state: a tree of the state's types, shapes and dtypes; the result has the same types.
          params: likewise for the best parameters.

        Returns:
          The checkpoint, or None if there is none.

        Raises:
          ValueError: the checkpoint's trees differ from the given ones.
          DamagedError: all checkpoints are damaged.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            # Only the first process decides, so that all processes read the same checkpoint.
            why = problem(self.directory / str(step)) if parallel.is_first_process() else ""
            if not (why := parallel.broadcast(why)):
                return self._read(step, state, params)
            if step == steps[-1]:
                raise DamagedError(
                    f"{why}. No checkpoint before it is left, so this stage has to begin again.",
                    self.directory.parent,
                )
            if parallel.is_first_process():
                terminal.say(f"{why}: deleted it, and went back to the checkpoint before it")
            self._manager.delete(step)
        return None

    def _read(self, step: int, state: PyTree, params: PyTree) -> Restored:
        items = {
            "state": ocp.args.StandardRestore(state),
            "progress": ocp.args.JsonRestore(),
        }
        if (self.directory / str(step) / "best").exists():
            items["best"] = ocp.args.StandardRestore(params)
        targets = {"state": state, "best": params}
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(**items))
            for name in items.keys() & targets.keys():
                _check_shapes(restored[name], targets[name])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"the checkpoint {self.directory / str(step)} does not fit this run's parameters "
                "and optimizer; another model or optimizer wrote it. Delete the folder "
                f"{self.directory}, or train in another one. ({error})"
            ) from error
        return Restored(step, restored["state"], restored.get("best"), restored["progress"])

    def wait(self) -> None:
        """Waits for the save in the background and raises its error, if any."""
        with _full_disk_told(self.directory):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits like `wait`, then stops the background threads."""
        with _full_disk_told(self.directory):
            self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _check_shapes(tree: PyTree, target: PyTree) -> None:
    """Raises ValueError where orbax would silently cut or pad an array to the target's shape."""

    def check(path: tuple, leaf: Any, wanted: Any) -> None:
        got, expected = (leaf.shape, leaf.dtype), (wanted.shape, wanted.dtype)
        if got != expected:
            raise ValueError(f"{jax.tree_util.keystr(path)} is {got}; expected {expected}")

    jax.tree.map_with_path(check, tree, target)


@contextlib.contextmanager
def _full_disk_told(directory: epath.PathLike) -> Iterator[None]:
    """Turns what tensorstore raises on a full disk, a ValueError, into an OSError with a path.

    The first error, which is raised, closes orbax's event loop. Each write that was begun beside it
    still reports to that loop, from a thread of tensorstore: at once, or perhaps below the
    program's last line. These reports are dropped, until the process ends.
    """
    if not isinstance(sys.unraisablehook, _WithoutClosedLoops):
        sys.unraisablehook = _WithoutClosedLoops(sys.unraisablehook)
    try:
        with naming(directory):
            yield
    except ValueError as error:
        for number in FULL_DISK:
            if os.strerror(number) in str(error):
                logging.getLogger("asyncio").addFilter(_is_not_of_abandoned_task)
                told = OSError(number, os.strerror(number), os.fspath(directory))
                raise told from error
        raise


class _WithoutClosedLoops:
    """The hook for errors that can't be raised, without those of callbacks of a closed loop."""

    def __init__(self, before: Callable[[Any], Any]):
        self._before = before

    def __call__(self, error: Any) -> None:
        if str(error.exc_value) != "Event loop is closed":
            self._before(error)


def _is_not_of_abandoned_task(record: logging.LogRecord) -> bool:
    said = record.getMessage()
    return not (
        "was destroyed but it is pending" in said or "exception was never retrieved" in said
    )


def problem(checkpoint: epath.PathLike) -> str:
    """Reads the files of a checkpoint and says what is wrong with them; "" if nothing is.

    A checkpoint of an earlier version has no list of its files; nothing is known to be wrong.

    Args:
      checkpoint: the folder of one step.
    """
    checkpoint = epath.Path(checkpoint)
    try:
        entries = integrity.read_list(checkpoint) or {}
    except ValueError as error:
        return f"{checkpoint / integrity.LIST} is damaged: {error}"
    problems = (integrity.problem(checkpoint / name, entry) for name, entry in entries.items())
    return next(filter(None, problems), "")


def _mark_copied(directory: epath.Path) -> None:
    """Marks checkpoints that were copied from a disk to an object store as complete.

    On a disk, the name of a checkpoint says that it is complete. On an object store, orbax expects
    a file that says so, and deletes a checkpoint without it as one that was never finished.
    """
    if is_remote(directory) and parallel.is_first_process() and directory.exists():
        for path in directory.iterdir():
            is_marked = not path.name.isdecimal() or (path / _COMPLETE).exists()
            if not is_marked and _was_completed(path) and not problem(path):
                write_whole(path / _COMPLETE, "copied from a disk\n")
    parallel.barrier("copied checkpoints are marked")


def _was_completed(checkpoint: epath.Path) -> bool:
    """Whether a checkpoint has the list of its files, or an earlier version wrote it to its end."""
    if (checkpoint / integrity.LIST).exists():
        return True
    times = checkpoint / _TIMES
    try:
        return times.exists() and bool(parse_json(times.read_text())["commit_timestamp_nsecs"])
    except (ValueError, KeyError, TypeError):
        return False


def save(directory: epath.PathLike, params: PyTree) -> None:
    """Writes parameters, completely or not at all, and replaces older ones.

    Every process must call it.

    Args:
      directory: the folder to create.
      params: nested dicts of NumPy arrays.
    """
    options = ocp.AsyncOptions(create_directories_asynchronously=_FOLDERS_LATER)
    with (
        _full_disk_told(directory),
        ocp.StandardCheckpointer(async_options=options) as checkpointer,
    ):
        checkpointer.save(absolute(directory), params, force=True)


def is_saved(directory: epath.PathLike) -> bool:
    """Whether there are parameters that `load` reads."""
    return epath.Path(directory).exists() or compact_file(directory).exists()


def compact_file(directory: epath.PathLike) -> epath.Path:
    """The file that a release has instead of a folder of parameters."""
    return epath.Path(f"{os.fspath(directory)}.safetensors")


def load(directory: epath.PathLike) -> PyTree:
    """Reads what `save` wrote, or the file of a release: nested dicts of NumPy arrays.

    Raises:
      FileNotFoundError: the folder is missing or incomplete.
    """
    if not epath.Path(directory).exists() and compact_file(directory).exists():
        return load_arrays(compact_file(directory))
    directory = absolute(directory)
    if not (directory / "_METADATA").exists():
        raise FileNotFoundError(
            f"no saved parameters in {directory}: expected a folder with a file _METADATA. Delete "
            "the artifact that it belongs to and run its stage again."
        )
    # A folder that was copied from a disk to an object store lacks what marks it as complete there.
    options = ocp.options.AtomicityOptions(allow_legacy_atomic_rename=True)
    with ocp.StandardCheckpointer(atomicity_options=options) as checkpointer:
        return checkpointer.restore(directory)
