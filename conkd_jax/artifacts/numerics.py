"""Interrupted stages that another process began, on other devices or with other threads."""

from __future__ import annotations

from etils import epath

from conkd_jax.artifacts.manifest import Tries, read_tries
from conkd_jax.artifacts.stage import Stage, in_order
from conkd_jax.runtime import threads


def other_numerics(tries: Tries) -> str:
    """Says on what else earlier attempts may have computed a part of a result; "" if on nothing."""
    now = threads.numerics()
    return next(filter(None, (threads.difference(each, now) for each in tries.numerics)), "")


def pin_threads(artifacts_dir: epath.PathLike, *lasts: Stage) -> str:
    """Gives this process the number of CPU threads that an interrupted stage was begun with.

    The result is then that of an uninterrupted run. Of several interrupted stages, the one that is
    resumed first decides.

    Args:
      artifacts_dir: the root of all artifacts.
      lasts: the stages to complete.

    Returns:
      What was done, in words; "" if nothing.

    Raises:
      ArtifactError: the record of an interrupted stage is damaged.
    """
    for stage in in_order(*lasts):
        tries = read_tries(stage.directory(artifacts_dir))
        if tries is not None and tries.numerics:
            had = threads.num_threads()
            if not threads.pin(tries.numerics[0]):
                return ""
            number = tries.numerics[0]["threads"]
            return (
                f"{stage.name} {stage.fingerprint} was begun with {number} CPU thread"
                f"{'s' if number > 1 else ''}: uses as many, of {had}, so that its result is that "
                f"of an uninterrupted run. {threads.PIN}={had} uses all."
            )
    return ""
