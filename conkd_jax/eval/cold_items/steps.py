"""How the items of a group rank at the item steps of the references, and what lifts them.

An item step is a token of a gold response that names an item; a system scores the whole catalogue
there, given the gold text before it. Every number is a ratio of sums over these steps, so it has a
bootstrap interval over dialogues.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from conkd_jax.eval.cold_items.groups import Group
from conkd_jax.eval.metrics.options import KS
from conkd_jax.eval.metrics.ranking import best_indices, rank_by_score
from conkd_jax.eval.metrics.statistics import RunStatistics

STEPS_AT_A_TIME = 256
NUM_ELSEWHERE = 8  # other steps whose scores stand in for those of a step
LEVEL_AT = 10  # the cut-off at which `level_offset` fills the places


@dataclasses.dataclass(frozen=True)
class ItemSteps:
    """A system's scores of the catalogue at the item steps of gold responses.

    Attributes:
      response: [S] the response of each step, as index of the split's responses.
      gold: [S] the item that the response names there, as index of the catalogue.
      scores: [S, M] the logits of all items; -inf for those that the system has no token for.
      missed_response: [U] the responses of further gold items that have no token, so no step.
      missed_gold: [U] these items; every hit@k counts them as missed.
    """

    response: Int[np.ndarray, " S"]
    gold: Int[np.ndarray, " S"]
    scores: Float[np.ndarray, "S M"]
    missed_response: Int[np.ndarray, " U"] = dataclasses.field(
        default_factory=lambda: np.zeros(0, np.int64)
    )
    missed_gold: Int[np.ndarray, " U"] = dataclasses.field(
        default_factory=lambda: np.zeros(0, np.int64)
    )


def step_statistics(
    steps: ItemSteps, groups: Sequence[Group], keys: Sequence[tuple[str, int]]
) -> RunStatistics:
    """The (sum, count) pairs, by dialogue, of the metrics of every group.

    A metric is named after its group, as "hit@10|0":

    * `hit@k`: of the gold items of the group, the share that ranks among the k best of all items;
    * `hit@k_in_group`: the same among the k best of the group. It does not depend on how the group
      as a whole is scored, so it says whether a system knows *which* of its items is meant;
    * `hit@k_in_group_elsewhere`: the same by the scores of other steps, far away in the split: what
      a preference for some items of the group gives that does not depend on the dialogue;
    * `top@k`: the share of the k best places of a step that the group's items take;
    * `mass`: Σ_{i∈group} softmax(scores)_i, the group's share of the probability of all items.

    The last two are over all steps. Equal scores rank in the order of the catalogue.

    Args:
      steps: of a system.
      groups: of items; those without members are left out.
      keys: (conversation_id, turn) of every response of the split.
    """
    groups = [group for group in groups if group.size]
    gold = np.concatenate([steps.gold, steps.missed_gold])
    response = np.concatenate([steps.response, steps.missed_response])
    values = _step_values(steps, groups)
    num_missed = len(steps.missed_gold)
    names, sums, counts = [], [], []
    for name, of_steps in values.items():
        metric, _, group_name = name.partition("|")
        members = next(group.members for group in groups if group.name == group_name)
        is_hit = metric.startswith("hit@")
        counted = members[gold] if is_hit else np.arange(len(gold)) < len(steps.gold)
        value = np.concatenate([of_steps, np.zeros(num_missed)])
        names.append(name)
        sums.append(np.bincount(response, value * counted, len(keys)))
        counts.append(np.bincount(response, counted.astype(float), len(keys)))
    return RunStatistics.of_responses(
        keys, tuple(names), np.stack(sums, 1), np.stack(counts, 1), totals={"steps": len(gold)}
    )


def _step_values(steps: ItemSteps, groups: Sequence[Group]) -> dict[str, Float[np.ndarray, " S"]]:
    """The value of every metric at every step; that of `hit@k` wherever the gold item is."""
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, max(1, len(steps.gold)), STEPS_AT_A_TIME):
        part = slice(start, start + STEPS_AT_A_TIME)
        scores, gold = steps.scores[part], steps.gold[part]
        of_gold = np.take_along_axis(scores, gold[:, None], 1)[:, 0]
        rank = rank_by_score(scores, of_gold, gold)
        best = best_indices(scores, max(KS))
        mass = _softmax(scores)
        for group in groups:
            found = (
                _group_values(group, scores, gold)
                | _elsewhere(group, steps, part)
                | {
                    "mass": mass[:, group.members].sum(1),
                    **{f"hit@{k}": rank <= k for k in KS},
                    **{f"top@{k}": group.members[best[:, :k]].mean(1) for k in KS},
                }
            )
            for metric, value in found.items():
                parts.setdefault(f"{metric}|{group.name}", []).append(np.asarray(value, float))
    return {name: np.concatenate(of) for name, of in parts.items()}


def _group_values(group: Group, scores: np.ndarray, gold: np.ndarray) -> dict[str, np.ndarray]:
    """`hit@k_in_group` of the steps whose gold item is in the group; 0 at the others."""
    inside = group.members[gold]
    rank = np.full(len(gold), math.inf)
    place = (np.cumsum(group.members) - 1)[gold[inside]]  # among the members
    members = scores[inside][:, group.members]
    rank[inside] = rank_by_score(members, members[np.arange(len(place)), place], place)
    return {f"hit@{k}_in_group": rank <= k for k in KS}


def _elsewhere(group: Group, steps: ItemSteps, part: slice) -> dict[str, np.ndarray]:
    """`hit@k_in_group` by the scores of other steps: its mean over eight places in the split."""
    number, places = len(steps.gold), np.arange(len(steps.gold))[part]
    found: dict[str, np.ndarray] = {}
    for shift in range(1, NUM_ELSEWHERE + 1):
        other = (places + shift * number // (NUM_ELSEWHERE + 1)) % number
        for name, hit in _group_values(group, steps.scores[other], steps.gold[part]).items():
            sums = found.setdefault(f"{name}_elsewhere", np.zeros(len(places)))
            sums += hit / NUM_ELSEWHERE
    return found


def _softmax(scores: Float[np.ndarray, "S M"]) -> Float[np.ndarray, "S M"]:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


# --- the level of a group ------------------------------------------------------------------------


def level_offset(
    scores: Float[np.ndarray, "S M"], members: Bool[np.ndarray, " M"], share: float
) -> float:
    """The constant on the scores of some items that gives them a share of the ten best places.

    Of a step, the j-th best member takes one of the k = 10 best places once the constant exceeds
    w_(k+1-j) - s_j: w and s are the scores of the others and of the members, best first. The
    constant lies between two of these thresholds over all steps.

    Args:
      scores: at every step.
      members: which items get the constant.
      share: the share of the places that they should take, from 0 to 1.

    Raises:
      ValueError: there are fewer than ten members, or fewer than ten other items.

    >>> scores, members = np.arange(20.0)[None, ::-1], np.arange(20) >= 10
    >>> offset = level_offset(scores, members, share=0.2)
    >>> best = np.argsort(-(scores + offset * members))[0, :10]
    >>> int(members[best].sum())
    2
    """
    if members.sum() < LEVEL_AT or (~members).sum() < LEVEL_AT:
        raise ValueError(
            f"expected {LEVEL_AT} members and {LEVEL_AT} other items or more, got "
            f"{members.sum()} and {(~members).sum()}"
        )
    of_members, of_others = (_best(scores[:, which]) for which in (members, ~members))
    thresholds = np.sort((of_others[:, ::-1] - of_members).ravel())
    ends = np.concatenate([[thresholds[0] - 2.0], thresholds, [thresholds[-1] + 2.0]])
    place = round(share * len(thresholds))
    return float((ends[place] + ends[place + 1]) / 2)


def _best(scores: Float[np.ndarray, "S n"]) -> Float[np.ndarray, "S k"]:
    """The ten best scores of each step, best first."""
    return -np.sort(np.partition(-scores, LEVEL_AT - 1, axis=1)[:, :LEVEL_AT], axis=1)


def levelled(steps: ItemSteps, group: Group, offset: float) -> ItemSteps:
    """The same steps with a constant on the scores of a group."""
    shift = np.where(group.members, offset, 0.0).astype(steps.scores.dtype)
    return dataclasses.replace(steps, scores=steps.scores + shift)


def chances(group: Group) -> Mapping[str, float]:
    """What random lists of the catalogue, or of the group, give for the metrics of a group."""
    num_items = len(group.members)
    return {
        **{f"hit@{k}": min(1.0, k / num_items) for k in KS},
        **{f"hit@{k}_in_group": min(1.0, k / max(1, group.size)) for k in KS},
        **{f"hit@{k}_in_group_elsewhere": min(1.0, k / max(1, group.size)) for k in KS},
        **{f"top@{k}": group.size / num_items for k in KS},
        "mass": group.size / num_items,
    }
