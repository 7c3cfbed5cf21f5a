"""Responses of one or more systems to the same histories, side by side: the paper's Tables 7 and 9.

Chooses responses by a rule, never by eye, and writes them for a terminal, as Markdown and as LaTeX.
It measures nothing. What it prints of ReDial is for reading, and is never committed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from conkd_jax.eval.predictions import ContextTurn, Prediction

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~])")
_MENTION = re.compile(r"@(\d+)")
HEAD = ("", "turn", "response", "items, most probable first")


@dataclasses.dataclass(frozen=True)
class Line:
    """One row of a sample.

    Attributes:
      label: the system, "reference" or "recommender alone".
      turn_type: "rec" or "gen", as the system took the turn; "–" where it doesn't say.
      text: the response, items as `@id`.
      candidates: at each item step, the most probable items and whether each is gold.
    """

    label: str
    turn_type: str
    text: str
    candidates: tuple[tuple[tuple[int, bool], ...], ...] = ()


@dataclasses.dataclass(frozen=True)
class Sample:
    """One history with all the answers to it: the reference, the systems, the recommender."""

    conversation_id: str
    turn: int
    context: tuple[ContextTurn, ...]
    lines: tuple[Line, ...]


def side_by_side(
    systems: Mapping[str, Sequence[Prediction]],
    *,
    num_samples: int,
    num_candidates: int = 3,
    with_items: bool = False,
) -> tuple[list[Sample], int]:
    """Responses to the same histories, spread evenly over the split, not picked.

    Args:
      systems: predictions of each system by its name; the first one's order counts.
      num_samples: how many histories.
      num_candidates: how many of the most probable items to show at each item step.
      with_items: only histories whose reference names an item.

    Returns:
      The samples, and how many histories there were to choose from.

    Raises:
      ValueError: if there is no system, or no such response that all systems answered.
    """
    by_key = {name: {p.key: p for p in predictions} for name, predictions in systems.items()}
    if not by_key:
        raise ValueError("samples: expected predictions of at least one system, got none")
    first, *others = by_key.values()
    keys = [
        key
        for key, prediction in first.items()
        if all(key in other for other in others) and (prediction.reference_items or not with_items)
    ]
    if not keys:
        raise ValueError(
            f"samples: expected responses that all of {list(systems)} answered, got none"
        )
    count = min(num_samples, len(keys))
    chosen = [keys[i * len(keys) // count] for i in range(count)]
    found = []
    for key in chosen:
        answers = {name: predictions[key] for name, predictions in by_key.items()}
        found.append(_sample(answers, num_candidates))
    return found, len(keys)


def samples_md(
    systems: Mapping[str, Sequence[Prediction]],
    titles: Mapping[int, str],
    *,
    num_samples: int = 12,
    num_candidates: int = 3,
) -> str:
    """`samples.md` of a run: Markdown of responses spread over the split.

    Args:
      systems, num_samples, num_candidates: as of `side_by_side`.
      titles: title of each item; an item without one stays `@id`.
    """
    chosen, total = side_by_side(systems, num_samples=num_samples, num_candidates=num_candidates)
    said = f"{len(chosen)} of {total:,} responses, spread evenly over the split."
    return f"# Samples\n\n{said}\n\n{markdown(chosen, titles)}"


def markdown(samples: Sequence[Sample], titles: Mapping[int, str]) -> str:
    """A heading, the history as a quotation, and a table of answers for each sample."""
    parts = []
    for number, sample in enumerate(samples, start=1):
        where = f"Conversation {_markdown_text(sample.conversation_id)}, turn {sample.turn}"
        lines = [f"## {number}. {where}", ""]
        for turn in sample.context:
            said = _rendered(turn.text, titles, _markdown_text, "*{}*")
            lines += [f"> **{turn.role.capitalize()}** {said}", ">"]
        if sample.context:
            lines[-1] = ""
        lines += [_row(HEAD), "|---|---|---|---|"]
        for line in sample.lines:
            lines.append(_row(_cells(line, titles, _markdown_text, "*{}*")))
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def terminal(samples: Sequence[Sample], titles: Mapping[int, str]) -> RenderableType:
    """The samples for rich to print."""
    parts: list[RenderableType] = []
    for number, sample in enumerate(samples, start=1):
        parts.append(
            Text(f"{number}. Conversation {sample.conversation_id}, turn {sample.turn}", "bold")
        )
        for turn in sample.context:
            said = _rendered(turn.text, titles, str, "{}")
            parts.append(Text.assemble((f"{turn.role.capitalize()}: ", "dim"), said))
        table = Table(box=box.SIMPLE_HEAD)
        for title in HEAD:
            table.add_column(title)
        for line in sample.lines:
            table.add_row(*(Text(cell) for cell in _cells(line, titles, str, "{}")))
        parts.append(table)
    return Group(*parts)


def latex(
    samples: Sequence[Sample], titles: Mapping[int, str], escaped: Callable[[str], str]
) -> str:
    """A `table*` a sample; it needs the package booktabs.

    Args:
      samples, titles: what to write.
      escaped: plain text as LaTeX.
    """
    parts = []
    for sample in samples:
        lines = [
            r"\begin{table*}[t]  % needs \usepackage{booktabs}",
            r"\centering\small",
            r"\begin{tabular}{lp{0.45\textwidth}p{0.3\textwidth}}",
            r"\toprule",
        ]
        for turn in sample.context:
            said = _rendered(turn.text, titles, escaped, r"\emph{{{}}}")
            lines.append(rf"{turn.role} & \multicolumn{{2}}{{p{{0.78\textwidth}}}}{{{said}}} \\")
        lines.append(r"\midrule")
        for line in sample.lines:
            label, _, text, items = _cells(line, titles, escaped, r"\emph{{{}}}")
            items = items.replace("✓", r"$\ast$")
            lines.append(rf"{label} & {text} & {items} \\")
        where = escaped(f"Conversation {sample.conversation_id}, turn {sample.turn}. ")
        where += "Right: the most probable items of each item step; $\\ast$: gold."
        lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{where}}}", r"\end{table*}"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _sample(answers: Mapping[str, Prediction], num_candidates: int) -> Sample:
    gold = next(iter(answers.values()))
    gold_items = {*gold.reference_items, *(gold.reference_items_out_of_vocabulary or ())}

    def marked(items: Sequence[int]) -> tuple[tuple[int, bool], ...]:
        return tuple((item, item in gold_items) for item in items[:num_candidates])

    lines = [Line("reference", gold.turn_type, gold.reference)]
    for name, answer in answers.items():
        steps = tuple(marked(step.top) for step in answer.item_steps or ())
        taken = answer.predicted_turn_type or "–"
        lines.append(Line(name, taken, answer.generated, steps))
    if gold.recommender_top:
        lines.append(Line("recommender alone", "–", "", (marked(gold.recommender_top),)))
    return Sample(gold.conversation_id, gold.turn, gold.context, tuple(lines))


def _cells(
    line: Line, titles: Mapping[int, str], escaped: Callable[[str], str], italic: str
) -> tuple[str, str, str, str]:
    steps = (
        ", ".join(
            _rendered(f"@{item}", titles, escaped, italic) + (" ✓" if is_gold else "")
            for item, is_gold in step
        )
        for step in line.candidates
    )
    label = _one_line(escaped(line.label))
    text = _rendered(line.text, titles, escaped, italic)
    return label, line.turn_type, text, "; ".join(steps)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rendered(
    text: str, titles: Mapping[int, str], escaped: Callable[[str], str], italic: str
) -> str:
    """A text on one line: items as titles, in the form given, and everything else literally."""
    parts = _MENTION.split(text)  # text, id, text, id, …, text
    for i in range(1, len(parts), 2):
        title = titles.get(int(parts[i]))
        parts[i] = italic.format(escaped(title)) if title else f"@{parts[i]}"
    parts[::2] = [escaped(part) for part in parts[::2]]
    return _one_line("".join(parts))


def _markdown_text(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _one_line(text: str) -> str:
    """Whitespace and control characters as single spaces; halves of surrogate pairs as "?"."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.encode(errors="replace").decode().split())
