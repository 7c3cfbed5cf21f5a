"""Reads finished runs and artifacts, and says whether their files still hold what was written.

    conkd-verify runs/dialogpt_hard-demo-seed0
    python -m conkd_jax.verify artifacts

DIR is the folder of a run, one artifact, or a folder of artifacts. Every file is read and compared
with the size and the SHA-256 that it had when it was written; nothing is changed. The exit code is
0 if nothing is wrong, else 2. Artifacts of versions without hashes are listed as such.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import rich.table
import rich.text
from absl import flags
from etils import epath

from conkd_jax.artifacts.verify import DAMAGED, UNKNOWN, Finding, artifacts_below, verify
from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.eval import origin
from conkd_jax.io import integrity
from conkd_jax.io.integrity import DamagedError
from conkd_jax.runs.finished import CONFIG, PREDICTIONS, Run

OPTIONS = flags.FlagValues()


def main(argv: list[str]) -> None:
    """Verifies every given folder, and ends with an error that names what is damaged."""
    if not argv[1:]:
        raise UsageError("expected a folder to verify: that of a run, or artifacts")
    errors = []
    for folder in map(epath.Path, argv[1:]):
        try:
            if (folder / CONFIG).exists() and (folder / origin.KEY / origin.LISTING).exists():
                show_findings(findings_of_run(folder), Run.open(folder).mending_command)
            else:
                show_findings(findings(folder))
        except DamagedError as error:  # the other folders are read as well
            errors.append(str(error))
    if errors:
        raise DamagedError(" ".join(errors))


def findings(folder: epath.Path) -> Iterator[Finding]:
    """Verifies an artifact, or those in a folder of artifacts.

    Raises:
      UsageError: there is no artifact in the folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: expected a folder of a run or of artifacts, found none")
    artifacts = list(artifacts_below(folder))
    if not artifacts:
        raise UsageError(
            f"{folder}: expected the folder of a run, an artifact, or a folder of artifacts, which "
            f"have a {integrity.MANIFEST}; found none in it"
        )
    yield from map(verify, artifacts)


def findings_of_run(folder: epath.Path) -> Iterator[Finding]:
    """Verifies the artifacts that a run was made from, and the predictions in its own folder."""
    lines = (folder / origin.KEY / origin.LISTING).read_text().splitlines()
    artifacts = {}
    for name, _, path in (line.partition(" ") for line in lines):
        link = folder / origin.KEY / name  # absolute, unlike the path in the list
        artifacts[name] = link if link.exists() else epath.Path(path)
        yield verify(artifacts[name])
    if evaluation := artifacts.get(origin.EVALUATION):
        entry = integrity.entries_above(evaluation)[1].get(PREDICTIONS)
        if entry and (why := integrity.problem(folder / PREDICTIONS, entry)):
            yield Finding(verify(evaluation).folder, DAMAGED, f"{why}, unlike that of its artifact")


def show_findings(
    found: Iterable[Finding], mend: Callable[[Iterable[epath.Path]], str] | None = None
) -> None:
    """Prints what was found, artifact by artifact.

    Args:
      found: the findings.
      mend: gives the command that makes artifacts anew; None if it is not known.

    Raises:
      DamagedError: something is damaged; names every damaged file and what mends it.
    """
    findings = list(found)
    table = rich.table.Table(title="Verified")
    for column in ("artifact", "state", "what"):
        table.add_column(column, overflow="fold")
    for one in findings:
        table.add_row(*map(rich.text.Text, (one.name, one.state, one.what)))
    command_line.show(table)
    if unknown := sum(one.state == UNKNOWN for one in findings):
        command_line.show(
            f"{unknown} of {len(findings)} artifacts carry no hashes: an earlier version wrote "
            "them, and whether they are damaged can't be told."
        )
    if damaged := [one for one in findings if one.state == DAMAGED]:
        what = "; ".join(one.what for one in damaged) + "."
        folders = [one.folder for one in damaged]
        raise DamagedError(what, folders[0], mend(folders) if mend else "")


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS, positional="DIR…")


if __name__ == "__main__":
    run()
