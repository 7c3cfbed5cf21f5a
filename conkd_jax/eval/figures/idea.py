"""The figures of docs/idea.md, from the numbers that `conkd_jax.idea` measures at one response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from matplotlib.axes import Axes

from conkd_jax.eval.figures.drawing import figure_file
from conkd_jax.eval.figures.palette import BLUE, GREEN, GREY, INK, PURPLE, VERMILION
from conkd_jax.eval.figures.style import drawable, eta_text, shortened
from conkd_jax.eval.gate.figures import draw_gate_traces
from conkd_jax.eval.gate.traces import GateTrace

FIGURES = ("idea_teachers.png", "idea_gate.png", "idea_hard_soft.png", "idea_student.png")
BARS = 6


def draw_idea(document: Mapping[str, Any], folder: epath.Path) -> None:
    """Draws `FIGURES` into a folder.

    Args:
      document: the content of a file that `conkd_jax.idea --json` wrote.
      folder: where they go; it is created.
    """
    folder.mkdir(parents=True, exist_ok=True)
    teachers, gate, hard_soft, student = (folder / name for name in FIGURES)
    _draw_teachers(document, teachers)
    trace = GateTrace(
        title="",
        tokens=document["tokens"],
        gate=document["item_mass"],
        is_item=document["is_item"],
        student=document["student_item_mass"],
        student_name="the student's own item mass",
    )
    draw_gate_traces([trace], gate, eta=document["eta"], title="The gate along a response")
    _draw_hard_and_soft(document, hard_soft)
    _draw_student(document, student)


def _best(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return sorted(document["targets"], key=lambda target: -target[name])[:BARS]


def _said_before(document: Mapping[str, Any]) -> str:
    return "".join(document["tokens"][: document["place"]]).strip()


def _draw_teachers(document: Mapping[str, Any], path: epath.Path) -> None:
    title = f"Which token comes next?  “{_said_before(document)} …”"
    with figure_file(path, (9.2, 3.0), title=title) as figure:
        panels = (("dialogue_teacher", "the language model says"), ("recommender", "recommender"))
        for ax, (name, label) in zip(figure.subplots(1, 2), panels, strict=True):
            best = _best(document, name)
            _bars(ax, best, [target[name] for target in best])
            ax.set_title(label if name == "dialogue_teacher" else f"the {label} says")


def _bars(ax: Axes, targets: Sequence[Mapping[str, Any]], values: Sequence[float]) -> None:
    """Horizontal bars: items in one colour, words in another, the gold target in bold."""
    places = np.arange(len(targets))
    ax.barh(places, values, color=[VERMILION if each["is_item"] else BLUE for each in targets])
    ax.set_yticks(places, [_label(each) for each in targets])
    for tick, target in zip(ax.get_yticklabels(), targets, strict=True):
        tick.set_fontweight("bold" if target["is_gold"] else "normal")
    for place, value in zip(places, values, strict=True):
        ax.annotate(
            f"{value:.3f}", (value, place), xytext=(4, 0), textcoords="offset points", va="center"
        )
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(0, 1.25 * max(values))
    ax.set_xlabel("probability")


def _label(target: Mapping[str, Any]) -> str:
    text = drawable(target["text"])
    return shortened(text, 30) if target["is_item"] else f"“{text}”"


def _draw_hard_and_soft(document: Mapping[str, Any], path: epath.Path) -> None:
    eta, mass = document["eta"], np.array(document["item_mass"])
    is_item = np.array(document["is_item"])
    grid = np.linspace(0, 1, 501)
    curves = (("hard", (grid >= eta).astype(float)), ("soft", grid))
    with figure_file(path, (7.6, 3.2), title="What each gate makes of the item mass") as figure:
        for ax, (name, curve) in zip(figure.subplots(1, 2, sharey=True), curves, strict=True):
            gate = np.array(document["gates"][name])
            ax.plot(grid, curve, color=GREY, linewidth=1.4)
            for of_items, color, label in ((True, VERMILION, "an item"), (False, BLUE, "a word")):
                chosen = is_item == of_items
                ax.scatter(
                    mass[chosen], gate[chosen], color=color, label=label, zorder=3, clip_on=False
                )
            number = "eq. 6" if name == "hard" else "eq. 7"
            ax.set_title(f"{name} gate ({number})")
            ax.set_xlabel("item mass of the dialogue teacher")
            ax.set_xlim(0, 1)
            ax.set_ylim(-0.04, 1.06)
        hard, soft = figure.axes
        hard.axvline(eta, color=INK, linestyle="--", linewidth=1)
        hard.annotate(f"η = {eta_text(eta)}", (eta + 0.02, 0.5), va="center")
        hard.set_ylabel("weight λ of the recommender")
        soft.legend(loc="lower right", frameon=False, title="the reference has")


def _draw_student(document: Mapping[str, Any], path: epath.Path) -> None:
    """The best targets of the mixture: what it is made of, and what the student says."""
    best = _best(document, "hard_target")
    series = (
        ("dialogue_teacher", "dialogue teacher", BLUE),
        ("recommender", "recommender", PURPLE),
        ("hard_target", "target, as in training", GREY),
        ("student", "student, trained", GREEN),
    )
    with figure_file(path, (8.2, 4.4), title="What the student learns there") as figure:
        ax = figure.subplots()
        height = 0.8 / len(series)
        for number, (name, label, color) in enumerate(series):
            places = np.arange(len(best)) + (number - (len(series) - 1) / 2) * height
            ax.barh(places, [each[name] for each in best], height, color=color, label=label)
        ax.set_yticks(np.arange(len(best)), [_label(each) for each in best])
        for tick, target in zip(ax.get_yticklabels(), best, strict=True):
            tick.set_fontweight("bold" if target["is_gold"] else "normal")
        ax.invert_yaxis()
        ax.grid(visible=False, axis="y")
        ax.tick_params(axis="y", length=0)
        ax.set_xscale("symlog", linthresh=0.01)
        ticks = (0, 0.01, 0.1, 1)
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.set_xlim(0, 1)
        ax.set_xlabel("probability (logarithmic from .01 on)")
        ax.legend(loc="lower right", frameon=False)
