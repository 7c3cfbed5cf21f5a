"""The item offset at which a system recommends as often as people do.

F1@k is 2 hits / (N_g + N_p): two systems can differ in it because they choose other items, or
because they name more of them. A constant added to the logits of all items changes how many are
named and not which is preferred. It is chosen on dev, by bisection, such that the responses name as
many items as the references do, which is the same aim for every system on a corpus. Only a sample
of dev is decoded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from conkd_jax.errors import UserError
from conkd_jax.stages.evaluation import EvaluationSettings, answers
from conkd_jax.stages.systems.system import System
from conkd_jax.stages.systems.system_on_split import SystemOnSplit, open_system

SAMPLE = 400  # responses of dev that are decoded for each offset
TOLERANCE = 0.01  # of the rate aimed at
WIDEST = 32.0  # the largest offset: at this, nothing but items, or none at all, is said


class RateError(UserError, ValueError):
    """A rate that can't be aimed at."""


@dataclasses.dataclass(frozen=True)
class MatchedRate:
    """An offset, and how many items per response it gives.

    Attributes:
      offset: what is added to the logits of items.
      target: items per response that were aimed at.
      dev_rate: items per response of the sample of dev at that offset.
      plain_dev_rate: the same without an offset.
      num_responses: the size of the sample.
    """

    offset: float
    target: float
    dev_rate: float
    plain_dev_rate: float
    num_responses: int

    def metrics(self) -> dict[str, float]:
        """The numbers as metrics of a run."""
        return {
            "item_offset": self.offset,
            "items_per_response_aimed": self.target,
            "items_per_response_dev": self.dev_rate,
        }


def match_rate(
    settings: EvaluationSettings, system: System, target: float | None = None
) -> MatchedRate:
    """Chooses the offset of a system.

    Args:
      settings: of an evaluation on dev.
      system: the system that it scores.
      target: items per response to aim at; None for the rate of dev's references.

    Raises:
      RateError: dev has no response, or the rate is not above 0.
    """
    opened = open_system(system, settings.split)
    target = gold_rate(opened) if target is None else target
    if not target > 0:
        raise RateError(
            f"--match_rate: expected more than 0 items per response to aim at, got {target}; give "
            "another rate with --rate"
        )
    found: dict[float, float] = {}

    def rate(offset: float) -> float:
        chosen = dataclasses.replace(settings, max_responses=SAMPLE, item_offset=offset)
        counts = [len(said.item_steps) for _, said in answers(chosen, opened)]
        found[offset] = float(np.mean(counts))
        print(f"offset {offset:+.3f}: {found[offset]:.3f} items per response of dev", flush=True)
        return found[offset]

    offset = bisect(rate, target)
    num_responses = min(SAMPLE, opened.rows.num_responses)
    return MatchedRate(offset, target, found[offset], found[0.0], num_responses)


def gold_rate(opened: SystemOnSplit) -> float:
    """Items of the catalogue per reference of the split: the same for every system.

    Raises:
      RateError: the split has no response.
    """
    keys = opened.rows.response_keys
    if not len(keys):
        raise RateError(
            "--match_rate: expected responses on dev, where the offset is chosen; this corpus has "
            "none"
        )
    return float(np.mean([len(opened.dialogues[name].turns[turn].items) for name, turn in keys]))


def bisect(rate: Callable[[float], float], target: float) -> float:
    """Finds an offset at which a rate that grows with it is within `TOLERANCE` of the target.

    Args:
      rate: of an offset; called with 0 first, and once for each offset.
      target: the rate aimed at.

    Returns:
      The offset that came closest; of several, that closest to 0. A rate that jumps over the
      target, or ends before it, is approached from its nearer side.

    >>> bisect(lambda offset: 0.25 * 2**offset, target=1.0)
    2.0
    """
    rates = {0.0: rate(0.0)}

    def is_done() -> bool:
        return abs(rates[closest()] - target) <= TOLERANCE * target

    def closest() -> float:
        return min(rates, key=lambda offset: (abs(rates[offset] - target), abs(offset)))

    sign = 1.0 if rates[0.0] < target else -1.0
    near, far = 0.0, sign
    while not is_done() and abs(far) <= WIDEST:
        rates[far] = rate(far)
        if (rates[far] - target) * sign >= 0:
            break
        near, far = far, 2 * far
    while not is_done() and abs(far) <= WIDEST and abs(far - near) > 1 / 64:
        middle = (near + far) / 2
        rates[middle] = rate(middle)
        if (rates[middle] - target) * sign >= 0:
            far = middle
        else:
            near = middle
    return closest()
