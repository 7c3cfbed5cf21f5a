"""Builds stages that don't read each other's artifacts at the same time, in processes of their own.

The two teachers and the turn classifier, for example, need only the corpus and the vocabulary. Each
process may use all cores: XLA then plans for as many threads as without the others, and the results
are the same bits (docs/design/0014).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from etils import epath

from conkd_jax.artifacts.build import ensure, needed
from conkd_jax.artifacts.fingerprint import ArtifactError
from conkd_jax.artifacts.manifest import is_whole
from conkd_jax.artifacts.stage import Stage
from conkd_jax.io import terminal
from conkd_jax.runtime.jobs import Job, run_jobs

LOGS = "logs"  # in the root of all artifacts


def ready(lasts: Collection[Stage], artifacts_dir: epath.PathLike) -> list[Stage]:
    """The stages that `ensure` would run and whose inputs are complete, each once.

    Args:
      lasts: the stages to complete.
      artifacts_dir: the root of all artifacts.
    """
    found = {}
    for last in lasts:
        for each in needed(last, artifacts_dir):
            if all(is_whole(stage, artifacts_dir) for stage in each.inputs.values()):
                found[each.fingerprint] = each
    return list(found.values())


def ensure_side_by_side(
    lasts: Collection[Stage],
    artifacts_dir: epath.PathLike,
    command: Callable[[Stage], Sequence[str]],
    *,
    num_jobs: int,
) -> None:
    """Completes what `ensure` would complete, several stages at a time where they are ready.

    A stage that is the only one ready is built in this process.

    Args:
      lasts: the stages to complete.
      artifacts_dir: the root of all artifacts, on a disk of this machine.
      command: the command line that builds a stage whose inputs are complete.
      num_jobs: the number of processes at once.

    Raises:
      ArtifactError: a process failed; the others have been waited for, and their artifacts are
        kept.
    """
    logs = Path(artifacts_dir) / LOGS
    while stages := ready(lasts, artifacts_dir):
        if len(stages) == 1:
            ensure(stages[0], artifacts_dir)
            continue
        names = [f"{each.name} {each.fingerprint}" for each in stages]
        terminal.say(f"{', '.join(names)}: {num_jobs} at once; logs in {logs}")
        jobs = [
            Job(name, command(each), logs / f"{each.label.replace('/', '-')}.log")
            for name, each in zip(names, stages, strict=True)
        ]
        failed = []
        for outcome in run_jobs(jobs, at_once=num_jobs, own_cores=False):
            text = f"{outcome.seconds / 60:.1f} min"
            if outcome.exit_code:
                failed.append(outcome)
                text = f"FAILED after {text}"
            terminal.say(f"{outcome.job.name}: {text}")
        if failed:
            raise ArtifactError(
                "; ".join(
                    f"{each.job.name}: exit code {each.exit_code}, {each.last_line} "
                    f"({each.job.log})"
                    for each in failed
                )
            )
