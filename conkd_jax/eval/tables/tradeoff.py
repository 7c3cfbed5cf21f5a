"""Fluency against diversity of one run that was decoded in several ways: document and figure.

Points of one strategy are joined in the order of the value that was varied. This module decodes and
judges nothing (`stages.systems.judging` does).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from matplotlib.axes import Axes

from conkd_jax.config.parts import SearchConfig
from conkd_jax.eval.figures.drawing import figure_file
from conkd_jax.eval.figures.palette import BLUE, GREEN, INK, VERMILION
from conkd_jax.eval.figures.style import drawable
from conkd_jax.eval.tables.table import Column, Layout, ResultTable, Row, number_cell

GREEDY, REFERENCES = "greedy", "references"
STYLES = {"temperature": (BLUE, "o"), "top_p": (VERMILION, "s"), "beam_width": (GREEN, "^")}
NAMES = {"temperature": "temperature", "top_p": "top-p", "beam_width": "beams"}
PANELS = {"dist-2": "DIST-2", "f1@10": "F1@10"}
X = "judge_ppl_word"
COLUMNS = (
    Column("judge PPL", "judge_ppl", None, digits=1),
    Column("words", "judge_ppl_word", None, digits=1),
    *(Column(f"DIST-{n}", f"dist-{n}", None) for n in (1, 2, 3, 4)),
    Column("length", "generated_length", None, digits=1),
    Column("Rec Ratio", "rec_ratio", None),
    Column("F1@10", "f1@10", None),
)


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to decode.

    Attributes:
      field: the field of `config.decode` that is varied, or `GREEDY`.
      value: its value; 0 for greedy decoding.
      search: all fields.
    """

    field: str
    value: float
    search: SearchConfig

    @property
    def label(self) -> str:
        """Its name in tables."""
        return GREEDY if self.field == GREEDY else f"{NAMES[self.field]} {self.value:g}"


def ways(
    temperatures: Sequence[float], top_ps: Sequence[float], widths: Sequence[int], seed: int = 0
) -> list[Way]:
    """Greedy decoding, then each value by itself: sampling with all else at 1, and beams."""
    drawn = SearchConfig(strategy="sample", seed=seed)
    return [
        Way(GREEDY, 0.0, SearchConfig()),
        *(
            Way("temperature", value, dataclasses.replace(drawn, temperature=value))
            for value in sorted(set(temperatures))
        ),
        *(
            Way("top_p", value, dataclasses.replace(drawn, top_p=value))
            for value in sorted(set(top_ps))
        ),
        *(
            Way("beam_width", float(width), SearchConfig(strategy="beam", beam_width=width))
            for width in sorted(set(widths))
        ),
    ]


def tradeoff_document(
    points: Mapping[Way, Mapping[str, float]],
    references: Mapping[str, float],
    *,
    facts: Mapping[str, Any],
    command: str,
    machine: Mapping | str,
) -> dict[str, Any]:
    """The numbers as plain JSON, unrounded.

    Args:
      points: metrics by way.
      references: the same metrics of the references.
      facts: which run, split and judge.
      command: the command that was run.
      machine: the machine that it ran on.
    """
    return {
        **facts,
        "points": [
            {
                "label": way.label,
                "field": way.field,
                "value": way.value,
                "decode": dataclasses.asdict(way.search),
                "metrics": dict(metrics),
            }
            for way, metrics in points.items()
        ],
        REFERENCES: dict(references),
        "command": command,
        "machine": machine,
    }


def tradeoff_table(document: Mapping[str, Any]) -> ResultTable:
    """The document as a table, with the references last."""
    layout = Layout(
        f"{document['run']}, {document['n_responses']:,} responses of {document['split']}",
        COLUMNS,
        "judge PPL: perplexity of the generated text under the run's dialogue teacher; words: the "
        "same over tokens that are no items.",
        row_title="decoding",
    )

    def row(label: str, metrics: Mapping[str, float]) -> Row:
        return Row(label, tuple(number_cell(each, metrics.get(each.metric)) for each in COLUMNS))

    ours = tuple(row(point["label"], point["metrics"]) for point in document["points"])
    return ResultTable(layout, (ours, (row(REFERENCES, document[REFERENCES]),)))


def draw_tradeoff(document: Mapping[str, Any], path: epath.PathLike) -> None:
    """Draws DIST-2 and F1@10 over the perplexity of generated words under the judge.

    Args:
      document: what `tradeoff_document` returned.
      path: where the PNG goes.
    """
    title = f"Fluency and diversity of {document['run']} on {document['split']}"
    with figure_file(path, (9.6, 4.0), title=title, style={"axes.grid.axis": "both"}) as figure:
        axes = figure.subplots(1, len(PANELS), sharex=True)
        for ax, (metric, name) in zip(axes, PANELS.items(), strict=True):
            for field, (color, marker) in STYLES.items():
                points = [p for p in document["points"] if p["field"] == field]
                _draw_line(ax, points, metric, color, marker, NAMES[field])
            for point in document["points"]:
                if point["field"] == GREEDY:
                    _draw_mark(ax, point["metrics"], metric, GREEDY, "*", color=INK)
            _draw_mark(ax, document[REFERENCES], metric, REFERENCES, "D", color=INK)
            ax.set_xscale("log")
            ax.set_xlabel("perplexity of generated words under the dialogue teacher")
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_formatter("{x:g}")
            ax.tick_params(axis="x", which="both", labelsize=8)
            ax.set_title(name)
            ax.margins(y=0.15)
            ax.set_ylim(bottom=0)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)


def _draw_line(
    ax: Axes, points: Sequence[Mapping], metric: str, color: str, marker: str, label: str
) -> None:
    found = [point for point in points if metric in point["metrics"]]
    xs, ys = ([point["metrics"][name] for point in found] for name in (X, metric))
    ax.plot(xs, ys, marker=marker, color=color, linewidth=1.5, markersize=5, label=label)
    for point, x, y in zip(found, xs, ys, strict=True):
        ax.annotate(
            f"{point['value']:g}",
            (x, y),
            xytext=(4, 4),
            textcoords="offset points",
            fontsize=7,
            color=color,
        )


def _draw_mark(
    ax: Axes, metrics: Mapping[str, float], metric: str, label: str, marker: str, *, color: str
) -> None:
    if metric in metrics:
        ax.plot(
            [metrics[X]],
            [metrics[metric]],
            marker,
            color=color,
            markersize=9 if marker == "*" else 6,
            label=drawable(label),
        )
