"""docs/benchmarks.md and its figures, made from what the benchmarks have written.

`python -m benchmarks --page` rewrites what stands between the page's markers, one pair for each
program. Where a program has not run yet, the page says how to run it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator

from benchmarks import decode, kd_head, scale
from benchmarks.report import TOKEN, Bound, entry_name, entry_value
from conkd_jax.eval.figures.drawing import figure_file
from conkd_jax.eval.figures.palette import BLUE, GREEN, GREY, INK, PURPLE, VERMILION
from conkd_jax.io.files import parse_json, write_whole

PAGE, RESULTS, FIGURES = "docs/benchmarks.md", "docs/results/benchmarks", "docs/figures/benchmarks"
ABSENT = "–"
MEBIBYTE = 2**20
MOST_INSIDE = 5  # lines whose legend has room between them
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, GREY, INK)

Document = Mapping[str, Any]


def write(checkout: Path, programs: Sequence[str]) -> None:
    """Rewrites the page and draws the figures of all programs that have run."""
    documents = read(checkout, programs)
    text = (checkout / PAGE).read_text(encoding="utf-8")
    write_whole(checkout / PAGE, page_of(text, programs, documents))
    for name, draw in DRAWINGS.items():
        if name in documents:
            (checkout / FIGURES).mkdir(parents=True, exist_ok=True)
            draw(checkout / FIGURES / f"{name}.png", documents[name])


def read(checkout: Path, programs: Sequence[str]) -> dict[str, Document]:
    """The documents of all programs that have run."""
    files = {name: checkout / RESULTS / f"{name}.json" for name in programs}
    return {
        name: parse_json(file.read_text(encoding="utf-8"))
        for name, file in files.items()
        if file.exists()
    }


def page_of(text: str, programs: Sequence[str], documents: Mapping[str, Document]) -> str:
    """The page with new contents between its markers.

    Args:
      text: the page as it is, Markdown.
      programs: for each of which the page has `<!-- name -->` and `<!-- /name -->`.
      documents: what those that have run have written.

    Raises:
      ValueError: the page lacks the place for a program.
    """
    parts = {"targets": targets_table(documents)}
    for name in programs:
        parts[name] = section(name, documents.get(name))
    for name, content in parts.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S)
        if len(place.findall(text)) != 1:
            raise ValueError(f"expected '<!-- {name} -->' and '<!-- /{name} -->' once in {PAGE}.")
        text = place.sub(lambda found, content=content: found[1] + content + "\n" + found[2], text)
    return text


# --- tables ----------------------------------------------------------------------------------


def targets_table(documents: Mapping[str, Document]) -> str:
    """All targets and whether they are met."""
    rows = []
    for name, document in documents.items():
        for case, entry in _entries(document):
            if "bound" in entry:
                bound = Bound(**entry["bound"])
                value = f"{entry['value']:.3g}" if "value" in entry else entry["absent"]
                stretch = ABSENT if bound.stretch is None else f"{bound.stretch:g}"
                met = {True: "met", False: "**missed**", None: ABSENT}[entry.get("is_met")]
                measured = f"{case}: {entry_name(entry)}"
                rows.append([f"`{name}`", measured, value, str(bound), stretch, met])
    if not rows:
        return "Nothing has been measured on an idle machine yet."
    header = ["program", "measure", "value", "target", "stretch", ""]
    return grid(header, rows)


def section(name: str, document: Document | None) -> str:
    """The tables of one program, and its figure."""
    command = f"python -m benchmarks.{name} --json={RESULTS}/{name}.json"
    if document is None:
        return f"Not measured on an idle machine yet:\n\n    {command}"
    parts = [f"*{_machine(document)}; `{document['command']}`.*"]
    if name in DRAWINGS:
        figure = f"{FIGURES.removeprefix('docs/')}/{name}.png"
        parts.insert(0, f"![{ALTERNATIVES[name]}]({figure})")
    if name in TABLES:
        return "\n\n".join([*parts, TABLES[name](document)])
    for case in document["cases"]:
        facts = ", ".join(f"{key} {_number(value)}" for key, value in case["facts"].items())
        parts.append(f"**{case['case']}**: {facts}")
        if case["contenders"]:
            parts.append(_contenders(case["contenders"]))
        if entries := [*case["ratios"], *case["numbers"]]:
            rows = [[entry_name(entry), entry_value(entry)] for entry in entries]
            parts.append(grid(["ratio or number", "value"], rows))
    return "\n\n".join(parts)


def grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; a bar within a cell is escaped, so that it does not end the cell."""
    lines = [header, ["---"] * len(header), *rows]
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _contenders(found: Mapping[str, Any]) -> str:
    columns: dict[str, Callable[[Any], str]] = {
        "median ms": lambda v: f"{1e3 * v['seconds']['median']:.4g}",
        "min ms": lambda v: f"{1e3 * v['seconds']['min']:.4g}",
        "ms a token": lambda v: f"{1e3 * v[TOKEN]['min']:.4g}",
        "peak MiB": lambda v: f"{v['peak_bytes'] / MEBIBYTE:.0f}",
        "XLA's MiB": lambda v: f"{v['planned_bytes'] / MEBIBYTE:.0f}",
        "difference": lambda v: ABSENT if v["difference"] is None else f"{v['difference']:.0e}",
    }

    def cell(values: Mapping[str, Any], written: Callable[[Any], str]) -> str:
        try:
            return written(values)
        except KeyError:
            return ABSENT

    cells = {
        name: [cell(values, written) for written in columns.values()]
        for name, values in found.items()
    }
    used = [any(row[k] != ABSENT for row in cells.values()) for k in range(len(columns))]
    rows = []
    for name, row in cells.items():
        shown = [value for value, is_used in zip(row, used, strict=True) if is_used]
        if "absent" in found[name]:
            shown[0] = found[name]["absent"]
        rows.append([name, *shown])
    titles = [title for title, is_used in zip(columns, used, strict=True) if is_used]
    return grid(["contender", *titles], rows)


def _entries(document: Document) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for case in document.get("cases", ()):
        for entry in (*case["ratios"], *case["numbers"]):
            yield case["case"], entry


def _machine(document: Document) -> str:
    machine = document["machine"]
    used = f"{machine['processors_used']} of {machine['processors']} processors"
    load = f"load average {machine['load_before']} before"
    return f"{used} ({machine['processor']}), {load}, {machine['date']}"


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


# --- figures ---------------------------------------------------------------------------------


def draw_kd_head(path: Path, document: Document) -> None:
    """Time and memory against the number of tokens, at the paper's size."""
    cases = [case for case in document["cases"] if case["facts"]["F"] == 768]
    with figure_file(path, (9.0, 5.0)) as figure:
        axes = figure.subplots(1, 2)
        time = _by_contender(cases, "N", lambda v: v["seconds"]["min"])
        _lines(axes[0], time, "tokens N", "seconds, forward and backward")
        memory = _by_contender(cases, "N", lambda v: v["peak_bytes"] / 2**30)
        planned = _by_contender(cases, "N", lambda v: v["planned_bytes"] / 2**30)
        ours = kd_head.FROM_FEATURES
        if ours in planned:
            memory[f"{ours}, XLA's account"] = planned[ours]
        _lines(axes[1], memory, "tokens N", "GiB beyond the inputs")


def draw_teacher_store(path: Path, document: Document) -> None:
    """Bytes a token against the error of the stored distribution."""
    with figure_file(path, (9.0, 3.6)) as figure:
        axes = figure.subplots(1, len(document["cases"]), squeeze=False)[0]
        for axis, case in zip(axes, document["cases"], strict=True):
            for colour, (name, form) in zip(COLOURS, case["forms"].items(), strict=False):
                error = max(form["total_variation"], 1e-7)
                axis.loglog(form["bytes_per_token"], error, "o", color=colour, label=name)
            axis.set_title(f"Y = {case['facts']['Y']:,}")
            axis.set_xlabel("bytes a token")
            axis.set_ylabel("total variation distance")
        axes[-1].legend(fontsize=7)


def draw_decode(path: Path, document: Document) -> None:
    """The time of a token against the length of the prompt and the size of the batch."""
    single = decode.label_of("", 1)
    with figure_file(path, (12.0, 4.2)) as figure:
        axes = figure.subplots(1, 3)
        for axis, model in zip(axes, ("mini", "small"), strict=False):
            cases = [case for case in document["cases"] if case["case"].startswith(model)]
            times = _by_contender(cases, "prompt", lambda v: 1e3 * v[TOKEN]["min"])
            alone = {k.removesuffix(single): v for k, v in times.items() if k.endswith(single)}
            _lines(axis, alone, "tokens of the prompt", "ms a token")
            axis.set_title(f"{model}, batch 1")
        batched: dict[str, list[tuple[float, float]]] = {}
        for name, values in document["cases"][0]["contenders"].items():
            if TOKEN in values:
                who, _, size = name.rpartition(", batch ")
                batched.setdefault(who, []).append((int(size), 1e3 * values[TOKEN]["min"]))
        _lines(axes[2], batched, "responses in a batch", "ms a step")
        axes[2].set_title("mini, prompt 64")


def draw_scale(path: Path, document: Document) -> None:
    """Time and memory of each part against items, nodes or dialogues."""
    grown = list(dict.fromkeys(part["grows_with"] for part in document["parts"].values()))
    measures = {"seconds": ("seconds", 1), "peak_bytes": ("GiB", 2**30)}
    with figure_file(path, (12.0, 6.4)) as figure:
        axes = figure.subplots(len(measures), len(grown), squeeze=False)
        for row, (measure, (unit, divisor)) in zip(axes, measures.items(), strict=True):
            for axis, grows_with in zip(row, grown, strict=True):
                points = {
                    name: [(each["size"], each[measure] / divisor) for each in part["measured"]]
                    for name, part in document["parts"].items()
                    if part["grows_with"] == grows_with
                }
                _lines(axis, points, grows_with, unit)


def _by_contender(
    cases: Iterable[Mapping[str, Any]], fact: str, value: Callable[[Any], float]
) -> dict[str, list[tuple[float, float]]]:
    """Points (fact of the case, value) of each contender that has the value."""
    found: dict[str, list[tuple[float, float]]] = {}
    for case in cases:
        for name, values in case["contenders"].items():
            try:
                found.setdefault(name, []).append((case["facts"][fact], value(values)))
            except KeyError:
                continue  # not measured here
    return {name: points for name, points in found.items() if points}


def _lines(axis: Axes, points: Mapping[str, Any], x_label: str, y_label: str) -> None:
    for place, (name, line) in enumerate(points.items()):
        style = "o-" if place < len(COLOURS) else "s--"
        axis.loglog(*zip(*sorted(line), strict=True), style, color=COLOURS[place % 6], label=name)
    ticks = sorted({x for line in points.values() for x, _ in line})
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.minorticks_off()
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    if len(points) <= MOST_INSIDE:
        axis.legend(fontsize=6)
    else:
        axis.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)


TABLES = {"scale": scale.markdown}  # of programs whose documents have no cases
DRAWINGS = {
    "kd_head": draw_kd_head,
    "teacher_store": draw_teacher_store,
    "decode": draw_decode,
    "scale": draw_scale,
}
ALTERNATIVES = {
    "kd_head": "time and memory of the head against the number of tokens",
    "teacher_store": "error of the stored distribution against bytes a token",
    "decode": "milliseconds a token against prompt length and batch size",
    "scale": "time and memory of each part against items, nodes and dialogues",
}
