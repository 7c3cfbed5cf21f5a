"""What the judgements say: a mean for each system and scale, how sure it is, how much people agree.

Arithmetic over arrays of scores, and its table; it knows no sheet and no file. The paper's human
scores (Table 3) stand beside ours wherever a system's config has a row there.
"""

from __future__ import annotations

from collections.abc import Mapping

import krippendorff
import numpy as np
from jaxtyping import Float

from conkd_jax.eval.human.sheets import Judgements
from conkd_jax.eval.human.study import SCALES, Study, System
from conkd_jax.eval.metrics.bootstrap import bootstrap_intervals
from conkd_jax.eval.metrics.statistics import RunStatistics
from conkd_jax.eval.tables import paper

AVERAGE = "human_average"
METRICS = (*(scale.metric for scale in SCALES), AVERAGE)


def score(study: Study, judgements: Judgements) -> dict:
    """Everything that is reported of a study, as plain JSON.

    A system's score on a scale is the mean over contexts and annotators; its average is the mean of
    the three. Intervals are 95 % bootstrap intervals over contexts, those of one dialogue drawn
    together (`metrics.bootstrap`).

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
    """Krippendorff's α for ordered categories: 1 - D_o / D_e, the observed disagreement over the
    one that chance would give.

    Args:
      scores: of each annotator for each unit; nan where there is none.

    Returns:
      1 where all agree, about 0 where they agree as by chance, below that where they disagree
      more; None where it isn't defined: no unit that two annotators judged, or one score only in
      all judgements.

    Source: Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011; the package krippendorff
      computes it.
    """
    paired = scores[:, (~np.isnan(scores)).sum(0) > 1]
    if len(np.unique(paired[~np.isnan(paired)])) < 2:
        return None
    return float(krippendorff.alpha(reliability_data=paired, level_of_measurement="ordinal"))


def _statistics(study: Study, scores: np.ndarray) -> RunStatistics:
    """Sums and counts of each context, for one system's [annotators, contexts, scales] scores."""
    by_scale = scores.sum(0).astype(float)  # [contexts, scales]
    sums = np.column_stack([by_scale, by_scale.sum(1)])
    counts = np.full(sums.shape, float(len(scores)))
    counts[:, -1] *= len(SCALES)
    return RunStatistics.of_responses(
        study.contexts, METRICS, sums, counts, totals={"contexts": len(sums)}
    )


def _paper_row(system: System) -> dict | None:
    """The paper's human scores of the same system; none on another corpus."""
    on_redial = system.corpus == "redial"
    row = paper.paper_row(system.config, system.backbone) if on_redial else None
    if row is None or AVERAGE not in row.metrics:
        return None
    return {"name": row.name, "metrics": {metric: row.metrics[metric] for metric in METRICS}}


# --- the table -------------------------------------------------------------------------------


def markdown(document: Mapping) -> str:
    """What `score` gave, as a table of systems and one of agreement."""
    systems = document["systems"]
    heads = [*(scale.title for scale in SCALES), "Average"]
    parts = [
        "# Human evaluation",
        f"{len(systems)} systems on the same {document['num_contexts']} contexts, judged by "
        f"{len(document['annotators'])} of {document['num_annotators']} annotators: "
        f"{document['num_judgements']:,} judgements on each scale, from 0 to 2. In brackets: "
        "95 % bootstrap intervals over contexts, those of one dialogue drawn together.",
    ]
    rows = [["system", *heads, "judged"]]
    for system in systems:
        cells = [
            f"{system['metrics'][m]:.3f} [{low:.3f}, {high:.3f}]"
            for m, (low, high) in ((m, system["intervals"][m]) for m in METRICS)
        ]
        rows.append([f"`{system['name']}`", *cells, f"{system['num_judgements']:,}"])
    found = {s["paper"]["name"]: s["paper"]["metrics"] for s in systems if s["paper"]}
    for name, metrics in found.items():
        rows.append([f"paper: {name}", *(f"{metrics[m]:.3f}" for m in METRICS), "–"])
    parts.append(_table(rows))
    if found:
        parts.append(
            "Rows of the paper: its Table 3, ReDial's test split, 100 responses a system, other "
            "annotators. Such scores compare systems within one study, hardly across studies."
        )
    parts.append("## Agreement")
    alphas = ["–" if value is None else f"{value:.3f}" for value in document["alpha"].values()]
    parts.append(_table([["", *heads[:-1]], ["Krippendorff's α (ordinal)", *alphas]]))
    if "–" in alphas:
        parts.append("–: not defined, for want of a second annotator or of a second score.")
    return "\n\n".join(parts) + "\n"


def _table(rows: list[list[str]]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    escaped.insert(1, ["---", *("---:" for _ in rows[0][1:])])
    return "\n".join("| " + " | ".join(row) + " |" for row in escaped)
