"""The analysis of cold items as a JSON document, from which its tables and figure are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from conkd_jax.eval.cold_items.groups import ALL, COLD, Group
from conkd_jax.eval.cold_items.steps import (
    LEVEL_AT,
    ItemSteps,
    chances,
    level_offset,
    levelled,
    step_statistics,
)
from conkd_jax.eval.metrics.bootstrap import LEVEL, bootstrap_intervals
from conkd_jax.eval.metrics.pairs import Number

NUM_RESAMPLES, SEED = 1000, 0


@dataclasses.dataclass(frozen=True)
class ColdItemAnalysis:
    """What is measured of every system on one split.

    Attributes:
      groups: of items.
      keys: (conversation_id, turn) of every response of the split.
      gold: the gold items at item steps, as indices of the catalogue.
    """

    groups: Sequence[Group]
    keys: Sequence[tuple[str, int]]
    gold: np.ndarray

    @property
    def cold(self) -> Group:
        """The items that no training text names."""
        return next(group for group in self.groups if group.name == COLD)

    def of_groups(self) -> dict[str, dict[str, Any]]:
        """Sizes of the groups, how often references name their items, and what chance gives."""
        found = {}
        for group in self.groups:
            gold = self.gold[group.members[self.gold]]
            counts = {"movies": group.size, "gold": len(gold), "distinct_gold": len({*gold})}
            found[group.name] = counts | {"chance": dict(chances(group))}
        return found

    def of_system(
        self, identity: Mapping[str, Any], steps: ItemSteps, said: Mapping[str, Number] | None
    ) -> dict[str, Any]:
        """Everything that is reported of one system.

        Args:
          identity: its name, settings and hashes.
          steps: its scores.
          said: what its responses name (`said.said`); None for a system that can't talk.
        """
        statistics = step_statistics(steps, self.groups, self.keys)
        intervals = bootstrap_intervals(statistics, num_resamples=NUM_RESAMPLES, seed=SEED)
        return {
            **identity,
            "metrics": _by_group(statistics.metrics()),
            "intervals": _by_group({name: list(ends) for name, ends in intervals.items()}),
            "said": None if said is None else dict(said),
            "levelled": self._levelled(steps),
        }

    def _levelled(self, steps: ItemSteps) -> dict[str, Any] | None:
        """The metrics after a constant that gives cold items the share of places they deserve.

        That is their share of the gold items. None if there are too few cold items or others, or
        some have no token.
        """
        cold = self.cold
        num_others = len(cold.members) - cold.size
        if min(cold.size, num_others) < LEVEL_AT or not np.isfinite(steps.scores).all():
            return None
        share = float(cold.members[self.gold].mean())
        offset = level_offset(steps.scores, cold.members, share)
        groups = [group for group in self.groups if group.name in (COLD, ALL)]
        found = step_statistics(levelled(steps, cold, offset), groups, self.keys).metrics()
        return {"offset": offset, "share": share, "metrics": _by_group(found)}

    def document(
        self,
        systems: Sequence[Mapping[str, Any]],
        *,
        facts: Mapping[str, Any],
        command: str,
        machine: Mapping[str, Any] | str,
    ) -> dict[str, Any]:
        """The whole document.

        Args:
          systems: what `of_system` returned of each.
          facts: of the split and its corpus, which come first.
          command: the command that was run.
          machine: the machine that it ran on.
        """
        return {
            **facts,
            "n_dialogues": len({conversation for conversation, _ in self.keys}),
            "n_responses": len(self.keys),
            "n_item_steps": len(self.gold),
            "num_resamples": NUM_RESAMPLES,
            "resampling_seed": SEED,
            "interval_level": LEVEL / 100,
            "groups": self.of_groups(),
            "systems": list(systems),
            "command": command,
            "machine": machine,
        }


def _by_group(named: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Values by group and metric, from names like "hit@10|0".

    >>> _by_group({"hit@10|0": 0.1, "mass|0": 0.2, "mass|all": 1.0})
    {'0': {'hit@10': 0.1, 'mass': 0.2}, 'all': {'mass': 1.0}}
    """
    found: dict[str, dict[str, Any]] = {}
    for name, value in named.items():
        metric, _, group = name.partition("|")
        found.setdefault(group, {})[metric] = value
    return found
