"""Learning curves of several runs: a figure, the points, and a summary of 80 columns.

Rows of a table have colours, and markers where colours repeat; lengths of training have line
styles. Everything comes from the field "learning" of metrics.json.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from conkd_jax.eval.document import Document, document_label, seeds_label
from conkd_jax.eval.figures.drawing import figure_file
from conkd_jax.eval.figures.palette import BLUE, GREEN, GREY, INK, PURPLE, VERMILION
from conkd_jax.eval.figures.style import drawable
from conkd_jax.eval.learning import LEARNING, Learning
from conkd_jax.eval.tables.sections import printed_number
from conkd_jax.eval.tables.table import TableError

COLORS = (BLUE, VERMILION, GREEN, PURPLE, INK, GREY)
MARKERS = (None, "s", "^")  # of the second and the third set of rows, where colours repeat
MOST_ROWS = len(COLORS) * len(MARKERS)
STYLES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (1, 3)), (0, (6, 2, 1, 2, 1, 2)))
LENGTHS = ("dialogue_teacher.epochs", "student.epochs")  # these tell curves apart, not rows
ITEM_PERPLEXITY = "ppl_item"
PANELS = {  # scores, in their order, with their titles
    "tf_hit@10": "hit@10",
    "tf_hit@50": "hit@50",
    "nll": "NLL, all tokens",
    "nll_word": "NLL, words",
    "nll_item": "NLL, items",
    ITEM_PERPLEXITY: "perplexity, items",
}
COLUMNS = 3
LEGEND: Mapping[str, Any] = {"frameon": False, "fontsize": 9}
Look = tuple[str | None, str]  # the marker and the colour of a row
WIDE = 4  # lengths that differ by this factor are drawn on a logarithmic scale


@dataclasses.dataclass(frozen=True)
class Curve:
    """The dev scores of one run over its epochs.

    Attributes:
      row: the row of a table, with its preset; curves of other lengths have the same.
      seeds: its seeds.
      stage: the training whose scores these are: the student's, or without one the teacher's.
      learning: the scores.
    """

    row: str
    seeds: str
    stage: str
    learning: Learning

    @classmethod
    def of(cls, document: Document) -> Curve:
        """The curve of a run's document.

        Raises:
          TableError: it has none, or is not of this version.
        """
        found = document.get(LEARNING) or {}
        stage = "student" if "student" in found else "dialogue_teacher"
        fields = document.get("overrides") or {}
        kept = {name: value for name, value in fields.items() if name not in LENGTHS}
        row = f"{document_label({**document, 'overrides': kept})} ({document['preset']})"
        seeds = seeds_label(document["seed"], document.get("teacher_seed", 0))
        try:
            return cls(row, seeds, stage, Learning.from_dict(found[stage]))
        except (KeyError, TypeError, ValueError) as error:
            raise TableError(
                f"{row}, {seeds}: expected the dev scores of a training in metrics.json, got none. "
                "An earlier version did not record them: run conkd_jax.train again with its "
                "command, which trains nothing and writes its folder anew."
            ) from error

    @property
    def scores(self) -> dict[str, tuple[float, ...]]:
        """The scores, with the perplexity of items, exp(NLL)."""
        found = dict(self.learning.scores)
        return found | {ITEM_PERPLEXITY: tuple(map(math.exp, found["nll_item"]))}


def with_and_without_curves(
    documents: Sequence[Document],
) -> tuple[list[Document], list[str]]:
    """Parts runs by whether they have dev scores, which those of an earlier version lack.

    Args:
      documents: contents of `metrics.json`.

    Returns:
      The runs that have them, and the names of the others.
    """
    found = [document for document in documents if document.get(LEARNING)]
    others = [
        f"{document_label(d)} ({d['preset']}), {seeds_label(d['seed'], d.get('teacher_seed', 0))}"
        for d in documents
        if not d.get(LEARNING)
    ]
    return found, others


def without_curves(names: Sequence[str]) -> list[str]:
    """Says which runs have no dev scores, and how they get them."""
    return [
        "Without dev scores:",
        *(f"  {name}" for name in names),
        "An earlier version did not record them. Run conkd_jax.train again with the",
        "command of the run, which trains nothing and writes its folder anew.",
    ]


def read_curves(documents: Sequence[Document]) -> list[Curve]:
    """The curves of runs, by row and then by length.

    Raises:
      TableError: a run has none, a run comes twice, or there are more rows or lengths than a figure
        can tell apart.
    """
    curves = [Curve.of(document) for document in documents]
    rows = list(dict.fromkeys(curve.row for curve in curves))
    curves.sort(key=lambda curve: (rows.index(curve.row), curve.learning.epochs, curve.seeds))
    for one, other in itertools.pairwise(curves):
        if dataclasses.replace(one, learning=other.learning) == other and (
            one.learning.epochs == other.learning.epochs
        ):
            raise TableError(
                f"{one.row}, {one.learning.epochs} epochs, {one.seeds}: expected each run once, "
                "got two."
            )
    for what, number, most in (
        ("rows", len(rows), MOST_ROWS),
        ("lengths", len(_lengths(curves)), len(STYLES)),
    ):
        if number > most:
            raise TableError(f"--curves: expected at most {most} {what}, got {number}.")
    return curves


def curves_document(curves: Sequence[Curve], *, command: str) -> dict[str, Any]:
    """The points and what they say, as plain JSON.

    Args:
      curves: what `read_curves` returned.
      command: the command that was run.
    """
    return {
        "curves": [
            {"row": curve.row, "seeds": curve.seeds, "stage": curve.stage}
            | curve.learning.to_dict()
            | {"scores": {name: list(values) for name, values in curve.scores.items()}}
            for curve in curves
        ],
        "command": command,
    }


# --- the summary -----------------------------------------------------------------------------


def curves_summary(curves: Sequence[Curve]) -> list[str]:
    """Lines of at most 80 columns: where each curve turns, how it ends, and whether it rises."""
    lines = [
        "Dev scores. lowest, best: the epoch of the lowest NLL, of the best hit@50; kept:",
        "that of the parameters that were kept, unless it is the last.",
    ]
    head = "  epochs  lowest  best    NLL  words  items  item ppl  hit@10  hit@50  end"
    row = ""
    for curve in curves:
        if curve.row != row:
            row = curve.row
            lines += ["", _cut(row, 80), head]
        learning, last = curve.learning, {n: v[-1] for n, v in curve.scores.items()}
        numbers = [
            f"{learning.epochs:8}",
            f"{_epoch(learning.best_nll_at):>8}",
            f"{_epoch(learning.best_hit_at):>6}",
            f"{last['nll']:7.3f}{last['nll_word']:7.3f}{last['nll_item']:7.3f}",
            f"{last[ITEM_PERPLEXITY]:10,.0f}",
            f"{printed_number('', last['tf_hit@10']):>8}{printed_number('', last['tf_hit@50']):>8}",
        ]
        state = {True: "rises", False: "", None: "unknown"}[learning.still_rises]
        lines.append(f"{''.join(numbers)}  {state}".rstrip())
        more = [] if curve.seeds == "seed0" else [curve.seeds]
        more += [f"kept: {_epoch(learning.kept)}"] if learning.kept < learning.at[-1] else []
        lines += [f"{'':10}{', '.join(more)}"] if more else []
    lines += [
        "",
        "rises: hit@50 of the last epoch exceeds the best one of the first three quarters",
        "of training by more than its standard error, sqrt(p (1 - p) / n), over the item",
        "steps of dev.",
    ]
    return lines


def _epoch(number: float) -> str:
    return f"{number:g}" if number == round(number) else f"{number:.1f}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


# --- the figure ------------------------------------------------------------------------------


def draw_curves(curves: Sequence[Curve], path: epath.PathLike, *, title: str = "") -> None:
    """Draws a panel for each score: a colour for each row, a line style for each length.

    The best epoch of each curve is marked in the panels of hit@50 and of the NLL.

    Args:
      curves: what `read_curves` returned.
      path: where the PNG goes.
      title: of the whole figure.
    """
    rows = list(dict.fromkeys(curve.row for curve in curves))
    lengths = _lengths(curves)
    looks = dict(zip(rows, itertools.product(MARKERS, COLORS), strict=False))
    styles = dict(zip(reversed(lengths), STYLES, strict=False))  # the longest is drawn through
    num_lines = math.ceil(len(PANELS) / COLUMNS)
    size = (3.4 * COLUMNS, 2.7 * num_lines + 0.22 * max(len(rows), len(lengths) + 1))
    with figure_file(path, size, title=title) as figure:
        axes = figure.subplots(num_lines, COLUMNS, sharex=True).ravel()
        for ax, (name, panel) in zip(axes, PANELS.items(), strict=True):
            for curve in curves:
                _draw_curve(ax, curve, name, looks[curve.row], styles[curve.learning.epochs])
            ax.set_title(panel)
        if lengths[-1] >= WIDE * lengths[0]:
            axes[0].set_xscale("log", base=2)
            axes[0].xaxis.set_major_formatter("{x:g}")
        for ax in axes[-COLUMNS:]:
            ax.set_xlabel("epochs")
        _explain(figure, looks, styles)


def _draw_curve(ax: Axes, curve: Curve, name: str, look: Look, style: Any) -> None:
    at, values, (marker, color) = curve.learning.at, curve.scores[name], look
    ax.plot(at, values, color=color, linestyle=style, linewidth=1.6, **_marked(marker))
    best = {"tf_hit@50": curve.learning.best_hit_at, "nll": curve.learning.best_nll_at}
    if name in best:
        place = at.index(best[name])
        ax.plot(at[place], values[place], "o", color=color, markersize=4.5)


def _marked(marker: str | None) -> dict[str, Any]:
    """How a line is marked at every epoch: hollow, unlike the best epoch of a curve."""
    return {"marker": marker, "markersize": 5, "markerfacecolor": "white"} if marker else {}


def _explain(figure: Figure, looks: Mapping[str, Look], styles: Mapping[int, Any]) -> None:
    rows = [Line2D([], [], color=c, linewidth=2.5, **_marked(m)) for m, c in looks.values()]
    lines = [Line2D([], [], color=INK, linestyle=styles[n], linewidth=1.6) for n in sorted(styles)]
    lines.append(Line2D([], [], color=INK, marker="o", linestyle="", markersize=4.5))
    names = [f"{n} epoch{'s' if n != 1 else ''}" for n in sorted(styles)]
    figure.legend(rows, [drawable(row) for row in looks], loc="outside lower left", **LEGEND)
    figure.legend(lines, [*names, "best of its curve"], loc="outside lower right", **LEGEND)


def _lengths(curves: Sequence[Curve]) -> list[int]:
    return sorted({curve.learning.epochs for curve in curves})
