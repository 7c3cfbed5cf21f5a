"""How contenders for the same work are measured: in turns, checked, and alone where memory counts.

A time says little on a machine that does other things as well. So contenders take turns, A B A B …,
in one process on the same processors, and whatever slows one of them down slows down the others
too: read ratios, not times. The first call of each compiles and warms up. It is not timed, but its
outputs have to be those of the first contender for the same work, since times of different work
can't be compared.

Memory is measured in a new process for each contender, during its second call: the peak of the
resident memory above what is resident with the inputs. What a compiler needed is not a kernel's
memory. Beside it stands what XLA has planned, which does not depend on an allocator.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from conkd_jax.runtime.allocator import return_freed_memory

TOLERANCE = 1e-4  # of outputs, relative to the largest number in them
PAUSE = 0.25  # seconds between two contenders: threads that wait actively for work give up
CHECKOUT = Path(__file__).resolve().parents[1]

Run = Callable[[], Any]
Measured = dict[str, dict[str, Any]]  # by contender


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to do a piece of work.

    Attributes:
      name: as in tables.
      prepare: makes the inputs and returns a function that does the work once and returns its
        outputs, any tree of arrays, when they are ready.
      package: the package that it needs, if that may be missing, by the name that pip knows.
      module: what that package is imported by; the package's name if not given.
      work: what it computes. Its outputs are compared with those of the first contender for that.
      is_compared: False where outputs can't be the same, because it rounds.
      outputs: makes the outputs to compare, where one call does not return them; called first.
      rounds: at most this many, for a contender that is much slower than the others.
    """

    name: str
    prepare: Callable[[], Run]
    package: str = ""
    module: str = ""
    work: str = ""
    is_compared: bool = True
    outputs: Callable[[], Any] | None = None
    rounds: int | None = None

    @property
    def absence(self) -> str:
        """Why the contender can't run here; "" if it can."""
        if self.package and not is_installed(self.module or self.package):
            return f"not installed: pip install {self.package}"
        return ""


def is_installed(module: str) -> bool:
    """Whether a module could be imported."""
    return importlib.util.find_spec(module) is not None


class Compiled:
    """A JAX function with its arguments, compiled before it is called for the first time.

    Attributes:
      planned_bytes: temporaries and outputs as XLA plans them, without the arguments.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        # As leaves, since a container may refuse what stands for an array while it is lowered.
        self._leaves, tree = jax.tree.flatten(arguments)
        flat = jax.jit(lambda *leaves: function(*tree.unflatten(leaves)))
        self._compiled = flat.lower(*self._leaves).compile()
        plan = self._compiled.memory_analysis()
        self.planned_bytes = (
            plan.temp_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
        )

    def __call__(self) -> Any:
        """Runs it, until the outputs are ready."""
        return jax.block_until_ready(self._compiled(*self._leaves))


# --- processors ------------------------------------------------------------------------------


def processors() -> list[int]:
    """The processors that this process, and so every contender, may use."""
    return sorted(os.sched_getaffinity(0))


def use_torch() -> Any:
    """Returns torch, set to the threads that XLA has: one for each of `processors`.

    Raises:
      SystemExit: it is not installed, and even the model to compare with can't be made.
    """
    try:
        import torch
    except ImportError as error:
        raise SystemExit("torch is not installed: pip install torch") from error
    torch.set_num_threads(len(processors()))
    return torch


# --- time ------------------------------------------------------------------------------------


def measure_time(
    contenders: Sequence[Contender], rounds: int, pause: float = PAUSE, tolerance: float = TOLERANCE
) -> Measured:
    """Times contenders in turns.

    Args:
      contenders: in the order of their turns.
      rounds: how often each is timed.
      pause: seconds of rest before each call.
      tolerance: the largest difference of outputs.

    Returns:
      For each contender, in order, {"seconds": {"median", "min", "rounds"}, "first_seconds",
      "difference"}: the first call may compile, and the difference is None where it is what others
      are compared with. {"absent": why} if it can't run.

    Raises:
      SystemExit: the outputs of a contender differ.
    """
    found: Measured = {}
    runs: dict[str, Run] = {}
    expected: dict[str, list[np.ndarray]] = {}
    for contender in contenders:
        if contender.absence:
            found[contender.name] = {"absent": contender.absence}
            continue
        run = runs[contender.name] = contender.prepare()
        outputs = None if contender.outputs is None else contender.outputs()
        began = time.perf_counter()
        returned = run()  # compiles and warms up
        first = time.perf_counter() - began
        outputs = returned if outputs is None else outputs
        outputs = [np.asarray(leaf).copy() for leaf in jax.tree.leaves(outputs)]
        error = None
        if contender.work not in expected:
            expected[contender.work] = outputs
        elif contender.is_compared:
            wanted = expected[contender.work]
            error = checked_difference(contender.name, outputs, wanted, tolerance)
        found[contender.name] = {"difference": error, "first_seconds": first}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    limits = {each.name: each.rounds or rounds for each in contenders}
    for number in range(rounds):
        for name, run in runs.items():
            if number < limits[name]:
                time.sleep(pause)
                began = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - began)
    for name, taken in seconds.items():
        found[name]["seconds"] = {
            "median": statistics.median(taken),
            "min": min(taken),
            "rounds": taken,
        }
    return found


def checked_difference(
    name: str, outputs: Sequence[Any], expected: Sequence[Any], tolerance: float = TOLERANCE
) -> float:
    """The largest difference between outputs, each relative to the largest number expected.

    Raises:
      SystemExit: it is not below the tolerance, or shapes differ.
    """
    shapes = [np.shape(each) for each in outputs], [np.shape(each) for each in expected]
    if shapes[0] != shapes[1]:
        raise SystemExit(f"{name}: expected outputs of shapes {shapes[1]}, got {shapes[0]}.")
    error = 0.0
    for place, (got, wanted) in enumerate(zip(outputs, expected, strict=True)):
        got, wanted = np.asarray(got), np.asarray(wanted)
        largest = np.max(np.abs(wanted), initial=np.finfo(np.float32).tiny)
        difference = float(np.max(np.abs(got - wanted), initial=0.0) / largest)
        if not difference < tolerance:
            raise SystemExit(
                f"{name}: expected output {place} within {tolerance:.0e} of the first contender's, "
                f"got a difference of {difference:.1e}. Times of different work can't be compared."
            )
        error = max(error, difference)
    return error


# --- memory ----------------------------------------------------------------------------------


def measure_memory(
    module: str, arguments: Sequence[str], contenders: Sequence[Contender]
) -> Measured:
    """Measures the peak of each contender in a process of its own.

    Args:
      module: a module of this package whose command line passes --alone on to `print_alone`.
      arguments: its command line, without --alone.
      contenders: what it knows by these names.

    Returns:
      What `peak_alone` says of each contender; {"absent": why} if it can't run.
    """
    found: Measured = {}
    for contender in contenders:
        if contender.absence:
            found[contender.name] = {"absent": contender.absence}
            continue
        command = [sys.executable, "-m", module, *arguments, f"--alone={contender.name}"]
        ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
        if ended.returncode:
            raise SystemExit(
                f"{contender.name}, alone in a process, ended with {ended.returncode}:\n"
                f"{ended.stderr[-2000:]}"
            )
        found[contender.name] = json.loads(ended.stdout.splitlines()[-1])
    return found


def print_alone(contenders: Sequence[Contender], name: str) -> None:
    """Prints what `peak_alone` says of one of the contenders, for the process that asked."""
    (chosen,) = (each for each in contenders if each.name == name)
    print(json.dumps(peak_alone(chosen.prepare())))


def peak_alone(run: Run) -> dict[str, int]:
    """The memory that one call needs beyond its inputs, in bytes; on Linux.

    Returns:
      "peak_bytes", outputs included; and "planned_bytes" of a `Compiled` function.
    """
    run()
    gc.collect()
    return_freed_memory()  # what the first call has left in the allocator
    reset_peak()
    before = resident_bytes("VmRSS")
    outputs = run()
    found = {"peak_bytes": max(resident_bytes("VmHWM") - before, 0)}
    del outputs
    if isinstance(run, Compiled):
        found["planned_bytes"] = run.planned_bytes
    return found


def reset_peak() -> None:
    """Forgets the peak of this process's resident memory so far; on Linux."""
    Path("/proc/self/clear_refs").write_text("5")


def resident_bytes(name: str) -> int:
    """The resident memory of this process, in bytes: "VmRSS" now, or "VmHWM", its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def joined(*parts: Mapping[str, Mapping[str, Any]]) -> Measured:
    """What several measurements found of the same contenders."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: {k: v for part in parts for k, v in part.get(name, {}).items()} for name in names}
