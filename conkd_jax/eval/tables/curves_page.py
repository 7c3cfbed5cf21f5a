"""Learning curves on a page: a figure, and for each system what dev said when its training ended.

Made from the JSON file that `python -m conkd_jax.tables --curves … --json=FILE` wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from conkd_jax.eval.document import Document, document_label
from conkd_jax.eval.learning import HIT, NLL, Learning
from conkd_jax.eval.tables.sections import printed_number
from conkd_jax.eval.tables.table import ABSENT, TableError

TITLE = "Dev scores over the epochs"
HEAD = (
    *("", "epochs", "NLL lowest after", "NLL", "in the last epoch", "hit@10", "hit@50"),
    *("NLL still fell", "hit@50 still rose"),
)
NOTE = (
    "The last evaluation of every training, on dev. NLL: per token, which compares systems with "
    "the same words only; in the last epoch: its change. NLL still fell: the last one is the "
    "lowest. hit@k: the gold item among the k best, at the item steps of references; hit@50 still "
    "rose: it exceeds the best of the first three quarters of training by more than its standard "
    "error. Students keep their last step, the others that of the lowest NLL."
)


def curves_section(points: Mapping[str, Any], figure: str, systems: Sequence[Document]) -> str:
    """Returns the section in Markdown.

    Args:
      points: what `curves_document` returned.
      figure: link to the figure of these curves.
      systems: the runs of the page; curves of others are left out.

    Raises:
      TableError: `points` is anything else.
    """
    labels = {f"{document_label(run)} ({run['preset']})": document_label(run) for run in systems}
    try:
        curves = [
            (each["row"], each["seeds"], Learning.from_dict(each)) for each in points["curves"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise TableError(
            f"learning curves: expected the JSON of `conkd_jax.tables --curves`: {error!r}"
        ) from error
    lines = [
        _line(f"`{labels[row]}`" + ("" if seeds == "seed0" else f" {seeds}"), learning)
        for row, seeds, learning in curves
        if row in labels
    ]
    without = [label for row, label in labels.items() if row not in {row for row, _, _ in curves}]
    grid = [HEAD, ("---", *("---:" for _ in HEAD[1:])), *lines]
    parts = [
        f"**{TITLE}.** {NOTE}",
        "\n".join("| " + " | ".join(line) + " |" for line in grid),
        f"![{TITLE}]({figure})",
    ]
    if without:
        names = ", ".join(f"`{label}`" for label in without)
        parts.append(f"Without curves, since they were not recorded in training: {names}.")
    return "\n\n".join(parts)


def _line(label: str, learning: Learning) -> tuple[str, ...]:
    *earlier, last = learning.scores[NLL]
    change = f"{last - earlier[-1]:+.3f}".replace("-", "−") if earlier else ABSENT
    said = {True: "yes", False: "no", None: ABSENT}
    return (
        label,
        str(learning.epochs),
        f"{learning.best_nll_at:g}",
        f"{last:.3f}",
        change,
        printed_number("", learning.scores["tf_hit@10"][-1]),
        printed_number("", learning.scores[HIT][-1]),
        said[learning.nll_still_falls],
        said[learning.still_rises],
    )
