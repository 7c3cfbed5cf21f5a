"""The gate analysis of a run as a JSON document and as two tables for a terminal.

The numbers come from `token_classes` and `detector`; here they are named, formatted and put beside
those of the paper's §3.4.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from conkd_jax.eval.gate.detector import Detection, DetectorCurve
from conkd_jax.eval.gate.token_classes import (
    CLASSES,
    ITEM,
    PERCENTILES,
    MassSummary,
    lambda_means,
)
from conkd_jax.eval.tables.paper import GATE_MEANS

PAPER_ETA = 0.6  # of the paper's DialoGPT rows
THRESHOLD_TITLES = {
    "run": "the run's",
    "fitted": "fitted on dev",
    "best": "best F1",
    "paper": "the paper's",
}


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """The values of η at which the hard gate is reported, besides the best and the paper's.

    Attributes:
      run: the run's own; None for a gate without one.
      fitted: the one that the teacher store fitted to dev; None without a store.
      others: any others.
    """

    run: float | None = None
    fitted: float | None = None
    others: tuple[float, ...] = ()


def reported_detections(curve: DetectorCurve, thresholds: Thresholds) -> dict[str, Detection]:
    """The detections at the thresholds with a name, those that there are."""
    named = {
        "run": thresholds.run,
        "fitted": thresholds.fitted,
        "best": curve.best_eta(),
        "paper": PAPER_ETA,
    }
    return {name: curve.at(eta) for name, eta in named.items() if eta is not None}


def gate_document(
    by_class: Mapping[str, MassSummary],
    student: Mapping[str, MassSummary],
    curve: DetectorCurve,
    thresholds: Thresholds,
) -> dict[str, Any]:
    """All numbers of the analysis by name, as plain JSON.

    Args:
      by_class: λ by kind of token.
      student: the student's own item mass by kind of token; empty for a run without one.
      curve: the hard gate as a detector.
      thresholds: the values of η at which it is reported.
    """
    return {
        "num_steps": curve.num_steps,
        "num_item_steps": curve.num_items,
        **lambda_means(by_class),
        **{f"student_{name}": value for name, value in lambda_means(student).items()},
        "paper": dict(GATE_MEANS),
        "percentiles": list(PERCENTILES),
        "lambda_by_class": _plain(by_class),
        "student_by_class": _plain(student),
        "average_precision": curve.average_precision,
        "base_rate": curve.base_rate,
        "detector": _plain(reported_detections(curve, thresholds)),
        "detector_at": [dataclasses.asdict(curve.at(eta)) for eta in sorted(thresholds.others)],
    }


def token_class_table(
    by_class: Mapping[str, MassSummary], student: Mapping[str, MassSummary], title: str
) -> Table:
    """A table of λ by kind of token, the paper's two means beside it.

    Args:
      by_class: λ by kind of token.
      student: the student's own item mass by kind of token; empty for a run without one.
      title: of the run.
    """
    table = Table(title=f"λ by token, {title}", box=box.SIMPLE_HEAD)
    table.add_column("gold token")
    for name in ("tokens", "mean λ", "quartiles", *(["student"] if student else []), "paper"):
        table.add_column(name, justify="right")
    for name, summary in by_class.items():
        is_item = name == CLASSES[ITEM]
        table.add_row(
            f"{name} (λ_r)" if is_item else name,
            f"{summary.count:,}",
            f"{summary.mean:.3f}",
            " ".join(f"{value:.3f}" for value in summary.percentiles[1:4]),
            *([f"{student[name].mean:.3f}"] if student else []),
            f"{GATE_MEANS['lambda_r']:.3f}" if is_item else "–",
        )
    means = lambda_means(by_class)
    if "lambda_v" in means:
        table.add_row(
            "all but items (λ_v)",
            f"{sum(s.count for n, s in by_class.items() if n != CLASSES[ITEM]):,}",
            f"{means['lambda_v']:.3f}",
            "",
            *([f"{lambda_means(student)['lambda_v']:.3f}"] if student else []),
            f"{GATE_MEANS['lambda_v']:.3f}",
        )
    return table


def detector_table(curve: DetectorCurve, thresholds: Thresholds) -> Table:
    """A table of the hard gate at a few thresholds, those with a name first."""
    table = Table(
        title=f"λ ≥ η finds item steps: average precision {curve.average_precision:.3f}, "
        f"by chance {curve.base_rate:.3f}",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("threshold")
    for name in ("η", "precision", "recall", "F1", "steps that fire"):
        table.add_column(name, justify="right")
    named = reported_detections(curve, thresholds)
    rows = [(THRESHOLD_TITLES[name], found) for name, found in named.items()]
    rows += [("", curve.at(eta)) for eta in sorted(thresholds.others)]
    for title, found in rows:
        table.add_row(
            title,
            f"{found.eta:.3f}",
            "–" if found.precision is None else f"{found.precision:.3f}",
            f"{found.recall:.3f}",
            f"{found.f1:.3f}",
            f"{found.fired:.1%}",
        )
    return table


def _plain(named: Mapping[str, MassSummary | Detection]) -> dict[str, dict[str, Any]]:
    return {name: dataclasses.asdict(value) for name, value in named.items()}
