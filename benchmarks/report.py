"""What a benchmark has found: tables for a reader, targets that are met or missed, and a JSON file.

A target is a number that this project wants to reach, mostly a ratio to a peer. A program that
misses one says which and ends with 1.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks.side_by_side import PAUSE, Measured, processors
from conkd_jax.eval.tables.documents import portable_command, write_document

PACKAGES = (
    *("jax", "flax", "numpy", "torch", "transformers", "torch-geometric"),
    *("ctranslate2", "liger-kernel"),
)
TOKEN = "seconds_per_token"
TITLES = {
    "seconds": "time",
    TOKEN: "time a token",
    "peak_bytes": "peak memory",
    "planned_bytes": "XLA's memory",
}


class Bound(NamedTuple):
    """What a number has to reach.

    Attributes:
      limit: the target.
      is_least: whether the number has to be at least the limit; at most, otherwise.
      stretch: what would be better still.
    """

    limit: float
    is_least: bool = False
    stretch: float | None = None

    def is_met(self, value: float) -> bool:
        """Whether a number reaches the limit."""
        return value >= self.limit if self.is_least else value <= self.limit

    def __str__(self) -> str:
        """In words.

        >>> str(Bound(0.6, stretch=0.4)), str(Bound(70, is_least=True))
        ('at most 0.6', 'at least 70')
        """
        return f"at {'least' if self.is_least else 'most'} {self.limit:g}"


class Case:
    """One size at which contenders were measured.

    Attributes:
      document: what the JSON file says about it.
    """

    def __init__(self, name: str, facts: Mapping[str, Any], contenders: Measured):
        self.document: dict[str, Any] = {
            "case": name,
            "facts": dict(facts),
            "contenders": contenders,
            "ratios": [],
            "numbers": [],
        }

    def ratio(self, measure: str, of: str, over: str, bound: Bound | None = None) -> float | None:
        """Adds a ratio of two contenders.

        Args:
          measure: one of `TITLES`.
          of: the contender above the line.
          over: the one below.
          bound: the target.

        Returns:
          The ratio: of several times, that of the smallest. None if one of the two is absent.
        """
        found = self.document["contenders"]
        entry: dict[str, Any] = {"measure": measure, "of": of, "over": over}
        absent = [
            f"{name} is {found[name]['absent']}" for name in (of, over) if "absent" in found[name]
        ]
        if absent:
            entry["absent"] = "; ".join(absent)
        elif isinstance(found[of][measure], dict):
            above, below = found[of][measure], found[over][measure]
            entry["value"] = above["min"] / below["min"]
            entry["of_medians"] = above["median"] / below["median"]
        else:
            entry["value"] = found[of][measure] / max(found[over][measure], 1)
        self.document["ratios"].append(_judged(entry, bound))
        return entry.get("value")

    def number(
        self, name: str, value: float | None, bound: Bound | None = None, absent: str = ""
    ) -> None:
        """Adds a number of its own; None with the reason why it could not be measured."""
        entry: dict[str, Any] = {"name": name}
        entry |= {"absent": absent} if value is None else {"value": float(value)}
        self.document["numbers"].append(_judged(entry, bound))


def _judged(entry: dict[str, Any], bound: Bound | None) -> dict[str, Any]:
    if bound is not None:
        entry["bound"] = bound._asdict()
        if "value" in entry:
            entry["is_met"] = bound.is_met(entry["value"])
    return entry


class Report:
    """What one program has measured.

    Args:
      program: the module's name in this package.
      options: its command line.
    """

    def __init__(self, program: str, options: argparse.Namespace):
        self._program, self._options = program, options
        self._cases: list[Case] = []
        self._machine = machine()

    def case(self, name: str, facts: Mapping[str, Any], contenders: Measured) -> Case:
        """Adds a case, to which ratios and numbers are added."""
        self._cases.append(Case(name, facts, contenders))
        return self._cases[-1]

    def document(self) -> dict[str, Any]:
        """All of it, as plain JSON."""
        arguments = [a for a in self._options.arguments if not a.startswith("--json")]
        json = [f"--json=docs/results/benchmarks/{self._program}.json"] * bool(self._options.json)
        command = " ".join(["python", "-m", f"benchmarks.{self._program}", *arguments, *json])
        return {
            "command": portable_command(command),
            "machine": self._machine | {"load_after": round(os.getloadavg()[0], 2)},
            "versions": versions(),
            "rounds": self._options.rounds,
            "cases": [case.document for case in self._cases],
        }

    def finish(self) -> int:
        """Prints the cases, writes the file of --json, and returns the exit status."""
        document = self.document()
        print("\n\n".join(case_lines(each) for each in document["cases"]))
        if self._options.json:
            write_document(self._options.json, document)
        missed = list(missed_targets(document))
        for line in missed:
            print(f"MISSED  {self._program}: {line}", file=sys.stderr)
        return 1 if missed else 0


# --- the command line ------------------------------------------------------------------------


def read_options(
    documentation: str | None, sizes: Collection[str], argv: Sequence[str] | None, rounds: int = 5
) -> argparse.Namespace:
    """Reads the command line that all benchmarks have in common.

    Args:
      documentation: the module's docstring.
      sizes: names of sizes; the first one is that of the targets.
      argv: the arguments; None for those of this process.
      rounds: how often each contender is timed, unless --rounds says so.

    Returns:
      size, rounds, pause, json, alone and case; and `arguments`, all of it as it was given.
    """
    parser = argparse.ArgumentParser(
        description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=sizes, default=next(iter(sizes)))
    parser.add_argument("--rounds", type=int, default=rounds, help="how often each is timed")
    parser.add_argument("--pause", type=float, default=PAUSE, help="seconds before each call")
    parser.add_argument("--json", type=Path, help="write the results into this file")
    # To measure the memory of one contender, at one of several cases, in a process of its own.
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    given = list(sys.argv[1:] if argv is None else argv)
    options = parser.parse_args(given)
    options.arguments = given
    return options


# --- the machine -----------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What the program runs on, and how busy that was before."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": models[0] if models else platform.machine(),
        "processors_used": len(processors()),
        "processors": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "platform": jax.default_backend(),
        "load_before": round(os.getloadavg()[0], 2),
        "date": datetime.date.today().isoformat(),
    }


def versions() -> dict[str, str]:
    """The versions of what was compared, as far as it is installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


# --- words -----------------------------------------------------------------------------------


def case_lines(case: Mapping[str, Any]) -> str:
    """A case as it is printed: a table of contenders, then its ratios and numbers."""
    facts = ", ".join(f"{name} {value}" for name, value in case["facts"].items())
    lines = [case["case"] + (f" ({facts})" if facts else "")]
    if case["contenders"]:
        titles = ("median ms", "min ms", "ms/token", "peak MiB", "XLA MiB", "difference")
        lines.append(f"  {'':46s}" + "".join(f"{title:>12s}" for title in titles))
    for name, found in case["contenders"].items():
        lines.append(
            f"  {name:46s}" + (_cells(found) if "absent" not in found else found["absent"])
        )
    for entry in (*case["ratios"], *case["numbers"]):
        lines.append(f"  {entry_name(entry)}: {entry_value(entry)}")
    return "\n".join(lines)


def _cells(found: Mapping[str, Any]) -> str:
    cells = ["", ""]
    if "seconds" in found:
        cells = [f"{1e3 * found['seconds'][which]:.2f}" for which in ("median", "min")]
    cells.append(f"{1e3 * found[TOKEN]['min']:.3f}" if TOKEN in found else "")
    for measure in ("peak_bytes", "planned_bytes"):
        cells.append(f"{found[measure] / 2**20:.0f}" if measure in found else "")
    difference = found.get("difference")
    cells.append("" if difference is None else f"{difference:.0e}")
    return "".join(f"{cell:>12s}" for cell in cells)


def entry_name(entry: Mapping[str, Any]) -> str:
    """What a ratio or a number is of."""
    if "name" in entry:
        return entry["name"]
    return f"{TITLES.get(entry['measure'], entry['measure'])}, {entry['of']} / {entry['over']}"


def entry_value(entry: Mapping[str, Any]) -> str:
    """Its value and its target, or why there is none."""
    if "value" not in entry:
        return f"not measured, {entry['absent']}"
    words = f"{entry['value']:.4g}"
    if "of_medians" in entry:
        words += f" (of medians {entry['of_medians']:.4g})"
    if "bound" in entry:
        words += f"; target {Bound(**entry['bound'])}, {'met' if entry['is_met'] else 'MISSED'}"
    return words


def missed_targets(document: Mapping[str, Any]) -> list[str]:
    """One line for each target that a document misses."""
    return [
        f"{case['case']}: {entry_name(entry)}: {entry_value(entry)}"
        for case in document["cases"]
        for entry in (*case["ratios"], *case["numbers"])
        if entry.get("is_met") is False
    ]
