"""Scores the `predictions.jsonl` of any system, whoever trained it.

Nothing else of the system is read. A corpus adds what the file can't hold: the responses of the
split, the knowledge graph for 2-hop relevance, the catalogue, how often training dialogues mention
an item. A run of this project can be scored again in the same way and keeps its name. No stage and
no model is needed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from etils import epath

from conkd_jax.data.corpus import Corpus
from conkd_jax.eval.about_data import with_data
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
from conkd_jax.eval.own_ids import OwnIds, expect_no_ids
from conkd_jax.eval.predictions import PredictionError, read_predictions
from conkd_jax.eval.system_files import system_name
from conkd_jax.eval.tables.beside import paper_row_beside
from conkd_jax.eval.tables.documents import read_document
from conkd_jax.eval.tables.figures import draw_over_k
from conkd_jax.eval.template import SplitCheck
from conkd_jax.io.files import sha256_of_file, write_json

CURVE_KS = (1, 2, 5, 10, 20, 30, 40, 50)  # in the figure; tables have `KS` only
WITHOUT_GRAPH = (
    "2-hop relevance, coverage, Gini, popularity bias, recall of linked items, trivial systems, "
    "the check of the responses (no graph)"
)


@dataclasses.dataclass(frozen=True)
class ScoredPredictions:
    """A scored file.

    Attributes:
      document: what `metrics_document` returned.
      curve: metrics at each of `CURVE_KS`, for a figure.
      curve_intervals: their 95 % intervals.
      left_out: what could not be measured and why, a few words each.
      notes: what is missing from what was measured, a few words each.
    """

    document: Document
    curve: Mapping[str, float]
    curve_intervals: Mapping[str, tuple[float, float]]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def count_predictions(
    path: epath.PathLike,
    corpus: Corpus | None = None,
    *,
    ks: tuple[int, ...] = KS,
    split: str = "",
    is_partial: bool = False,
) -> RunStatistics:
    """Returns everything that can be counted in a file of predictions.

    Args:
      path: a `predictions.jsonl`.
      corpus: the corpus for what the file can't hold, or None.
      ks: cut-offs.
      split: the split of the corpus that every line is checked against; "" checks nothing.
      is_partial: whether responses of the split may be missing. Their number becomes a note.

    Raises:
      PredictionError: the file is not a predictions.jsonl, or has no response, or disagrees with
        the split.
    """
    options = MetricOptions(ks=ks) if corpus is None else options_from_corpus(corpus, ks=ks)
    check = None
    if corpus is None:
        predictions = expect_no_ids(read_predictions(path), path)
    else:
        predictions = read_predictions(path, OwnIds(corpus.items).numbered)
    if corpus is not None and split in corpus.splits:
        check = SplitCheck(corpus, split)
        predictions = check.checked(predictions, path)
    try:
        found = run_statistics(predictions, options)
    except PredictionError:
        raise
    except ValueError as error:  # it concerns all lines together
        raise PredictionError(f"{path}: {error}") from error
    return found if check is None else _with_missing(found, check, path, is_partial)


def _with_missing(
    found: RunStatistics, check: SplitCheck, path: epath.PathLike, is_partial: bool
) -> RunStatistics:
    """The statistics with the number of responses of the whole split.

    Raises:
      PredictionError: responses of the split are missing, and that is not allowed.
    """
    totals = {**found.totals, "responses_of_split": check.num_responses}
    found = dataclasses.replace(found, totals=totals)
    if not check.missing:
        return found
    missing = f"{len(check.missing)} of the {check.num_responses} responses of the split"
    if is_partial:
        note = f"{missing} are not in the file and count nowhere"
        return dataclasses.replace(found, notes=(*found.notes, note))
    raise PredictionError(
        f"{path}: expected every response of the split, got none for {missing}, for example "
        f"(conversation_id, turn) = {check.missing[0]}. Fill in all lines that --template writes, "
        'with "" where the system says nothing; --partial scores the others alone'
    )


def split_of(path: epath.PathLike, given: str = "", corpus: Corpus | None = None) -> str:
    """Returns the split of a file: given, recorded in its lines, or that of the run it lies in.

    Args:
      path: a `predictions.jsonl`.
      given: the split that the user names; "" for none.
      corpus: for text ids in the file, or None.

    Raises:
      PredictionError: no split is known, two that are known differ, or the file is not a
        predictions.jsonl.
    """
    known = {"--split": given} if given else {}
    numbered = None if corpus is None else OwnIds(corpus.items).numbered
    first = next(iter(read_predictions(path, numbered)), None)
    if first is None:
        raise PredictionError(f"{path}: expected at least one response, got none")
    if first.split:
        known["its field 'split'"] = first.split
    own = _own_document(path)
    if own is not None:
        known["the metrics.json beside it"] = own["split"]
    if len(set(known.values())) > 1:
        said = ", ".join(f"{split} by {name}" for name, split in known.items())
        raise PredictionError(f"{path}: expected one split, got {said}")
    if not known:
        raise PredictionError(
            f"{path}: expected to know which split its responses are of, got no --split, and "
            "neither a field 'split' nor a run's metrics.json beside it. Give --split=dev|valid|"
            "test; files that --template writes record it"
        )
    return next(iter(known.values()))


def score_predictions(
    path: epath.PathLike,
    *,
    split: str,
    corpus: Corpus | None = None,
    is_partial: bool = False,
    paper_row: str = "",
    num_resamples: int = 1000,
    command: str,
    machine: Mapping | str,
) -> ScoredPredictions:
    """Scores a file.

    Args:
      path: a `predictions.jsonl`.
      split: the split that its responses are of (see `split_of`).
      corpus: the corpus for what the file can't hold, or None.
      is_partial: whether responses of the split may be missing; they may in a run of this project,
        which can be told to decode some responses only.
      paper_row: the paper's row to stand beside the system, one of `eval.tables.paper.ROW_NAMES`.
      num_resamples: the number of bootstrap resamples for the intervals.
      command: the command that was run, for the document.
      machine: the machine that it ran on, for the document.

    Raises:
      PredictionError: the file is not a predictions.jsonl, has no response, no response with any
        text, or disagrees with the split of the corpus.
    """
    own = _own_document(path)
    found = count_predictions(
        path, corpus, ks=CURVE_KS, split=split, is_partial=is_partial or own is not None
    )
    if not found.totals["generated_tokens"]:
        raise PredictionError(
            f"{path}: expected responses, but 'generated' is empty on all "
            f"{found.totals['responses']} lines. Write the system's responses into the template"
        )
    values, intervals = found.metrics(), bootstrap_intervals(found, num_resamples=num_resamples)
    document = metrics_document(
        config_name=system_name(path),
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
        paper_row=paper_row,
    )
    left_out = found.left_out
    if corpus is not None:
        document = with_data(document, corpus.report)
    if corpus is None:
        left_out += (WITHOUT_GRAPH,)
    elif split not in corpus.splits:
        left_out += (f"the check of the responses (the corpus has no split {split})",)
    return ScoredPredictions(
        document if own is None else _as_own_run(own, document, paper_row),
        values,
        intervals,
        left_out,
        notes=found.notes,
    )


def _own_document(path: epath.PathLike) -> Document | None:
    """The document of the run of this project that a file lies in, or None."""
    beside = epath.Path(path).parent / "metrics.json"
    if not beside.exists():
        return None
    try:
        own = read_document(beside)
    except DocumentError:  # of another version or another toolkit
        return None
    if own["preset"] == EXTERNAL or own["n_responses"] != sum(1 for _ in read_predictions(path)):
        return None
    return own


def _as_own_run(own: Document, document: Document, paper_row: str) -> Document:
    """Returns the document of a run of this project with the new scores.

    What was measured beside the predictions (the gate, latency) is kept.
    """
    measured = {name: document[name] for name in ("counts", "intervals")}
    measured |= {"paper_row": paper_row} if paper_row else {}
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
