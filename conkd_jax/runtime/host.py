"""What a machine has, and what a scheduler says of it, before JAX is asked.

Everything here only reads the environment and the files of devices. This module does not depend on
JAX, nor on how the processes of a run find each other.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

GOOGLE = "0x1ae0"  # as a vendor of PCI devices
VISIBLE = "CUDA_VISIBLE_DEVICES"
CHOSEN = "JAX_LOCAL_DEVICE_IDS"


class Scheduler(NamedTuple):
    """The variables in which a scheduler tells a task its place in a step.

    Attributes:
      num_tasks: number of tasks of the step.
      index: index of this one.
      tasks_on_host: number of tasks on this host.
      local_index: index of this task among them.
      name: name of the scheduler.
    """

    num_tasks: str
    index: str
    tasks_on_host: str
    local_index: str
    name: str


# Inside a job of Slurm, mpirun starts its daemons as a step, one on each host, and its tasks
# inherit their variables. So Open MPI comes first, as in JAX.
SCHEDULERS = (
    Scheduler(
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "Open MPI",
    ),
    Scheduler(
        "SLURM_STEP_NUM_TASKS",
        "SLURM_PROCID",
        "SLURM_STEP_TASKS_PER_NODE",
        "SLURM_LOCALID",
        "Slurm",
    ),
)


def _place_on_host(environ: Mapping[str, str]) -> tuple[int, int] | None:
    """The scheduler's (number of tasks on this host, index of this one); None without one."""
    for scheduler in SCHEDULERS:
        # "2(x3),1": two tasks on each of three hosts, then one. Uneven steps are not told apart.
        counts = re.findall(r"(\d+)(?:\(x\d+\))?", environ.get(scheduler.tasks_on_host, ""))
        if counts and environ.get(scheduler.index):
            return max(map(int, counts)), int(environ.get(scheduler.local_index) or 0)
    return None


def tasks_on_host(environ: Mapping[str, str]) -> int | None:
    """Number of the scheduler's tasks on this host; None where no scheduler says it.

    >>> tasks_on_host({"SLURM_STEP_TASKS_PER_NODE": "4(x2)", "SLURM_PROCID": "0"})
    4
    """
    place = _place_on_host(environ)
    return None if place is None else place[0]


@dataclasses.dataclass(frozen=True)
class Host:
    """What a machine has.

    Attributes:
      num_gpus: NVIDIA GPUs.
      has_tpu: whether it has TPU chips.
    """

    num_gpus: int
    has_tpu: bool

    @classmethod
    def here(cls, root: Path = Path("/")) -> Host:
        """This machine, by the files of its devices.

        Args:
          root: the folder of `dev` and `sys`.
        """
        gpus = [path for path in root.glob("dev/nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
        # A chip is /dev/accelN, or the device of the group /dev/vfio/N on newer machines. Devices
        # of other makers can form such groups too, and /dev/vfio/vfio is on many machines.
        groups = [path.name for path in root.glob("dev/vfio/[0-9]*")]
        makers = [
            path.read_text().strip()
            for group in groups
            for path in root.glob(f"sys/kernel/iommu_groups/{group}/devices/*/vendor")
        ]
        return cls(len(gpus), GOOGLE in makers or any(root.glob("dev/accel[0-9]*")))

    def gpus(self, environ: Mapping[str, str]) -> tuple[int, str]:
        """How many GPUs the processes of a run should use here, and who says so.

        >>> Host(8, False).gpus({"SLURM_GPUS_ON_NODE": "4"})
        (4, 'the job has')
        """
        promised = environ.get("SLURM_GPUS_ON_NODE", "")
        if promised.isdecimal():
            return int(promised), "the job has"
        return self.num_gpus, "this machine has"


def own_gpus(environ: Mapping[str, str], host: Host) -> list[int] | None:
    """The GPUs of this process, as `jax.distributed.initialize` takes them.

    With several tasks on a host each gets one, that of its index there, as is JAX's custom. A task
    that is alone on its host gets all. So does one to which CUDA_VISIBLE_DEVICES shows only a part
    of the host's GPUs, because these are its own. If there are fewer GPUs than tasks, each task
    gets all, and `cluster.doubts` says that they share.

    Args:
      environ: the environment; JAX_LOCAL_DEVICE_IDS has the last word.
      host: the machine.

    Returns:
      Indices among the GPUs that CUDA shows to this process; empty for all of them, and None where
      neither the user nor a scheduler says anything.

    Raises:
      ValueError: JAX_LOCAL_DEVICE_IDS is no list of numbers.
    """
    if chosen := environ.get(CHOSEN):
        numbers = [number.strip() for number in chosen.split(",")]
        if not all(number.isdecimal() for number in numbers):
            raise ValueError(f"{CHOSEN}: expected numbers with commas between them, got {chosen!r}")
        return [int(number) for number in numbers]
    place = _place_on_host(environ)
    if place is None:
        return None
    num_tasks, index = place
    num_gpus, _ = host.gpus(environ)
    if (visible := environ.get(VISIBLE)) is not None:
        shown = len([gpu for gpu in visible.split(",") if gpu.strip()])
        is_bound, num_gpus = shown < num_gpus, shown
        if is_bound or not shown:
            return []
    if num_tasks == 1 or 0 < num_gpus < num_tasks:
        return []
    return [index]
