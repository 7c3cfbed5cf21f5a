"""The analysis of a run's gate on one split: computed, written into a folder, shown as tables.

Uses the arrays of an evaluation (`tokens.npz`); needs no model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from rich.table import Table

from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.errors import UserError
from conkd_jax.eval.gate.detector import DetectorCurve, detector_curve
from conkd_jax.eval.gate.figures import (
    draw_detector_curves,
    draw_gate_traces,
    draw_token_class_boxes,
)
from conkd_jax.eval.gate.report import (
    Thresholds,
    detector_table,
    gate_document,
    token_class_table,
)
from conkd_jax.eval.gate.token_classes import MassSummary, mass_by_class, token_classes
from conkd_jax.eval.gate.traces import GateTrace
from conkd_jax.io.files import write_json

DOCUMENT = "gate.json"


class GateAnalysisError(UserError):
    """A split on which the gate can't be analysed."""


@dataclasses.dataclass(frozen=True)
class GateAnalysis:
    """The analysis of a run's gate on one split.

    Attributes:
      title: the run and the split, for figures and tables.
      by_class: λ by kind of token.
      student: the student's item mass by kind of token; empty for a run without a student.
      curve: the hard gate as a detector of item steps.
      thresholds: the values of η at which the detector is reported.
    """

    title: str
    by_class: Mapping[str, MassSummary]
    student: Mapping[str, MassSummary]
    curve: DetectorCurve
    thresholds: Thresholds

    def tables(self) -> tuple[Table, Table]:
        """Tables of λ by kind of token and of the detector at a few thresholds, for a terminal."""
        return (
            token_class_table(self.by_class, self.student, self.title),
            detector_table(self.curve, self.thresholds),
        )


def analyse_gate(
    tokens: Mapping[str, np.ndarray],
    vocabulary: Vocabulary,
    *,
    title: str,
    thresholds: Thresholds,
    has_student: bool,
) -> GateAnalysis:
    """Analyses the gate on the gold tokens of a split.

    Args:
      tokens: the arrays of the evaluation's `tokens.npz`.
      vocabulary: the vocabulary of the tokens.
      title: the run and the split.
      thresholds: the values of η at which the hard gate is reported as a detector.
      has_student: whether `item_mass` is a student's; otherwise it is the dialogue teacher's.

    Raises:
      GateAnalysisError: the split has no items.
    """
    chosen = tokens.get("is_choice", slice(None))  # of item-first rows: not in their texts
    mass = tokens["teacher_item_mass"][chosen]
    texts = [vocabulary.render([word]) for word in range(vocabulary.num_words)]
    classes = token_classes(
        tokens["targets"], tokens["response_index"], texts, end_id=vocabulary.end_id
    )[chosen]
    try:
        curve = detector_curve(mass, tokens["is_item"][chosen])
    except ValueError as error:
        raise GateAnalysisError(f"{title}: {error}") from error
    return GateAnalysis(
        title=title,
        by_class=mass_by_class(mass, classes),
        student=mass_by_class(tokens["item_mass"][chosen], classes) if has_student else {},
        curve=curve,
        thresholds=thresholds,
    )


def write_gate_analysis(
    folder: epath.Path,
    analysis: GateAnalysis,
    identity: Mapping[str, Any],
    traces: Mapping[str, Sequence[GateTrace]],
) -> None:
    """Writes the numbers, two figures, and each group of traces as a figure and as JSON.

    Args:
      folder: the folder; created if it is missing.
      analysis: the result of `analyse_gate`.
      identity: the fields that identify the run, which come first in the document.
      traces: groups of traces by file name, without extension.
    """
    folder.mkdir(parents=True, exist_ok=True)
    title, eta, curve = analysis.title, analysis.thresholds.run, analysis.curve
    found = gate_document(analysis.by_class, analysis.student, curve, analysis.thresholds)
    write_json(folder / DOCUMENT, {**identity, **found})
    draw_detector_curves(
        curve, folder / "gate_validity.png", eta=eta, title=f"λ finds items: {title}"
    )
    draw_token_class_boxes(
        analysis.by_class, folder / "gate_by_class.png", eta=eta, title=f"λ by token: {title}"
    )
    for stem, panels in traces.items():
        draw_gate_traces(panels, folder / f"{stem}.png", eta=eta, title=title)
        write_json(folder / f"{stem}.json", {"traces": [dataclasses.asdict(one) for one in panels]})
