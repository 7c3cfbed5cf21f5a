"""Runs that differ in their seed alone, as one: means and standard deviations."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from conkd_jax.eval.document import Document, seeds_label


def across_seeds(documents: Sequence[Document]) -> dict[str, tuple[float, float]]:
    """Returns mean and sample standard deviation of each metric that all runs have.

    Args:
      documents: contents of `metrics.json` of two runs or more that differ in their seed alone.

    Raises:
      ValueError: if there are fewer than two runs, seeds come twice, or settings or splits differ.
    """
    seeds = [seeds_label(d["seed"], d.get("teacher_seed", 0)) for d in documents]
    if len(documents) < 2 or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds: expected two or more, each once, got {', '.join(seeds)}")
    for field in ("config", "backbone", "decoding", "overrides", "preset", "split"):
        if len(found := {str(document.get(field) or "") for document in documents}) > 1:
            raise ValueError(f"{field}: expected the same in every run, got {sorted(found)}")
    # Documents of older versions lack this hash.
    hashes = {document.get("settings_sha256") for document in documents} - {None, ""}
    if len(hashes) > 1:
        raise ValueError(
            "settings: expected runs that differ in their seeds alone, got configs of several "
            "settings. The config file may have been edited between the runs: train them again, or "
            "make a table of each"
        )
    names = [n for n in documents[0]["metrics"] if all(n in d["metrics"] for d in documents)]
    values = {name: [document["metrics"][name] for document in documents] for name in names}
    return {name: (statistics.fmean(v), statistics.stdev(v)) for name, v in values.items()}
