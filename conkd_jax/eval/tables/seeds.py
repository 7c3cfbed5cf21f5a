"""Runs that differ in their seed alone, as one: means and standard deviations."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from conkd_jax.eval.document import Document


def across_seeds(documents: Sequence[Document]) -> dict[str, tuple[float, float]]:
    """Returns mean and sample standard deviation of each metric that all runs have.

    Args:
      documents: contents of `metrics.json` of two runs or more that differ in their seed alone.

    Raises:
      ValueError: if there are fewer than two runs, a seed comes twice, or configs or splits differ.
    """
    seeds = [document["seed"] for document in documents]
    if len(documents) < 2 or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds: expected two or more, each once, got {seeds}")
    for field in ("config", "backbone", "decoding", "preset", "split"):
        if len(found := {document.get(field) for document in documents}) > 1:
            raise ValueError(
                f"{field}: expected the same in every run, got {sorted(map(str, found))}"
            )
    names = [n for n in documents[0]["metrics"] if all(n in d["metrics"] for d in documents)]
    values = {name: [document["metrics"][name] for document in documents] for name in names}
    return {name: (statistics.fmean(v), statistics.stdev(v)) for name, v in values.items()}
