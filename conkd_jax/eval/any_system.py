"""Scores the `predictions.jsonl` of any system, whoever trained it.

Nothing else of the system is read. A corpus adds what the file can't hold: the knowledge graph for
2-hop relevance, the size of the catalogue, how often training dialogues mention an item. A run of
this project can be scored again in the same way and keeps its name. No stage and no model is
needed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from etils import epath

from conkd_jax.data.corpus import Corpus
from conkd_jax.eval.document import (
    EXTERNAL,
    Document,
    DocumentError,
    document_label,
    metrics_document,
)
from conkd_jax.eval.figures.metric_bars import draw_metric_bars
from conkd_jax.eval.metrics.bootstrap import bootstrap_intervals
from conkd_jax.eval.metrics.options import KS, MetricOptions, options_from_corpus
from conkd_jax.eval.metrics.run_metrics import run_statistics
from conkd_jax.eval.metrics.statistics import RunStatistics
from conkd_jax.eval.predictions import PredictionError, read_predictions
from conkd_jax.eval.system_files import system_name
from conkd_jax.eval.tables.beside import paper_row_beside
from conkd_jax.eval.tables.documents import read_document
from conkd_jax.eval.tables.figures import draw_over_k
from conkd_jax.eval.tables.paper import matching_system
from conkd_jax.files import sha256_of_file, write_json

CURVE_KS = (1, 2, 5, 10, 20, 30, 40, 50)  # in the figure; tables have `KS` only
WITHOUT_GRAPH = (
    "2-hop relevance, coverage, Gini, popularity bias, recall of linked items (no graph)"
)


@dataclasses.dataclass(frozen=True)
class ScoredPredictions:
    """A scored file.

    Attributes:
      document: what `metrics_document` returned.
      curve: metrics at each of `CURVE_KS`, for a figure.
      curve_intervals: their 95 % intervals.
      left_out: what could not be measured and why, a few words each.
    """

    document: Document
    curve: Mapping[str, float]
    curve_intervals: Mapping[str, tuple[float, float]]
    left_out: tuple[str, ...]


def count_predictions(
    path: epath.PathLike, corpus: Corpus | None = None, *, ks: tuple[int, ...] = KS
) -> RunStatistics:
    """Returns everything that can be counted in a file of predictions.

    Args:
      path: a `predictions.jsonl`.
      corpus: the corpus for what the file can't hold, or None.
      ks: cut-offs.

    Raises:
      PredictionError: the file is not a predictions.jsonl, or has no response.
    """
    options = MetricOptions(ks=ks) if corpus is None else options_from_corpus(corpus, ks=ks)
    try:
        return run_statistics(read_predictions(path), options)
    except PredictionError:
        raise
    except ValueError as error:  # it concerns all lines together
        raise PredictionError(f"{path}: {error}") from error


def score_predictions(
    path: epath.PathLike,
    *,
    split: str,
    corpus: Corpus | None = None,
    num_resamples: int = 1000,
    command: str,
    machine: Mapping | str,
) -> ScoredPredictions:
    """Scores a file.

    Args:
      path: a `predictions.jsonl`.
      split: the split that its responses are of, for the document.
      corpus: the corpus for what the file can't hold, or None.
      num_resamples: the number of bootstrap resamples for the intervals.
      command: the command that was run, for the document.
      machine: the machine that it ran on, for the document.

    Raises:
      PredictionError: the file is not a predictions.jsonl, or has no response.
    """
    name = system_name(path)
    found = count_predictions(path, corpus, ks=CURVE_KS)
    values, intervals = found.metrics(), bootstrap_intervals(found, num_resamples=num_resamples)
    document = metrics_document(
        config_name=name,
        preset=EXTERNAL,
        backbone="",
        split=split,
        seed=0,
        config_sha256=sha256_of_file(path),
        counts=found.totals,
        metrics={name: value for name, value in values.items() if _is_printed(name)},
        intervals={name: pair for name, pair in intervals.items() if _is_printed(name)},
        command=command,
        machine=machine,
        git="",
        paper_row=matching_system(name),
    )
    left_out = found.left_out + ((WITHOUT_GRAPH,) if corpus is None else ())
    return ScoredPredictions(_as_own_run(path, document), values, intervals, left_out)


def _as_own_run(path: epath.PathLike, document: Document) -> Document:
    """Returns the document of the run of this project that the file lies in, with the new scores.

    What was measured beside the predictions (the gate, latency) is kept. A file that lies in no
    such run keeps its own document.
    """
    beside = epath.Path(path).parent / "metrics.json"
    if not beside.exists():
        return document
    try:
        own = read_document(beside)
    except DocumentError:  # of another version or another toolkit
        return document
    if own["preset"] == EXTERNAL or own["n_responses"] != document["n_responses"]:
        return document
    measured = {name: document[name] for name in ("counts", "intervals")}
    return {**own, **measured, "metrics": {**own["metrics"], **document["metrics"]}}


def write_scored(scored: ScoredPredictions, folder: epath.PathLike) -> None:
    """Writes `metrics.json` and figures into a folder, which is created."""
    folder = epath.Path(folder)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    document = scored.document
    write_json(folder / "metrics.json", document)
    name, row = document_label(document), paper_row_beside(document)
    title = f"{name} on {document['split']}"
    draw_metric_bars(
        document["metrics"],
        folder / "figures" / "items_in_responses.png",
        paper=row.metrics if row else None,
        intervals={name: tuple(pair) for name, pair in document["intervals"].items()},
        title=title,
    )
    if any(f"{family}@{CURVE_KS[1]}" in scored.curve for family in ("rer", "recall")):
        draw_over_k(
            {name: scored.curve},
            folder / "figures" / "over_k.png",
            intervals={name: scored.curve_intervals},
            title=title,
        )


def _is_printed(name: str) -> bool:
    """Returns whether a metric is printed, not only drawn: its cut-off is one of `KS`, or none."""
    cut_off = re.search(r"@(\d+)", name)
    return cut_off is None or int(cut_off[1]) in KS
