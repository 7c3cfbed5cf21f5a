"""Scores of a human evaluation: means with intervals for each system and scale, and agreement.

Arithmetic over arrays of scores, and its table; no sheet and no file is read. The paper's human
scores (Table 3) stand beside ours wherever a system's config names a row there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import krippendorff
import numpy as np
from jaxtyping import Float

from conkd_jax.eval.human.sheets import Judgements
from conkd_jax.eval.human.study import SCALES, Study, System
from conkd_jax.eval.metrics.bootstrap import bootstrap_intervals
from conkd_jax.eval.metrics.statistics import RunStatistics
from conkd_jax.eval.tables.beside import configured_paper_row
from conkd_jax.eval.tables.formats import markdown_grid
from conkd_jax.eval.tables.paper import paper_row
from conkd_jax.eval.tables.table import ABSENT, Cell, Column, Layout, ResultTable, Row, number_cell

AVERAGE = "human_average"
AGREEMENT = "Agreement"  # the title of its table
METRICS = (*(scale.metric for scale in SCALES), AVERAGE)
_COLUMNS = tuple(Column(scale.title, scale.metric) for scale in SCALES)


def score_study(study: Study, judgements: Judgements) -> dict:
    """Returns everything that is reported of a study, as plain JSON.

    A system's score on a scale is the mean over contexts and annotators; its average is the mean of
    the three. Intervals are 95 % bootstrap intervals over contexts, those of one dialogue drawn
    together (`eval.metrics.bootstrap`).

    Source: Appendix E and Table 3.
    """
    num_annotators, num_contexts, num_systems, _ = judgements.scores.shape
    systems = []
    for place, system in enumerate(study.systems):
        statistics = _statistics(study, judgements.scores[:, :, place])
        row = _paper_row(system)
        systems.append(
            {
                "name": system.name,
                "config": system.config,
                "predictions_sha256": system.sha256,
                "num_judgements": num_annotators * num_contexts,
                "metrics": statistics.metrics(),
                "intervals": {k: list(pair) for k, pair in bootstrap_intervals(statistics).items()},
                "paper": row,
            }
        )
    # A unit is one response: [annotators, contexts · systems] for each scale.
    units = judgements.scores.reshape(num_annotators, num_contexts * num_systems, len(SCALES))
    return {
        "study": study.id,
        "seed": study.seed,
        "num_contexts": num_contexts,
        "num_annotators": len(study.sheets),
        "annotators": list(judgements.annotators),
        "num_judgements": num_annotators * num_contexts * num_systems,
        "systems": systems,
        "alpha": {
            scale.metric: ordinal_alpha(units[..., place].astype(float))
            for place, scale in enumerate(SCALES)
        },
    }


def ordinal_alpha(scores: Float[np.ndarray, "annotators units"]) -> float | None:
    """Returns Krippendorff's α for ordered categories.

    α = 1 - D_o / D_e, where D_o is the observed disagreement and D_e the disagreement by chance.

    Args:
      scores: the score of each annotator for each unit; nan where there is none.

    Returns:
      1 for full agreement, about 0 for agreement by chance, negative for less than that; None where
      α is not defined: no unit was judged by two annotators, or all judgements are the same score.

    Source: Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011; the package krippendorff
      computes it.
    """
    paired = scores[:, (~np.isnan(scores)).sum(0) > 1]
    if len(np.unique(paired[~np.isnan(paired)])) < 2:
        return None
    return float(krippendorff.alpha(reliability_data=paired, level_of_measurement="ordinal"))


def _statistics(study: Study, scores: np.ndarray) -> RunStatistics:
    """Returns sums and counts of each context for one system.

    Args:
      study: the study.
      scores: the system's scores, [annotators, contexts, scales].
    """
    by_scale = scores.sum(0).astype(float)  # [contexts, scales]
    sums = np.column_stack([by_scale, by_scale.sum(1)])
    counts = np.full(sums.shape, float(len(scores)))
    counts[:, -1] *= len(SCALES)
    return RunStatistics.of_responses(
        study.contexts, METRICS, sums, counts, totals={"contexts": len(sums)}
    )


def _paper_row(system: System) -> dict | None:
    """Returns the paper's human scores of the same system; None on another corpus."""
    if system.corpus != "redial":
        return None
    row = paper_row(configured_paper_row(system.config, "paper", system.backbone), system.backbone)
    if row is None or AVERAGE not in row.metrics:
        return None
    return {"name": row.name, "metrics": {metric: row.metrics[metric] for metric in METRICS}}


# --- the table -------------------------------------------------------------------------------


def scores_markdown(document: Mapping) -> str:
    """Returns what `score_study` returned as two Markdown tables: systems, and agreement."""
    parts = ["# Human evaluation"]
    for part in score_parts(document):
        if isinstance(part, str):
            parts.append(part)
            continue
        parts += ["## Agreement"] if part.layout.title == AGREEMENT else []
        parts.append(markdown_grid(part))
    return "\n\n".join(parts) + "\n"


def score_parts(document: Mapping) -> list[str | ResultTable]:
    """Returns what `score_study` returned as sentences and two tables, in the order of reading."""
    systems = document["systems"]
    parts: list[str | ResultTable] = [
        f"{len(systems)} systems on the same {document['num_contexts']} contexts, judged by "
        f"{len(document['annotators'])} of {document['num_annotators']} annotators: "
        f"{document['num_judgements']:,} judgements on each scale, from 0 to 2. In brackets: "
        "95 % bootstrap intervals over contexts, those of one dialogue drawn together.",
        _systems_table(systems),
    ]
    if any(system["paper"] for system in systems):
        parts.append(
            "Rows of the paper: its Table 3, ReDial's test split, 100 responses a system, other "
            "annotators. Such scores compare systems within one study, hardly across studies."
        )
    parts.append(_agreement_table(document["alpha"]))
    if None in document["alpha"].values():
        parts.append(
            f"{ABSENT}: not defined, because there is no second annotator or no second score."
        )
    return parts


def _systems_table(systems: Sequence[Mapping]) -> ResultTable:
    columns = (*_COLUMNS, Column("Average", AVERAGE))
    ours = []
    for system in systems:
        cells = []
        for column in columns:
            mean, (low, high) = system["metrics"][column.metric], system["intervals"][column.metric]
            cells.append(Cell(f"{mean:.3f} [{low:.3f}, {high:.3f}]", value=mean))
        ours.append(Row(system["name"], (*cells, Cell(f"{system['num_judgements']:,}"))))
    found = {system["paper"]["name"]: system["paper"] for system in systems if system["paper"]}
    theirs = [
        Row(
            f"paper: {name}",
            (*(number_cell(each, row["metrics"][each.metric]) for each in columns), Cell(ABSENT)),
            is_paper=True,
        )
        for name, row in found.items()
    ]
    layout = Layout("Scores", (*columns, Column("judged", "num_judgements")), row_title="system")
    return ResultTable(layout, (tuple(ours), tuple(theirs)))


def _agreement_table(alpha: Mapping[str, float | None]) -> ResultTable:
    cells = tuple(number_cell(column, alpha[column.metric]) for column in _COLUMNS)
    # The label is no name of a run, so it is written as the paper's are, without backticks.
    row = Row("Krippendorff's α (ordinal)", cells, is_paper=True)
    return ResultTable(Layout(AGREEMENT, _COLUMNS), ((row,),))
