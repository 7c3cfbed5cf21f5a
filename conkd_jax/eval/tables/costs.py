"""Tables of what runs cost, made from the numbers that `conkd_jax.costs` collects."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import rich.box
import rich.table

from conkd_jax.eval.tables import at_scale
from conkd_jax.eval.tables.table import ABSENT, TableError

RUNS = "runs"
BEGIN, END = "<!-- costs -->", "<!-- /costs -->"
MEGABYTE, GIGABYTE = 10**6, 10**9
# Columns of the table of runs, and the stages that each adds up.
COLUMNS = {
    "data": ("corpus", "vocabulary", "questionnaires"),
    "recommender": ("rec_teacher", "sentiment", "autorec"),
    "language model": ("dialogue_teacher",),
    "teacher outputs": ("teacher_outputs",),
    "student": ("student",),
    "turn classifier": ("turn_classifier",),
    "evaluation": ("evaluation",),
}
Costs = Mapping[str, Any]


def costs_page(text: str, runs: Sequence[Costs], steps: Sequence[Costs]) -> str:
    """Returns a page with new tables between its markers.

    Args:
      text: the page as it is, Markdown.
      runs: what `conkd_jax.costs` collected.
      steps: what `conkd_jax.memory` wrote for several train steps.

    Raises:
      TableError: the page has not exactly one place for the tables.
    """
    parts = re.split(f"({BEGIN}|{END})", text)
    if parts[1::2] != [BEGIN, END]:
        raise TableError(f"expected one '{BEGIN}' and, after it, one '{END}' in the page of costs.")
    tables = [
        "**Time of each run, in minutes.**",
        _grid(["run", "machine", *COLUMNS, "total"], [_times(run) for run in _in_order(runs)]),
        "**Disk and memory of each run.**",
        _grid(
            ["run", "artifacts (MB)", "largest", "results (MB)", "peak memory (GB)"],
            [_sizes(run) for run in _in_order(runs)],
        ),
        "**Each stage, over all different artifacts of these runs.**",
        _grid(
            ["stage", "preset", "artifacts", "minutes", "compiling (s)", "disk (MB)"],
            list(_stages(runs)),
        ),
        "**Device memory of one train step of a student, as the compiler plans it, in GB.**",
        _grid(
            [
                "config, backbone",
                "parameters (M)",
                "compiled for",
                "batch",
                "arithmetic",
                "arrays",
                "total",
            ],
            [row for step in steps for row in _steps(step)],
        ),
        "**A plan for larger machines, per train step of a student in bfloat16. Not measured.**",
        _grid(at_scale.HEADER, list(at_scale.at_scale_rows(steps))),
    ]
    parts[2] = "\n" + "\n\n".join(tables) + "\n"
    return "".join(parts)


def costs_summary(runs: Sequence[Costs]) -> rich.table.Table:
    """The times and the disk of runs, for a terminal."""
    table = rich.table.Table(title="Minutes, and MB of artifacts", box=rich.box.SIMPLE_HEAD)
    table.add_column("run", no_wrap=True)
    for name in ("machine", *COLUMNS, "total", "MB"):
        table.add_column(name, justify="right")
    for run in _in_order(runs):
        table.add_row(*_times(run), _sizes(run)[1])
    return table


def _in_order(runs: Sequence[Costs]) -> list[Costs]:
    presets = ("demo", "mini", "small", "paper")
    return sorted(runs, key=lambda run: (presets.index(run["preset"]), run["run"], run["seed"]))


def _name(run: Costs) -> str:
    seeds = f", seed {run['seed']}" if run["seed"] or run["teacher_seed"] else ""
    return f"`{run['run']}:{run['preset']}`{seeds}"


def _machine(machine: Costs) -> str:
    """Devices and cores.

    >>> _machine({"devices": "1 x cpu", "cpus": 2, "processes": 1})
    '2 CPU cores'
    >>> _machine({"devices": "1 x NVIDIA H200", "cpus": 16, "processes": 2})
    '1 x NVIDIA H200, 2 processes'
    """
    is_cpu = machine["devices"].endswith(" x cpu")
    words = f"{machine['cpus']} CPU cores" if is_cpu else machine["devices"]
    return words + (f", {machine['processes']} processes" if machine["processes"] > 1 else "")


def _seconds(run: Costs, stages: Iterable[str]) -> float:
    return sum((each["seconds"] for each in run["stages"] if each["stage"] in stages), 0.0)


def _times(run: Costs) -> list[str]:
    machines = "; ".join(map(_machine, run["machine"]))
    of_columns = [_seconds(run, stages) / 60 for stages in COLUMNS.values()]
    total = sum((each["seconds"] for each in run["stages"]), 0.0) / 60
    return [_name(run), machines, *(_minutes(value) for value in of_columns), _minutes(total)]


def _minutes(value: float) -> str:
    """Minutes with one digit below ten.

    >>> _minutes(0.0), _minutes(0.04), _minutes(2.345), _minutes(71.6)
    ('–', '< 0.1', '2.3', '72')
    """
    if not value:
        return ABSENT
    return "< 0.1" if value < 0.05 else f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def _sizes(run: Costs) -> list[str]:
    total = sum(each["bytes"] for each in run["stages"])
    largest = max(run["stages"], key=lambda each: each["bytes"])
    peaks = [each["peak_memory_bytes"] for each in run["stages"] if each["peak_memory_bytes"]]
    return [
        _name(run),
        f"{total / MEGABYTE:.0f}",
        f"`{largest['stage']}`, {largest['bytes'] / MEGABYTE:.0f}",
        f"{run['results_bytes'] / MEGABYTE:.1f}",
        f"{max(peaks) / GIGABYTE:.1f}" if peaks else ABSENT,
    ]


def _stages(runs: Sequence[Costs]) -> Iterable[list[str]]:
    for preset in dict.fromkeys(run["preset"] for run in _in_order(runs)):
        different: dict[str, dict[str, Costs]] = {}
        for run in runs:
            for each in run["stages"] if run["preset"] == preset else ():
                different.setdefault(each["stage"], {})[each["fingerprint"]] = each
        for name, artifacts in sorted(different.items(), key=lambda item: _place(item[0])):
            found = list(artifacts.values())
            compiling = [e["compile_seconds"] for e in found if e["compile_seconds"] is not None]
            yield [
                f"`{name}`",
                preset,
                str(len(found)),
                _spread([each["seconds"] / 60 for each in found], _minutes),
                _spread(compiling, "{:.0f}".format),
                _spread([each["bytes"] / MEGABYTE for each in found], "{:.1f}".format),
            ]


def _place(stage: str) -> int:
    order = [name for names in COLUMNS.values() for name in names]
    return order.index(stage) if stage in order else len(order)


def _spread(values: Sequence[float], written) -> str:
    """The smallest and the largest value, or the only one.

    >>> _spread([1.0, 3.0, 2.0], "{:.0f}".format), _spread([2.0], "{:.0f}".format)
    ('1 to 3', '2')
    """
    if not values:
        return ABSENT
    low, high = written(min(values)), written(max(values))
    return low if low == high else f"{low} to {high}"


def _steps(step: Costs) -> Iterable[list[str]]:
    batch = step["micro_batch"]
    rows = "1 row" if batch["rows"] == 1 else f"{batch['rows']} rows"
    shown = f"{rows} of {batch['row_tokens']} tokens"
    topology = step.get("topology", "")  # of a TPU: "v5e:1x1x1"
    compiled_for = f"TPU {topology.partition(':')[0]}" if topology else step["compiled_for"]
    if step.get("devices", 1) > 1:
        compiled_for = f"each of {step['devices']} × {compiled_for}, {step.get('kind', 'pmap')}"
    trained = step.get("trained", step["parameters"])
    parameters = f"{step['parameters'] / 1e6:.0f}"
    if trained != step["parameters"]:
        parameters += f", {trained / 1e6:.1f} trained"
    for arithmetic, needed in step["bytes_per_device"].items():
        yield [
            f"`{step['config']}`, {step['backbone']}",
            parameters,
            compiled_for,
            shown,
            arithmetic,
            f"{needed['arguments'] / GIGABYTE:.2f}",
            f"{needed['total'] / GIGABYTE:.2f}",
        ]


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    marks = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, marks, *rows))
