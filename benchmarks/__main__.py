"""Runs all benchmarks, one after the other, and writes what they found.

    python -m benchmarks                    # into docs/results/benchmarks/, in half an hour
    python -m benchmarks --size=tiny --folder=FOLDER
    python -m benchmarks --page             # only rewrites docs/benchmarks.md from these files

Each runs in a process of its own. The exit status is 1 if contenders disagreed or a target was
missed in one of them, and the others run nevertheless. The machine should be idle: the first line
says how busy it was.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import page
from benchmarks.side_by_side import CHECKOUT, processors

PROGRAMS = ("kd_head", "teacher_store", "train_step", "decode", "rgcn", "input_pipeline", "scale")
TIMED_ONCE = ("scale",)  # so large that a call is not repeated
QUIET = 0.3  # load average of a machine that does nothing else


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="full", help="full or tiny")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender is timed")
    parser.add_argument("--folder", type=Path, default=CHECKOUT / page.RESULTS)
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, default=PROGRAMS)
    parser.add_argument("--page", action="store_true", help="only rewrite the page and its figures")
    options = parser.parse_args(argv)
    if options.page:
        page.write(CHECKOUT, PROGRAMS)
        return 0
    load = os.getloadavg()[0]
    busy = "" if load < QUIET else ": busy, so times say little"
    print(f"{len(processors())} processors, load average {load:.2f}{busy}", flush=True)
    ended = {name: run(name, arguments_of(name, options), options.folder) for name in options.only}
    failed = [name for name, status in ended.items() if status]
    if failed:
        print(f"failed or missed a target: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def arguments_of(name: str, options: argparse.Namespace) -> list[str]:
    """The command line of one benchmark, without its file."""
    rounds = [] if name in TIMED_ONCE else [f"--rounds={options.rounds}"]
    return [f"--size={options.size}", *rounds]


def run(name: str, arguments: Sequence[str], folder: Path) -> int:
    """Runs one benchmark; returns its exit status."""
    began = time.monotonic()
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    print(f"\n=== {name}", flush=True)
    status = subprocess.run([*command, f"--json={folder / name}.json"], cwd=CHECKOUT).returncode
    print(f"=== {name}: {time.monotonic() - began:.0f} s, exit status {status}", flush=True)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
