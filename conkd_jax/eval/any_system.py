"""Scores the `predictions.jsonl` of any system, whoever trained it.

The file is all that is read of the system. A corpus adds what the file can't hold: the knowledge
graph behind 2-hop relevance, the catalogue's size, how often the training dialogues mention an
item. A run of this project is scored again the same way and stays what it is. Knows no stage and no
model.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping

from etils import epath

from conkd_jax.data.corpus import Corpus
from conkd_jax.eval import report
from conkd_jax.eval.figures.metric_bars import draw_metric_bars
from conkd_jax.eval.metrics.bootstrap import bootstrap_intervals
from conkd_jax.eval.metrics.options import KS, MetricOptions, options_from_corpus
from conkd_jax.eval.metrics.run_metrics import run_statistics
from conkd_jax.eval.metrics.statistics import RunStatistics
from conkd_jax.eval.predictions import PredictionError, read_predictions
from conkd_jax.eval.tables import build as tables
from conkd_jax.eval.tables import figures as table_figures

CURVE_KS = (1, 2, 5, 10, 20, 30, 40, 50)  # of the figure; `KS` are printed
WITHOUT_GRAPH = (
    "2-hop relevance, coverage, Gini, popularity bias, recall of linked items (no graph)"
)


@dataclasses.dataclass(frozen=True)
class Scored:
    """A scored file.

    Attributes:
      document: as `report.metrics_json` gives it.
      curve, curve_intervals: metrics at each of `CURVE_KS`, for a figure.
      left_out: what could not be measured and why, a few words each.
    """

    document: Mapping
    curve: Mapping[str, float]
    curve_intervals: Mapping[str, tuple[float, float]]
    left_out: tuple[str, ...]


def system_name(path: epath.PathLike) -> str:
    """What the system of a file is called: the file's name, or its folder's where that says more.

    >>> system_name("theirs/kbrd.jsonl"), system_name("runs/unicrs/predictions.jsonl")
    ('kbrd', 'unicrs')
    """
    path = epath.Path(path)
    name = path.resolve().parent.name if path.stem == "predictions" else path.stem
    return re.sub(r"[^\w.-]", "_", name) or "system"


def statistics(
    path: epath.PathLike, corpus: Corpus | None = None, *, ks: tuple[int, ...] = KS
) -> RunStatistics:
    """Everything that can be counted in a file of predictions.

    Args:
      path: a `predictions.jsonl`.
      corpus: what the file can't hold, or None.
      ks: cut-offs.

    Raises:
      PredictionError: the file is no such file, or holds no response.
    """
    options = MetricOptions(ks=ks) if corpus is None else options_from_corpus(corpus, ks=ks)
    try:
        return run_statistics(read_predictions(path), options)
    except PredictionError:
        raise
    except ValueError as error:  # of all lines together
        raise PredictionError(f"{path}: {error}") from error


def score(
    path: epath.PathLike,
    *,
    split: str,
    corpus: Corpus | None = None,
    num_resamples: int = 1000,
    command: str,
    machine: Mapping | str,
) -> Scored:
    """Scores a file.

    Args:
      path: a `predictions.jsonl`.
      split: what its responses are of, for the document.
      corpus: what the file can't hold, or None.
      num_resamples: of the intervals.
      command, machine: what was run, and where, for the document.

    Raises:
      PredictionError: as `statistics`.
    """
    found = statistics(path, corpus, ks=CURVE_KS)
    values, intervals = found.metrics(), bootstrap_intervals(found, num_resamples=num_resamples)
    document = report.metrics_json(
        config_name=system_name(path),
        preset=report.EXTERNAL,
        backbone="",
        split=split,
        seed=0,
        config_sha256=hashlib.sha256(epath.Path(path).read_bytes()).hexdigest(),
        counts=found.totals,
        metrics={name: value for name, value in values.items() if _is_printed(name)},
        intervals={name: pair for name, pair in intervals.items() if _is_printed(name)},
        command=command,
        machine=machine,
        git="",
    )
    left_out = found.left_out + ((WITHOUT_GRAPH,) if corpus is None else ())
    return Scored(_as_own_run(path, document), values, intervals, left_out)


def _as_own_run(path: epath.PathLike, document: Mapping) -> Mapping:
    """The document under the name of the run of this project that the file lies in, if it does.

    What was measured beside the predictions (the gate, latency) is kept.
    """
    beside = epath.Path(path).parent / "metrics.json"
    if not beside.exists():
        return document
    try:
        own = tables.checked(json.loads(beside.read_text()), str(beside))
    except ValueError:  # of another version, or another's
        return document
    if own["preset"] == report.EXTERNAL or own["n_responses"] != document["n_responses"]:
        return document
    measured = {name: document[name] for name in ("counts", "intervals")}
    return {**own, **measured, "metrics": {**own["metrics"], **document["metrics"]}}


def write(scored: Scored, folder: epath.PathLike) -> None:
    """Writes `metrics.json` and figures into a folder, which is made."""
    folder = epath.Path(folder)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    document = scored.document
    report.write_json(folder / "metrics.json", document)
    name, row = report.label_of(document), report.paper_beside(document)
    title = f"{name} on {document['split']}"
    draw_metric_bars(
        document["metrics"],
        folder / "figures" / "items_in_responses.png",
        paper=row.metrics if row else None,
        intervals={name: tuple(pair) for name, pair in document["intervals"].items()},
        title=title,
    )
    if any(f"{family}@{CURVE_KS[1]}" in scored.curve for family in ("rer", "recall")):
        table_figures.over_k(
            {name: scored.curve},
            folder / "figures" / "over_k.png",
            intervals={name: scored.curve_intervals},
            title=title,
        )


def _is_printed(name: str) -> bool:
    """Whether a metric is at none of the cut-offs that only the figure has."""
    cut_off = re.search(r"@(\d+)", name)
    return cut_off is None or int(cut_off[1]) in KS
