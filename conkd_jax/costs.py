"""Collects what finished runs cost: time, memory and disk of every stage, from their manifests.

    python -m conkd_jax.costs RUN… --json=docs/results/costs.json
    python -m conkd_jax.costs --page

A run is a folder written by conkd_jax.train, whose artifacts still exist. Stages that several runs
share count in each of them, since each would have needed them alone. --json writes the numbers, to
be committed; runs that the file already has are replaced and others kept, so that runs of several
machines can be collected one after the other. --page rewrites the tables of docs/costs.md from that
file and from the memory of train steps in docs/results/memory/.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from etils import epath

from conkd_jax.artifacts.manifest import read_manifest
from conkd_jax.artifacts.stage import Stage, in_order
from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.errors import UserError
from conkd_jax.eval.tables.costs import RUNS, costs_page, costs_summary
from conkd_jax.eval.tables.documents import portable_command, write_document
from conkd_jax.io.files import parse_json, write_whole
from conkd_jax.runs.finished import Run, RunError

CHECKOUT = Path(__file__).resolve().parents[1]
JSON, MEMORY, PAGE = "docs/results/costs.json", "docs/results/memory", "docs/costs.md"
LINKS = "artifacts"  # in the folder of a run: links to the artifacts, which count as stages

OPTIONS = flags.FlagValues()
_JSON = flags.DEFINE_string(
    "json", "", "Also write the numbers into this file, to be committed.", flag_values=OPTIONS
)
_PAGE = flags.DEFINE_bool(
    "page", False, f"Rewrite the tables of {PAGE} from {JSON} and {MEMORY}.", flag_values=OPTIONS
)


def main(argv: list[str]) -> None:
    """Collects the costs of runs, or rewrites the page."""
    runs = argv[1:]
    if _PAGE.value == bool(runs) or (_PAGE.value and _JSON.value):
        raise UsageError("expected runs, folders written by conkd_jax.train, or --page alone.")
    if _PAGE.value:
        write_whole(CHECKOUT / PAGE, page_of(CHECKOUT))
        return
    found = [costs_of_run(Run.open(folder)) for folder in runs]
    if _JSON.value:
        earlier = _earlier(epath.Path(_JSON.value))
        kept = {_key(each): each for each in (*earlier, *found)}
        command = portable_command(" ".join(sys.argv))
        write_document(_JSON.value, {"command": command, RUNS: [kept[key] for key in sorted(kept)]})
    command_line.show(costs_summary(found))


def page_of(checkout: Path) -> str:
    """The text of `PAGE` with tables of the committed numbers.

    Args:
      checkout: the root of the checkout.
    """
    runs = parse_json((checkout / JSON).read_text(encoding="utf-8"))[RUNS]
    files = sorted((checkout / MEMORY).glob("*.json"))
    steps = [parse_json(file.read_text(encoding="utf-8")) for file in files]
    return costs_page((checkout / PAGE).read_text(encoding="utf-8"), runs, steps)


def costs_of_run(run: Run) -> dict[str, Any]:
    """What a run cost, as plain JSON: each of its stages, and the folder of its results.

    Raises:
      RunError: an artifact of the run is missing or unfinished.
    """
    stages, machines = [], set()
    for stage in in_order(run.stages["evaluation"]):
        manifest = read_manifest(stage, run.config.artifacts_dir)
        if manifest is None:
            raise RunError(
                f"{run.home}: expected the finished {stage.name} of the run in "
                f"{run.config.artifacts_dir}, found none. Its costs are in its manifest only."
            )
        stages.append(_costs_of_stage(stage, manifest, run))
        machine = manifest["machine"]
        machines.add((machine["devices"], machine["num_cpus"], machine["num_processes"]))
    return {
        "run": run.label,
        "preset": run.config.preset,
        "seed": run.config.seed,
        "teacher_seed": run.config.teacher_seed,
        "machine": [
            {"devices": devices, "cpus": cpus, "processes": processes}
            for devices, cpus, processes in sorted(machines)
        ],
        "stages": stages,
        "results_bytes": _bytes_below(run.home, without=(LINKS,)),
    }


def _costs_of_stage(stage: Stage, manifest: dict[str, Any], run: Run) -> dict[str, Any]:
    return {
        "stage": stage.name,
        "fingerprint": stage.fingerprint,
        "seconds": manifest["wall_seconds"],
        "compile_seconds": manifest.get("compile_seconds"),  # earlier versions did not measure it
        "tries": manifest["tries"],
        "peak_memory_bytes": manifest.get("costs", {}).get("memory"),  # the same
        "bytes": _bytes_below(stage.directory(run.config.artifacts_dir)),
    }


def _bytes_below(folder: epath.Path, without: Sequence[str] = ()) -> int:
    total = 0
    for path in folder.iterdir():
        if path.name not in without:
            total += _bytes_below(path, without) if path.is_dir() else path.stat().length
    return total


def _key(run: dict[str, Any]) -> tuple:
    return (run["preset"], run["run"], run["seed"], run["teacher_seed"], str(run["machine"]))


def _earlier(path: epath.Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        return parse_json(path.read_text())[RUNS]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"--json={path}: expected a file of this program, or none: {error}"
        ) from error


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS, positional="RUN…")


if __name__ == "__main__":
    run()
