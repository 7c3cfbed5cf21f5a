"""Checkpoints of a training run and final parameters: the only importer of orbax.

Saves what `loop.py` gives it and gives it back bit for bit. It must not know what is trained, and
it never decides when to save.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from etils import epath
from jaxtyping import PyTree

CHECKPOINTS = "checkpoints"  # a run's folder of them; nobody reads it once the result is saved


class Restored(NamedTuple):
    """One checkpoint: the state's tree, the best parameters (None: none yet), and plain JSON."""

    step: int
    state: PyTree
    best: PyTree | None
    progress: dict


class Checkpoints:
    """The newest checkpoint of a run, written in the background.

    State, best parameters and progress are one checkpoint: it appears as a whole or not at all, so
    a process killed at any moment finds them in step with each other. An older checkpoint goes
    only when a newer one is whole. Every process calls every method.
    """

    def __init__(self, directory: epath.PathLike):
        """Opens, or makes, the folder of checkpoints."""
        self.directory = epath.Path(directory).resolve()  # orbax takes no relative path
        options = ocp.CheckpointManagerOptions(max_to_keep=1, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    @property
    def latest_step(self) -> int | None:
        """The step of the newest whole checkpoint; None where there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: PyTree, progress: Mapping, best: PyTree | None = None) -> None:
        """Starts saving; an error of the save before is raised here.

        Args:
          step: steps done; a step that is already saved is not saved again.
          state: tree of NumPy arrays that nobody changes afterwards.
          progress: plain JSON.
          best: parameters of the best evaluation, NumPy arrays too.
        """
        if self._manager.latest_step() == step:
            return
        items = {
            "state": ocp.args.StandardSave(state),
            "progress": ocp.args.JsonSave(dict(progress)),
        }
        if best is not None:
            items["best"] = ocp.args.StandardSave(best)
        self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def restore(self, state: PyTree, params: PyTree) -> Restored | None:
        """The newest checkpoint, in the very tree types of the targets.

        Args:
          state: target of the state: a tree of the same types, shapes and dtypes.
          params: target of the best parameters.

        Returns:
          The checkpoint, or None where there is none.

        Raises:
          ValueError: the checkpoint holds another tree than the target.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
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
                "and optimizer: it was written by another model or optimizer. Delete the folder "
                f"{self.directory}, or train into another one. ({error})"
            ) from error
        return Restored(step, restored["state"], restored.get("best"), restored["progress"])

    def wait(self) -> None:
        """Waits for the save in the background and raises its error, if it had one."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits as `wait` does, then stops the background threads."""
        self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _check_shapes(tree: PyTree, target: PyTree) -> None:
    """Orbax cuts or pads an array whose target has another shape; here that is an error."""

    def check(path: tuple, leaf: Any, wanted: Any) -> None:
        got, expected = (leaf.shape, leaf.dtype), (wanted.shape, wanted.dtype)
        if got != expected:
            raise ValueError(f"{jax.tree_util.keystr(path)} is {got}; expected {expected}")

    jax.tree.map_with_path(check, tree, target)


def save(directory: epath.PathLike, params: PyTree) -> None:
    """Writes parameters whole, or not at all, in place of what was there; every process calls it.

    Args:
      directory: the folder to make.
      params: nested dicts of NumPy arrays.
    """
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(epath.Path(directory).resolve(), params, force=True)


def load(directory: epath.PathLike, params: PyTree | None = None) -> PyTree:
    """Reads what `save` wrote.

    Args:
      directory: the folder.
      params: a tree of the wanted types and shapes; None gives nested dicts as they were saved.

    Returns:
      NumPy arrays.

    Raises:
      FileNotFoundError: nothing whole is there.
      ValueError: what is there does not fit `params`.
    """
    directory = epath.Path(directory).resolve()
    if not (directory / "_METADATA").exists():
        raise FileNotFoundError(
            f"no saved parameters in {directory}: expected a folder written by "
            "conkd_jax.checkpoint.save, with _METADATA in it. Run its stage again."
        )
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(directory, params)
    if params is not None:
        _check_shapes(restored, params)
    return restored
