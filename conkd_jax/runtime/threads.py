"""What the last bits of results depend on: the device, and the CPU threads that XLA plans for.

XLA's compiler for CPUs splits loops into as many parts as the process has threads when JAX starts.
Sums over parts are rounded in another order, so a run on one core and a run on two differ, by about
1e-7 after a step and 1e-5 after some hundred. The parts are compiled in: what runs a program later
changes nothing. GPUs and TPUs don't depend on the threads of their host. docs/design/0014 has the
experiments.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from typing import TypedDict

import jax
import jax.extend.backend
from jax._src import cache_key  # its hook has no public name

PIN = "NPROC"  # what XLA reads for its number of threads, when JAX starts
SPLITTING = "cpu-parallel-task-assigner"  # the pass of XLA's compiler that splits loops


class Numerics(TypedDict):
    """What a result was computed on, as far as it decides about the last bits.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      device_kind: the product's name.
      threads: CPU threads that XLA plans for.
    """

    platform: str
    device_kind: str
    threads: int


def num_threads(environ: Mapping[str, str] = os.environ) -> int:
    """Number of CPU threads that XLA's compiler plans for in this process.

    That is the number of cores that the process may use, or NPROC if that is less. It is 1 if the
    pass that splits loops is switched off.

    >>> num_threads({"XLA_FLAGS": "--xla_disable_hlo_passes=cpu-parallel-task-assigner"})
    1
    """
    if SPLITTING in environ.get("XLA_FLAGS", ""):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wanted = environ.get(PIN, "")
    return min(int(wanted), cores or 1) if wanted.isdecimal() and int(wanted) else cores or 1


def numerics() -> Numerics:
    """Those of this process; starts JAX's devices if nothing has yet."""
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device_kind": device.device_kind,
        "threads": num_threads(),
    }


def difference(before: Numerics, now: Numerics) -> str:
    """Says what differs between two processes that both worked on one result; "" if nothing does.

    >>> difference(Numerics(platform="cpu", device_kind="cpu", threads=2),
    ...            Numerics(platform="cpu", device_kind="cpu", threads=1))[:37]
    '2 CPU threads before, 1 now: the last'
    """
    told = f"the last bits of the result may differ from those of an uninterrupted run ({_ADVICE})"
    kinds = [f"{each['platform']} ({each['device_kind']})" for each in (before, now)]
    if kinds[0] != kinds[1]:
        return f"on {kinds[0]} before, on {kinds[1]} now: {told}"
    if now["platform"] == "cpu" and before["threads"] != now["threads"]:
        unit = "CPU threads" if before["threads"] > 1 else "CPU thread"
        return f"{before['threads']} {unit} before, {now['threads']} now: {told}"
    return ""


_ADVICE = "docs/howto/long_runs.md"


def pin(wanted: Numerics, environ: MutableMapping[str, str] = os.environ) -> bool:
    """Makes XLA plan for fewer threads than it would, as an earlier process did.

    It must be called before anything is compiled whose bits matter, and arrays that exist are lost:
    JAX's devices start anew. More threads than there are cores can't be had.

    Args:
      wanted: what the earlier process computed on.
      environ: this process's environment; gets NPROC unless it says something else already.

    Returns:
      Whether the number of threads was changed.
    """
    is_alone = not jax.distributed.is_initialized()
    can_be_pinned = wanted["platform"] == "cpu" and is_alone and PIN not in environ
    if not can_be_pinned or wanted["threads"] >= num_threads(environ):
        return False
    environ[PIN] = str(wanted["threads"])
    jax.extend.backend.clear_backends()
    return True


def _key_of_compiled_programs() -> str:
    """What distinguishes programs in a compilation cache, beside what JAX looks at itself.

    A cache would otherwise give a program that was compiled for one number of threads to a process
    with another one, and results would depend on who compiled first.
    """
    return f"{num_threads()} CPU threads" if jax.default_backend() == "cpu" else ""


cache_key.custom_hook = _key_of_compiled_programs
