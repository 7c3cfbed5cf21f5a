"""Which cold items the generated responses of a system name, and how many of them are right."""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterable
from typing import Any

from conkd_jax.eval.metrics.options import KS
from conkd_jax.eval.metrics.pairs import Number
from conkd_jax.eval.predictions import Prediction


def said(predictions: Iterable[Prediction], cold: Collection[Any]) -> dict[str, Number]:
    """Counts of named items, and the share of cold ones among the best where an item was named.

    A named item is right if the reference names it; each mention of the reference counts once.

    Args:
      predictions: the responses of a system.
      cold: the cold items.

    Returns:
      `named`, `named_cold`, `distinct`, `distinct_cold`, `right`, `right_cold`, `gold`,
      `gold_cold`: counts over all responses; and `top@k`: of the k best items at the steps that
      named one, the share that is cold; absent where no step has such a list.
    """
    named, gold, right = (collections.Counter() for _ in range(3))
    places: dict[int, list[int]] = {k: [0, 0] for k in KS}
    for p in predictions:
        of_response = collections.Counter(p.generated_items)
        of_reference = collections.Counter(
            (*p.reference_items, *(p.reference_items_out_of_vocabulary or ()))
        )
        named += of_response
        gold += of_reference
        right += of_response & of_reference
        for step in p.item_steps or ():
            for k, (held, total) in places.items():
                top = step.top[:k]
                places[k] = [held + sum(item in cold for item in top), total + len(top)]
    found: dict[str, Number] = {}
    for name, counts in (("named", named), ("right", right), ("gold", gold)):
        found[name] = sum(counts.values())
        found[f"{name}_cold"] = sum(count for item, count in counts.items() if item in cold)
    found |= {"distinct": len(named), "distinct_cold": sum(item in cold for item in named)}
    return found | {f"top@{k}": held / total for k, (held, total) in places.items() if total}
