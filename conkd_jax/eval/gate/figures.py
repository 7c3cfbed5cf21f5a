"""Figures of the gate: along responses, over all steps, by kind of token, at every threshold.

Each function takes plain numbers and a path and draws one PNG; `token_classes` and `detector` make
the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath
from jaxtyping import Float
from matplotlib.axes import Axes

from conkd_jax.eval.figures.drawing import figure_file
from conkd_jax.eval.figures.palette import BLUE, GREEN, GREY, INK, PURPLE, VERMILION
from conkd_jax.eval.figures.style import MARGIN, drawable, eta_text, short_number, shortened
from conkd_jax.eval.gate.detector import DetectorCurve
from conkd_jax.eval.gate.token_classes import CLASSES, ITEM, MassSummary
from conkd_jax.eval.gate.traces import GateTrace

LEAST_MASS = 1e-5  # where the logarithmic axis of λ begins
TICKS = {LEAST_MASS: "≤ .00001", 1e-4: ".0001", 1e-3: ".001", 1e-2: ".01", 1e-1: ".1", 1.0: "1"}
LABELLED_MASS = 0.25  # λ of a word is written beside its mark from here on; that of an item always


def draw_gate_traces(
    traces: Sequence[GateTrace], path: epath.PathLike, *, eta: float | None = None, title: str = ""
) -> None:
    """Draws λ_t along some responses, one panel below the other, item steps in another colour.

    A student's own item mass, where a trace has it, is a hollow mark beside λ.

    Args:
      traces: the responses, one a panel.
      path: where the PNG goes.
      eta: threshold of the hard gate, drawn as a line where given.
      title: of the whole figure.

    Raises:
      ValueError: there is no trace.
    """
    if not traces:
        raise ValueError("gate traces: expected at least one response, got none")
    longest = max(len(trace.tokens) for trace in traces)
    size = (max(6.0, 0.44 * longest + 1.2), 2.35 * len(traces) + MARGIN)
    with figure_file(path, size, title=title) as figure:
        axes = figure.subplots(len(traces), 1, squeeze=False).ravel()
        for ax, trace in zip(axes, traces, strict=True):
            _draw_trace(ax, trace, longest, eta)


def draw_gate_histograms(
    item_gate: Float[np.ndarray, " item_steps"],
    word_gate: Float[np.ndarray, " word_steps"],
    path: epath.PathLike,
    *,
    eta: float | None = None,
    title: str = "",
) -> None:
    """Draws histograms of λ on item steps and on word steps, with means and the threshold.

    Args:
      item_gate: λ_t of the dialogue teacher where the gold token is an item.
      word_gate: λ_t where it is a word.
      path: where the PNG goes.
      eta: threshold of the hard gate; the share of steps at or above it is written where given.
      title: of the whole figure.
    """
    with figure_file(path, (6.8, 4.4), title=title) as figure:
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


def draw_detector_curves(
    curve: DetectorCurve,
    path: epath.PathLike,
    *,
    eta: float | None = None,
    title: str = "",
) -> None:
    """Draws precision, recall and F1 of "λ ≥ η" over η, and the share of steps that fire.

    Args:
      curve: the exact curve.
      path: where the PNG goes.
      eta: the run's threshold, drawn as a line where given; that of the best F1 always is.
      title: of the whole figure.
    """
    best = curve.at(curve.best_eta())
    edges = np.concatenate([[0.0], curve.thresholds, [1.0]])
    series = {
        "precision": (edges[:-1], curve.precision, BLUE),
        "recall": (edges, np.append(curve.recall, 0.0), GREEN),
        "F1": (edges, np.append(curve.f1, 0.0), VERMILION),
        "steps that fire": (edges, np.append(curve.fired_share, 0.0), GREY),
    }
    with figure_file(path, (6.8, 4.2), title=title) as figure:
        ax = figure.subplots()
        for name, (x, values, color) in series.items():
            # entry k holds up to and including thresholds[k]
            ax.step(x, np.append(values[0], values), where="pre", color=color, label=name)
        marks = [(best.eta, f"best η = {eta_text(best.eta)}, F1 {short_number(best.f1)}", ":")]
        if eta is not None:
            found = curve.at(eta)
            marks.append((eta, f"η = {eta_text(eta)}, F1 {short_number(found.f1)}", "--"))
        for place, label, line in marks:
            ax.axvline(place, color=INK, linestyle=line, linewidth=1.2, label=label)
        ax.axhline(curve.base_rate, color=PURPLE, linewidth=1, label="share of item steps")
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1.02)
        ax.set_xlabel("η, the threshold on λ")
        ax.set_title(f"average precision {short_number(curve.average_precision)}")
        figure.legend(loc="outside right upper", frameon=False, fontsize=9)


def draw_token_class_boxes(
    by_class: Mapping[str, MassSummary],
    path: epath.PathLike,
    *,
    eta: float | None = None,
    title: str = "",
) -> None:
    """Draws λ by kind of token on a logarithmic axis: quartiles, 5 % to 95 %, and the mean.

    Args:
      by_class: the result of `token_classes.mass_by_class`.
      path: where the PNG goes.
      eta: threshold of the hard gate, drawn as a line where given.
      title: of the whole figure.

    Raises:
      ValueError: there is no class.
    """
    if not by_class:
        raise ValueError("boxes of λ: expected at least one class of tokens, got none")
    boxes = []
    for summary in by_class.values():
        low, first, median, third, high = np.maximum(summary.percentiles, LEAST_MASS)
        box = {"whislo": low, "q1": first, "med": median, "q3": third, "whishi": high}
        boxes.append(box | {"mean": max(summary.mean, LEAST_MASS)})
    with figure_file(path, (6.8, 0.62 * len(boxes) + 1.3), title=title) as figure:
        ax = figure.subplots()
        ax.set_xscale("log")
        ax.grid(visible=False, axis="y")
        ax.grid(visible=True, axis="x")
        drawn = ax.bxp(
            boxes,
            orientation="horizontal",
            positions=range(len(boxes)),
            widths=0.5,
            showfliers=False,
            showmeans=True,
            patch_artist=True,
            medianprops={"color": INK, "linewidth": 1.6},
            meanprops={"marker": "D", "markerfacecolor": "white", "markeredgecolor": INK},
        )
        for patch, name in zip(drawn["boxes"], by_class, strict=True):
            patch.set(facecolor=VERMILION if name == CLASSES[ITEM] else BLUE, edgecolor=INK)
        labels = [f"{name}\n{summary.count:,}" for name, summary in by_class.items()]
        ax.set_yticks(range(len(boxes)), labels)
        ax.tick_params(axis="y", length=0)
        ax.invert_yaxis()
        ax.set_xticks(list(TICKS), list(TICKS.values()))
        ax.set_xlim(LEAST_MASS, 1)
        for place, summary in enumerate(by_class.values()):
            ax.text(1.15, place, f"mean {summary.mean:.2g}", va="center", fontsize=9)
        if eta is not None:
            ax.axvline(eta, color=INK, linestyle="--", linewidth=1.2)
            ax.set_title(f"η = {eta_text(eta)}", loc="right", fontsize=9)
        ax.set_xlabel("λ; box: quartiles, whiskers: 5 % to 95 %, ◇ mean")


def _draw_trace(ax: Axes, trace: GateTrace, longest: int, eta: float | None) -> None:
    places = np.arange(len(trace.tokens))
    colors = [VERMILION if is_item else BLUE for is_item in trace.is_item]
    ax.vlines(places, 0, trace.gate, colors=colors, linewidth=2.2)
    ax.scatter(places, trace.gate, c=colors, s=34, zorder=3, clip_on=False)
    for place, gate, is_item in zip(places, trace.gate, trace.is_item, strict=True):
        if is_item or gate >= LABELLED_MASS:
            ax.annotate(
                f"{gate:.2f}",
                (place, gate),
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
                color=VERMILION if is_item else BLUE,
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
    ax.set_title(shortened(drawable(trace.title), max(64, 5 * longest)), pad=8)
    if trace.student is not None:
        ax.scatter(
            places + 0.22,
            trace.student,
            marker="D",
            s=20,
            facecolors="none",
            edgecolors=GREEN,
            zorder=3,
            clip_on=False,
        )
        name = drawable(trace.student_name or "student")
        ax.set_title(f"◇ {name}", loc="right", fontsize=8, color=GREEN, pad=8)
    if eta is not None:
        ax.axhline(eta, color=INK, linestyle="--", linewidth=1)
        ax.text(longest - 0.35, eta, f"η = {eta_text(eta)}", va="center", fontsize=9, clip_on=False)


def _label_line(ax: Axes, eta: float) -> None:
    is_right = eta > 0.8
    ax.annotate(
        f"η = {eta_text(eta)}",
        (eta, 0.93),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if is_right else 5, 0),
        textcoords="offset points",
        ha="right" if is_right else "left",
        va="center",
    )
