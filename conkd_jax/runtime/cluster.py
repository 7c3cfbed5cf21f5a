"""Which process of a run this is, and which devices it should have.

Everything here happens before the first computation, or only reads the environment. Nothing is
guessed: a setting that is half there, or a device that is missing, is told in words, because a run
on one GPU out of eight gives the same numbers, only much later.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jax
from jax._src import distributed  # its client of the coordination service has no public name
from jax._src.clusters import ClusterEnv  # what jax.distributed.initialize detects, likewise

from conkd_jax.errors import UserError
from conkd_jax.runtime import parallel, peers
from conkd_jax.runtime.coordinator_link import CoordinatorLink
from conkd_jax.runtime.host import CHOSEN, SCHEDULERS, VISIBLE, Host, own_gpus, tasks_on_host
from conkd_jax.runtime.peers import PeerWatch

COORDINATOR, NUM_PROCESSES, PROCESS_ID = (
    "CONKD_COORDINATOR",
    "CONKD_NUM_PROCESSES",
    "CONKD_PROCESS_ID",
)
AUTO, NONE = "auto", "none"


class _State:
    """What `join` leaves for `leave` and `fail`."""

    watch: PeerWatch | None = None


_STATE = _State()


class ProcessesError(UserError, ValueError):
    """The environment does not say which process of a run this is, or processes differ."""


@dataclasses.dataclass(frozen=True)
class Membership:
    """This process's place in a run.

    Attributes:
      coordinator: "host:port" of process 0; "auto" if JAX detects the cluster.
      num_processes: number of processes; 0 for "auto".
      process_id: index of this one.
    """

    coordinator: str
    num_processes: int = 0
    process_id: int = 0


def membership(environ: Mapping[str, str]) -> Membership | None:
    """Reads CONKD_COORDINATOR ("host:port"), CONKD_NUM_PROCESSES and CONKD_PROCESS_ID.

    Returns:
      None for a run of one process.

    Raises:
      ProcessesError: some are set and others are not, one makes no sense, or a scheduler has
        started several tasks and nothing says whether they are one run.
    """
    coordinator = environ.get(COORDINATOR, "")
    if coordinator == AUTO:
        return Membership(AUTO)
    if coordinator == NONE:
        return None
    if not coordinator:
        _expect_alone(environ)
        return None
    numbers = {name: environ.get(name, "") for name in (NUM_PROCESSES, PROCESS_ID)}
    if not all(number.isdecimal() for number in numbers.values()):
        got = ", ".join(f"{name}={value or '(not set)'}" for name, value in numbers.items())
        raise ProcessesError(
            f"{COORDINATOR} is {coordinator!r}: expected {NUM_PROCESSES} and {PROCESS_ID} to be "
            f"integers, got {got}. launch/local_processes.sh shows how to set them."
        )
    found = Membership(coordinator, *map(int, numbers.values()))
    if not re.fullmatch(r".+:\d+", coordinator):
        raise ProcessesError(
            f"{COORDINATOR}: expected HOST:PORT of process 0, {AUTO!r} or {NONE!r}, got "
            f"{coordinator!r}"
        )
    if found.process_id >= found.num_processes:
        raise ProcessesError(
            f"{PROCESS_ID}: expected an index from 0 to {NUM_PROCESSES} - 1 = "
            f"{found.num_processes - 1}, got {found.process_id}"
        )
    return found


def _expect_alone(environ: Mapping[str, str]) -> None:
    for name in (NUM_PROCESSES, PROCESS_ID):
        if environ.get(name):
            raise ProcessesError(
                f"{name} is {environ[name]}, but {COORDINATOR} is not set: expected HOST:PORT of "
                f"process 0, or {AUTO!r}. Without it every process would train a run of its own."
            )
    for scheduler in SCHEDULERS:
        num_tasks, index = environ.get(scheduler.num_tasks), environ.get(scheduler.index)
        if int(num_tasks or 1) > 1 and index:
            raise ProcessesError(
                f"this is task {index} of {num_tasks} of {scheduler.name}, but {COORDINATOR} is "
                f"not set. Set it to {AUTO!r} if the tasks are one run, or to {NONE!r} if each is "
                "a run of its own."
            )


def join(environ: Mapping[str, str] = os.environ) -> None:
    """Joins the processes of one run; must be called before any device is used.

    With several tasks on a host each gets one GPU; a task that is alone on its host gets all of
    them (`host.own_gpus`). JAX alone would give it one where it detects the place of a process, and
    all GPUs to every task where the place is told explicitly.

    If the others don't come within CONKD_MEET_WITHIN seconds, this ends the process with one line.

    Raises:
      ProcessesError: as of `membership`, nothing can be detected, or a variable makes no sense.
    """
    member = membership(environ)
    if member is None:
        return
    try:
        seconds, limit = peers.lost_after(environ), peers.meet_within(environ)
        gpus = own_gpus(environ, Host.here())
    except ValueError as error:
        raise ProcessesError(str(error)) from error
    try:
        place = _place(member, gpus, environ, limit)
        meeting_place = place["coordinator_address"]
        link = CoordinatorLink(meeting_place) if place["process_id"] else None
        if link is not None:
            place["coordinator_address"] = link.address
        with peers.deadline(limit, lambda: _not_met(place, meeting_place, limit, link)):
            # JAX aborts a process that has waited for the others too long, or takes one of them for
            # lost: late enough that it was told before.
            jax.distributed.initialize(
                **place,
                cluster_detection_method="deactivate",  # which would narrow the devices as well
                initialization_timeout=math.ceil(limit + 60),
                heartbeat_timeout_seconds=math.ceil(3 * seconds),
            )
    except (ValueError, RuntimeError) as error:
        raise ProcessesError(
            f"{COORDINATOR} is {AUTO!r}, but no cluster could be detected: {error}. Expected a TPU "
            "pod, a GKE slice, a step started by srun, or mpirun; otherwise set HOST:PORT."
            if member.coordinator == AUTO
            else f"the processes of the run did not meet at {member.coordinator}: {error}"
        ) from error
    if jax.process_count() > 1:
        client = distributed.global_state.client
        _STATE.watch = PeerWatch(client, jax.process_index(), jax.process_count(), seconds)
        _STATE.watch.start()
        if link is not None:
            link.on_loss = _STATE.watch.disconnected


def _place(
    member: Membership, gpus: list[int] | None, environ: Mapping[str, str], limit: float
) -> dict[str, Any]:
    """The place of this process and its devices, as `jax.distributed.initialize` takes them.

    Raises:
      ValueError: JAX detects no cluster.
    """
    if member.coordinator != AUTO:
        found = member.coordinator, member.num_processes, member.process_id, gpus
    else:
        # An empty list is not None, so JAX doesn't narrow the devices to the task's own number.
        found = ClusterEnv.auto_detect_unset_distributed_params(
            environ.get("JAX_COORDINATOR_ADDRESS"), None, None, gpus, None, math.ceil(limit)
        )
    names = ("coordinator_address", "num_processes", "process_id", "local_device_ids")
    place: dict[str, Any] = dict(zip(names, found, strict=True))
    if missing := [name for name in names[:3] if place[name] is None]:
        raise ValueError(f"{' and '.join(missing)} are not known")
    return place


def _not_met(
    place: Mapping[str, Any], meeting_place: str, limit: float, link: CoordinatorLink | None
) -> str:
    """What this process knows after it has waited for the others in vain."""
    if link is None:
        found = "process 0 has waited there, and others did not come"
    elif link.has_connected:
        found = f"process {place['process_id']} reached process 0, and others did not come"
    else:
        found = f"process {place['process_id']} could not connect to process 0"
    return (
        f"the {place['num_processes']} processes of the run did not meet at {meeting_place} within "
        f"{limit:.0f} seconds ({peers.MEET_WITHIN}): {found}. Were all of them started, with the "
        f"same address and number, on hosts that can reach it? {peers.AGAIN}"
    )


def leave() -> None:
    """Ends the run in this process: waits for the others to be done, and stops watching them."""
    if _STATE.watch is not None:
        parallel.barrier("the run is done")
        _STATE.watch.stop()


def end(code: int) -> NoReturn:
    """Ends the program after an error.

    With several processes it does not wait for JAX, which would wait for the others to end as well.
    """
    if _STATE.watch is None:
        raise SystemExit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    _STATE.watch.linger()
    os._exit(code)


def fail(error: BaseException) -> None:
    """Tells the other processes of the run, if there are any, that this one ends with an error.

    An error of a collective may be the first sign of a lost process. The watch is given the time to
    find that out; it then ends this process itself, and this function does not return.
    """
    if _STATE.watch is None:
        return
    if isinstance(error, SystemExit | KeyboardInterrupt):  # all stop, and save what they have
        _STATE.watch.stop()
        return
    if not isinstance(error, UserError):
        _STATE.watch.wait()
    _STATE.watch.fail(str(error).partition("\n")[0][:500] or type(error).__name__)


# --- devices -------------------------------------------------------------------------------------


def describe(platform: str, kind: str, counts: Sequence[int]) -> str:
    """The devices of a run in words.

    Args:
      platform: "cpu", "gpu" or "tpu".
      kind: the product's name.
      counts: devices of each process.

    >>> describe("gpu", "NVIDIA H100 80GB HBM3", [8, 8])
    '16 devices: 2 processes with 8 GPUs each (NVIDIA H100 80GB HBM3)'
    >>> describe("cpu", "cpu", [1])
    '1 CPU device'
    """
    name = platform.upper()
    if len(counts) == 1:
        unit = {"CPU": "CPU device", "TPU": "TPU device"}.get(name, name)
        text = f"{counts[0]} {unit}{'s' if counts[0] > 1 else ''}"
    else:
        plural = f"{name} devices" if name == "CPU" else f"{name}s"
        text = f"{sum(counts)} devices: {len(counts)} processes with {counts[0]} {plural} each"
    return text if name == "CPU" else f"{text} ({kind})"


def doubts(platform: str, num_local: int, host: Host, environ: Mapping[str, str]) -> list[str]:
    """What a user might not expect about the devices of this process, a sentence each.

    Args:
      platform: that JAX uses.
      num_local: devices of this process.
      host: the machine.
      environ: the environment.
    """
    found = []
    cuda = environ.get(VISIBLE)
    if platform == "cpu" and environ.get("JAX_PLATFORMS", "") != "cpu":
        if host.num_gpus and cuda not in ("", "-1", "NoDevFiles"):
            found.append(
                f"this machine has {host.num_gpus} NVIDIA GPU(s), but JAX uses the CPU: install "
                "the extra [cuda], or set JAX_PLATFORMS=cpu if that is meant"
            )
        if host.has_tpu:
            found.append(
                "this machine has a TPU, but JAX uses the CPU: install the extra [tpu], or end "
                "the program that holds the TPU"
            )
    if platform != "gpu":
        return found
    tasks = tasks_on_host(environ) or 1
    expected, source = host.gpus(environ)
    by = f" ({VISIBLE}={cuda})" if cuda is not None else ""
    use = f"{source} {expected} GPU(s); {tasks} process(es) here use {num_local} each{by}"
    if num_local * tasks < expected:
        found.append(use)
    if tasks > 1 and num_local * tasks > expected:
        found.append(
            f"{use}, so that several share a GPU: start one task for each GPU or host, or give "
            f"each task its own, with {CHOSEN} or srun's --gpus-per-task"
        )
    return found


def expect_equal(counts: Sequence[int]) -> None:
    """Refuses processes with different numbers of devices.

    Raises:
      ProcessesError: they differ.
    """
    if len(set(counts)) > 1:
        each = ", ".join(f"process {index}: {count}" for index, count in enumerate(counts))
        raise ProcessesError(
            f"expected the same number of devices in every process, got {each}. "
            "CUDA_VISIBLE_DEVICES or the scheduler's options give each process its devices."
        )


def devices_in_words(environ: Mapping[str, str] = os.environ) -> tuple[str, list[str]]:
    """The devices of this run, and what a user might not expect about them.

    Raises:
      ProcessesError: as of `expect_equal`.
    """
    local = jax.local_devices()
    owners = collections.Counter(device.process_index for device in jax.devices())
    counts = [owners[index] for index in range(jax.process_count())]
    expect_equal(counts)
    platform = local[0].platform
    words = describe(platform, local[0].device_kind, counts)
    return words, doubts(platform, len(local), Host.here(), environ)
