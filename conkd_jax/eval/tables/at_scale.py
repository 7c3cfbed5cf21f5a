"""A plan of train steps on machines that were not at hand, from counted work and published speeds.

Nothing here was measured. `conkd_jax.memory` counts the matrix products of one device in one step,
and the compiler says how many bytes the step moves; the rest is division by what the makers publish
of their machines. A step has three parts:

    arithmetic: all matrix products / peak of bfloat16
    memory: bytes that the compiled program reads and writes / bandwidth of the memory
    sum: 2 (n - 1) / n · 4 bytes of each trained parameter / bandwidth of the links, one way

for n devices that sum float32 gradients in a ring. Arithmetic and memory overlap; the sum may not.
So the plan is max(arithmetic, memory) + sum, and MFU = FLOPs of the model / (seconds · peak)
follows. The bytes are the compiler's estimate for one chip: an array that stays on the chip between
two operations counts as if it did not, and the body of a loop counts once. Real steps are slower
than such a plan, so a range of MFU is assumed as well, and the expected step takes the longer time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

VARIANT = "bfloat16"
HEADER = (
    "config",
    "machine",
    "model TFLOP",
    "all TFLOP",
    "arithmetic (ms)",
    "memory (ms)",
    "sum (ms)",
    "MFU by these",
    "MFU assumed",
    "ms expected",
    "tokens/s expected",
)


@dataclasses.dataclass(frozen=True)
class Machine:
    """Devices of one kind, and what their makers publish of them.

    Attributes:
      name: as in tables.
      devices: how many there are.
      peak: dense bfloat16 products of one device, FLOP/s.
      memory: bandwidth of its memory, bytes/s.
      link: bandwidth of its links to others, one way, bytes/s.
      assumed: the MFU that a training of about 100 M parameters is assumed to reach, from and to.
    """

    name: str
    devices: int
    peak: float
    memory: float
    link: float
    assumed: tuple[float, float]


MACHINES = (
    Machine("TPU v4-8 (4 chips)", 4, 275e12, 1.23e12, 150e9, (0.25, 0.35)),
    Machine("TPU v5e-16", 16, 197e12, 0.82e12, 200e9, (0.20, 0.30)),
    Machine("8 × H100 SXM", 8, 989e12, 3.35e12, 450e9, (0.30, 0.40)),
)


@dataclasses.dataclass(frozen=True)
class PlannedTimes:
    """The parts of a step on a machine, in seconds; see the top of this module."""

    arithmetic: float
    memory: float
    sum: float

    @property
    def total(self) -> float:
        """The whole step."""
        return max(self.arithmetic, self.memory) + self.sum


def planned_times(step: Mapping[str, Any], machine: Machine) -> PlannedTimes:
    """The parts of a step on a machine.

    Args:
      step: what `conkd_jax.memory` wrote for one device.
      machine: the machine, each of whose devices has the batch of that device.
    """
    n = machine.devices
    return PlannedTimes(
        arithmetic=step["flops_per_device"][VARIANT]["products"] / machine.peak,
        memory=step["bytes_per_device"][VARIANT]["traffic"] / machine.memory,
        sum=2 * (n - 1) / n * 4 * step["trained"] / machine.link,
    )


def at_scale_rows(steps: Sequence[Mapping[str, Any]]) -> Iterable[list[str]]:
    """The rows of the table: each machine for each step that was counted for one TPU.

    Args:
      steps: what `conkd_jax.memory` wrote; others than those are left out.
    """
    for step in steps:
        counted = step.get("flops_per_device", {}).get(VARIANT)
        if counted is None or step["devices"] != 1 or not step["topology"]:
            continue
        batch = step["micro_batch"]
        tokens = batch["rows"] * batch["row_tokens"] * step["accumulate_steps"]
        name = f"`{step['config']}`, {step['parameters'] / 1e6:.0f} M"
        for machine in MACHINES:
            times = planned_times(step, machine)
            ideal = counted["model"] / machine.peak
            slow, fast = (max(ideal / mfu, times.total) for mfu in machine.assumed)
            of_all = tokens * machine.devices
            yield [
                name,
                f"{machine.name}, {batch['rows'] * step['accumulate_steps']} rows each",
                f"{counted['model'] / 1e12:.2f}",
                f"{counted['products'] / 1e12:.2f}",
                f"{1e3 * times.arithmetic:.1f}",
                f"{1e3 * times.memory:.1f}",
                f"{1e3 * times.sum:.1f}",
                f"{ideal / times.total:.2f}",
                f"{machine.assumed[0]:.2f} to {machine.assumed[1]:.2f}",
                _span(f"{1e3 * fast:.0f}", f"{1e3 * slow:.0f}"),
                _span(f"{of_all / slow / 1e3:,.0f} k", f"{of_all / fast / 1e3:,.0f} k"),
            ]


def _span(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"
