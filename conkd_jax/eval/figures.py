"""The figures of a run: curves of a training, the gate at work, and metrics beside the paper's.

Each function takes plain numbers and a path and draws one PNG. Nothing here reads a run or computes
a metric; `drawing` says what all figures look like, and `table_figures` draws whole tables.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from etils import epath
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from conkd_jax.eval.drawing import (
    BLUE,
    GREY,
    INK,
    MARGIN,
    STYLE,
    VERMILION,
    drawable,
    finish,
    short_number,
    shortened,
)
from conkd_jax.eval.matching import Number


@dataclasses.dataclass(frozen=True)
class GateTrace:
    """λ_t along one response.

    Attributes:
      title: what the panel is of.
      tokens: the response's tokens, readable, items as titles.
      gate: λ_t at each token.
      is_item: whether the token is an item.
    """

    title: str
    tokens: Sequence[str]
    gate: Sequence[Number]
    is_item: Sequence[bool]

    def __post_init__(self):
        if not 0 < len(self.tokens) == len(self.gate) == len(self.is_item):
            raise ValueError(
                f"gate trace {self.title!r}: expected as many tokens, λ and item marks, at least "
                f"one each, got {len(self.tokens)}, {len(self.gate)} and {len(self.is_item)}"
            )


def loss_curves(
    history: Sequence[Mapping[str, Number]],
    path: epath.PathLike,
    *,
    title: str = "",
    best_step: int | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """One small panel a metric over the steps of a training, its last value written at its end.

    Args:
      history: lines of `history.jsonl`: a "step" and any metrics, not all in every line.
      path: where the PNG goes.
      title: of the whole figure.
      best_step: the step that was kept; marked where given.
      names: which metrics, in order; by default all of them, "loss" first.

    Raises:
      ValueError: if the history holds none of them.
    """
    series = _series(history, names)
    if not series:
        raise ValueError(f"loss curves: expected metrics {names or ''} in the history, got none")
    columns = min(3, len(series))
    rows = math.ceil(len(series) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * columns + MARGIN, 2.5 * rows + MARGIN))
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
        for ax, (name, (steps, values)) in zip(axes, series.items(), strict=False):
            is_dev = name.startswith(("dev", "valid"))
            color = VERMILION if is_dev else BLUE
            marker = "o" if len(steps) <= 25 else None
            ax.plot(steps, values, color=color, linewidth=1.8, marker=marker, markersize=3.5)
            ax.set_title(drawable(name))
            _note_last(ax, steps, values, color)
            if best_step is not None:
                ax.axvline(best_step, color=GREY, linestyle=":", linewidth=1.2)
        last = max(steps[-1] for steps, _ in series.values())
        axes[0].set_xlim(0, 1.26 * last or 1)  # shared; room for the last values
        for ax in axes[len(series) :]:
            ax.remove()
        for ax in axes[: len(series)][-columns:]:
            ax.set_xlabel("step")
            ax.tick_params(labelbottom=True)
        if best_step is not None:
            axes[0].set_title(f"dotted: kept, step {best_step:,}", loc="right", fontsize=8)
        finish(figure, title, path)


def gate_traces(
    traces: Sequence[GateTrace], path: epath.PathLike, *, eta: float | None = None, title: str = ""
) -> None:
    """λ_t along some responses, one panel under the other; item steps stand out in colour.

    Args:
      traces: the responses, one a panel.
      path: where the PNG goes.
      eta: threshold of the hard gate, drawn as a line where given.
      title: of the whole figure.
    """
    if not traces:
        raise ValueError("gate traces: expected at least one response, got none")
    longest = max(len(trace.tokens) for trace in traces)
    size = (max(6.0, 0.44 * longest + 1.2), 2.35 * len(traces) + MARGIN)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size)
        axes = figure.subplots(len(traces), 1, squeeze=False).ravel()
        for ax, trace in zip(axes, traces, strict=True):
            _draw_trace(ax, trace, longest, eta)
        finish(figure, title, path)


def gate_histograms(
    item_gate: Float[np.ndarray, " item_steps"],
    word_gate: Float[np.ndarray, " word_steps"],
    path: epath.PathLike,
    *,
    eta: float | None = None,
    title: str = "",
) -> None:
    """How λ is spread on item steps and on word steps, with its means and the hard gate's
    threshold.

    Args:
      item_gate, word_gate: λ_t of the dialogue teacher where the gold token is an item, or a word.
      path: where the PNG goes.
      eta: threshold of the hard gate; the share of steps at or above it is written where given.
      title: of the whole figure.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 4.4))
        axes = figure.subplots(2, 1, sharex=True)
        panels = (
            ("item steps", "λᵣ", item_gate, VERMILION),
            ("word steps", "λᵥ", word_gate, BLUE),
        )
        for ax, (name, symbol, gate, color) in zip(axes, panels, strict=True):
            note = f"{gate.size:,} {name}"
            if gate.size:
                shares = np.full(gate.size, 100.0 / gate.size)
                ax.hist(gate, np.linspace(0, 1, 41), weights=shares, color=color, edgecolor="white")
                note += f", mean {symbol} = {gate.mean():.3f}"
                if eta is not None:
                    note += f", {(gate >= eta).mean():.1%} at or above η"
            ax.set_title(note)
            ax.set_ylabel("% of steps")
            ax.set_xlim(0, 1)
            if eta is not None:
                ax.axvline(eta, color=INK, linestyle="--", linewidth=1.2)
        if eta is not None:
            _label_line(axes[0], eta)
        axes[1].set_xlabel("λ, the probability that the teacher gives to items")
        finish(figure, title, path)


def metric_bars(
    ours: Mapping[str, Number],
    path: epath.PathLike,
    *,
    paper: Mapping[str, Number] | None = None,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    names: tuple[str, str] = ("this run", "paper"),
    families: Sequence[str] = ("rer", "prr", "f1"),
    title: str = "",
) -> None:
    """Bars of each family's metrics at k = 1, 10, 50, ours beside the paper's, values written on
    them.

    Args:
      ours, paper: flat names and values, such as "f1@10".
      path: where the PNG goes.
      intervals: 95 % intervals of ours, drawn as whiskers.
      names: what the two are called.
      families: what stands before "@"; one panel each, left out where we have none of it.
      title: of the whole figure.

    Raises:
      ValueError: if we have none of the families.
    """
    paper, intervals = paper or {}, intervals or {}
    panels = {family: [k for k in (1, 10, 50) if f"{family}@{k}" in ours] for family in families}
    panels = {family: ks for family, ks in panels.items() if ks}
    if not panels:
        raise ValueError(f"metric bars: expected some of {list(families)}, got {list(ours)}")
    labels = {"rer": "ReR@k", "prr": "PrR@k", "f1": "F1@k", "recall": "Recall@k (recommender)"}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.3 * len(panels) + 0.6, 3.4))
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=True).ravel()
        for ax, (family, ks) in zip(axes, panels.items(), strict=True):
            _draw_bars(ax, [f"{family}@{k}" for k in ks], ours, paper, intervals)
            ax.set_xticks(range(len(ks)), [f"@{k}" for k in ks])
            ax.set_title(labels.get(family, family))
            ax.tick_params(length=0)
        axes[0].margins(y=0.12)
        if paper:
            _name_bars(figure, names)
        finish(figure, title, path)


def _series(history, names) -> dict[str, tuple[list, list]]:
    found: dict[str, tuple[list, list]] = {}
    for line in history:
        for name, value in line.items():
            if name != "step" and math.isfinite(value):
                steps, values = found.setdefault(name, ([], []))
                steps.append(line["step"])
                values.append(value)
    if names is None:
        names = sorted(found, key=lambda name: (name != "loss", name != "dev_loss"))
    return {name: found[name] for name in names if name in found}


def _note_last(ax: Axes, steps: list, values: list, color: str) -> None:
    ax.annotate(
        f"{values[-1]:,.0f}" if abs(values[-1]) >= 1000 else f"{values[-1]:.3g}",
        (steps[-1], values[-1]),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        color=color,
        fontweight="bold",
        annotation_clip=False,
    )
    ax.margins(y=0.15)


def _draw_trace(ax: Axes, trace: GateTrace, longest: int, eta: float | None) -> None:
    places = np.arange(len(trace.tokens))
    colors = [VERMILION if is_item else BLUE for is_item in trace.is_item]
    ax.vlines(places, 0, trace.gate, colors=colors, linewidth=2.2)
    ax.scatter(places, trace.gate, c=colors, s=34, zorder=3, clip_on=False)
    for place, gate, is_item in zip(places, trace.gate, trace.is_item, strict=True):
        if is_item:
            ax.annotate(
                f"{gate:.2f}",
                (place, gate),
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
                color=VERMILION,
                fontsize=9,
                fontweight="bold",
            )
    labels = [shortened(drawable(token)) for token in trace.tokens]
    ax.set_xticks(places, labels, rotation=38, ha="right", rotation_mode="anchor", fontsize=9)
    for label, color, is_item in zip(ax.get_xticklabels(), colors, trace.is_item, strict=True):
        if is_item:
            label.set(color=color, fontweight="bold")
    ax.set_xlim(-0.6, longest - 0.4)
    ax.set_ylim(0, 1.2)
    ax.set_yticks((0, 0.5, 1))
    ax.set_ylabel("λ", rotation=0, va="center", labelpad=8)
    ax.tick_params(axis="x", length=0)
    ax.set_title(drawable(trace.title), pad=8)
    if eta is not None:
        ax.axhline(eta, color=INK, linestyle="--", linewidth=1)
        ax.text(longest - 0.35, eta, f"η = {eta:.3g}", va="center", fontsize=9, clip_on=False)


def _label_line(ax: Axes, eta: float) -> None:
    is_right = eta > 0.8
    ax.annotate(
        f"η = {eta:.3g}",
        (eta, 0.93),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if is_right else 5, 0),
        textcoords="offset points",
        ha="right" if is_right else "left",
        va="center",
    )


def _draw_bars(ax: Axes, metrics: Sequence[str], ours, paper, intervals) -> None:
    width = 0.38 if paper else 0.6
    for place, name in enumerate(metrics):
        bars = [(place - (width / 2 if paper else 0), ours[name], BLUE)]
        if name in paper:
            bars.append((place + width / 2, paper[name], GREY))
        for x, value, color in bars:
            low, high = intervals.get(name, (value, value)) if color == BLUE else (value, value)
            ax.bar(x, value, width * 0.92, color=color)
            if high > low:
                whisker = [[max(0.0, value - low)], [max(0.0, high - value)]]
                ax.errorbar(x, value, whisker, color=INK, linewidth=1.2, capsize=2.5)
            ax.annotate(
                short_number(value),
                (x, max(high, value)),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )


def _name_bars(figure: Figure, names: tuple[str, str]) -> None:
    figure.legend(
        [Patch(color=BLUE), Patch(color=GREY)],
        [drawable(name) for name in names],
        loc="outside lower center",
        ncols=2,
        frameon=False,
    )
