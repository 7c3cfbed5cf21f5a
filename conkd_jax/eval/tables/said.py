"""How much of what the recommender knows is said: ReR@10 of systems over their R@10, as a figure.

R@10 is the recall of a system's own recommender, ReR@10 that of its responses, over the same gold
items. Ours are read from Table 1; of the paper's systems, it gives both numbers for three.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from etils import epath

from conkd_jax.eval.document import SYNTHETIC, Document
from conkd_jax.eval.figures.drawing import figure_file
from conkd_jax.eval.figures.palette import BLUE, GREY, INK
from conkd_jax.eval.figures.style import MARGIN, drawable, short_number
from conkd_jax.eval.tables.build import build_table
from conkd_jax.eval.tables.paper import SYSTEMS
from conkd_jax.eval.tables.table import TableError

TABLE, K = "1", 10
LIGHT = 0.3  # opacity of what the recommender knows


@dataclasses.dataclass(frozen=True)
class Said:
    """What a system says of what its recommender knows; means over seeds.

    Attributes:
      label: the row of the system.
      is_paper: whether it is a row of the paper.
      recall: R@10.
      rer: ReR@10.
      share: ReR@10 / R@10, the mean of the ratios.
    """

    label: str
    is_paper: bool
    recall: float
    rer: float
    share: float


def said_of_known(documents: Sequence[Document]) -> list[Said]:
    """Returns every system with both numbers, by their ratio: ours, then those of the paper.

    Raises:
      TableError: the documents can't stand in one table, or none has both numbers.
    """
    table = build_table(TABLE, documents)
    metrics = [column.metric for column in table.layout.columns]
    places = [metrics.index(f"{name}@{K}") for name in ("recall", "rer", "kept")]
    found = []
    for row in (row for group in table.groups for row in group if not row.is_paper):
        recall, rer, share = (row.cells[place].value for place in places)
        if recall is not None and rer is not None and share is not None:
            found.append(Said(row.label, False, recall, rer, share))
    if not found:
        raise TableError(f"--said: expected runs with recall@{K} and rer@{K}, got none.")
    is_real = documents[0]["preset"] != SYNTHETIC
    for row in SYSTEMS.values() if is_real else ():
        recall, rer = (row.metrics.get(f"{name}@{K}") for name in ("recall", "rer"))
        if recall is not None and rer is not None:
            found.append(Said(f"paper: {row.name}", True, recall, rer, rer / recall))
    return sorted(found, key=lambda each: (each.is_paper, -each.share))


def said_document(said: Sequence[Said], documents: Sequence[Document], *, command: str) -> dict:
    """The numbers of the figure as plain JSON.

    Args:
      said: what `said_of_known` returned.
      documents: the runs.
      command: the command that was run.
    """
    systems: list[dict[str, Any]] = [
        {
            "label": each.label,
            "is_paper": each.is_paper,
            f"recall@{K}": each.recall,
            f"rer@{K}": each.rer,
            f"rer@{K}/recall@{K}": each.share,
        }
        for each in said
    ]
    first = documents[0]
    return {
        "systems": systems,
        "preset": first["preset"],
        "split": first["split"],
        "n_responses": first["n_responses"],
        "command": command,
    }


def draw_said(said: Sequence[Said], path: epath.PathLike) -> None:
    """Draws a bar for each system: R@10 light, and ReR@10, which is part of it, dark.

    Args:
      said: what `said_of_known` returned.
      path: where the PNG goes.
    """
    num_ours = sum(not each.is_paper for each in said)
    places = [at + 0.6 * (at >= num_ours) for at in range(len(said))]
    labels = max(len(each.label) for each in said) * 0.075
    size = (labels + 4.6 + MARGIN, 0.25 * len(said) + 1.2)
    title = "How much of what the recommender knows is said"
    with figure_file(path, size, title=title, style={"axes.grid.axis": "x"}) as figure:
        ax = figure.subplots()
        for each, place in zip(said, places, strict=True):
            color = GREY if each.is_paper else BLUE
            ax.barh(place, each.recall, 0.74, color=color, alpha=LIGHT)
            ax.barh(place, each.rer, 0.74, color=color)
            for text, x, ink in (
                (f"{each.share:.0%}", each.recall, INK),
                (short_number(each.rer), each.rer, INK),
            ):
                ax.annotate(
                    text,
                    (x, place),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                    color=ink,
                    fontweight="bold" if text.endswith("%") else None,
                )
        ax.set_yticks(places, [drawable(each.label) for each in said], fontsize=9)
        ax.set_ylim(places[-1] + 0.6, -0.6)  # the first on top
        ax.margins(x=0.1)
        ax.tick_params(axis="y", length=0)
        ax.set_title(
            f"light: R@{K}, the recommender alone; dark: ReR@{K}, in responses; bold: their ratio",
            fontsize=9,
        )
