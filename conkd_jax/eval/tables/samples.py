"""Responses of one or more systems to the same histories, side by side: the paper's Tables 7 and 9.

Responses are chosen by a rule, never by eye, and written for a terminal, as Markdown or as LaTeX.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from conkd_jax.data.mentions import MENTION, mention_id
from conkd_jax.eval.predictions import ContextTurn, Prediction
from conkd_jax.eval.tables.formats import latex_text
from conkd_jax.eval.tables.table import ABSENT
from conkd_jax.io.files import sha256

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~&$])")
HEAD = ("", "turn", "response", "items, most probable first")


@dataclasses.dataclass(frozen=True)
class Line:
    """One row of a sample.

    Attributes:
      label: the system, "reference" or "recommender alone".
      turn_type: "rec" or "gen", as the system predicted it; a dash where it does not say.
      text: the response, items as `@id`.
      candidates: at each item step, the most probable items and whether each is gold.
    """

    label: str
    turn_type: str
    text: str
    candidates: tuple[tuple[tuple[int, bool], ...], ...] = ()


@dataclasses.dataclass(frozen=True)
class Sample:
    """One history with everything that answers it: the reference, the systems, the recommender.

    Attributes:
      conversation_id: the dialogue.
      turn: of the response in it.
      context: the history.
      lines: the answers.
      title: instead of dialogue and turn, for a history that is not of a corpus.
    """

    conversation_id: str
    turn: int
    context: tuple[ContextTurn, ...]
    lines: tuple[Line, ...]
    title: str = ""


def samples_side_by_side(
    systems: Mapping[str, Sequence[Prediction]],
    *,
    num_samples: int,
    num_candidates: int = 3,
    with_items: bool = False,
    seed: int | None = None,
) -> tuple[list[Sample], int]:
    """Returns responses to the same histories, spread evenly over the split or chosen at random.

    Args:
      systems: predictions of each system by its name, in the order of the first one.
      num_samples: the number of histories.
      num_candidates: the number of most probable items to show at each item step.
      with_items: whether to choose only histories where the reference mentions an item.
      seed: of a random choice; None spreads the histories evenly.

    Returns:
      The samples, and the number of histories to choose from.

    Raises:
      ValueError: if there is no system, or no such history that all systems answered.
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
    if seed is not None:  # by hashes: the same with every system and version of Python
        drawn = sorted(keys, key=lambda key: sha256(f"{seed}:{key[0]}:{key[1]}"))[:count]
        chosen = [key for key in keys if key in set(drawn)]
    found = []
    for key in chosen:
        answers = {name: predictions[key] for name, predictions in by_key.items()}
        found.append(sample_of(answers, num_candidates))
    return found, len(keys)


def samples_page(
    systems: Mapping[str, Sequence[Prediction]],
    titles: Mapping[int, str],
    *,
    num_samples: int = 12,
    num_candidates: int = 3,
) -> str:
    """Returns the `samples.md` of a run: Markdown of responses spread over the split.

    Args:
      systems: predictions of each system by its name.
      titles: title of each item; an item without one stays `@id`.
      num_samples: the number of histories.
      num_candidates: the number of most probable items to show at each item step.
    """
    chosen, total = samples_side_by_side(
        systems, num_samples=num_samples, num_candidates=num_candidates
    )
    summary = f"{len(chosen)} of {total:,} responses, spread evenly over the split."
    return f"# Samples\n\n{summary}\n\n{samples_as_markdown(chosen, titles)}"


def samples_as_markdown(
    samples: Sequence[Sample], titles: Mapping[int, str], *, last_turns: int = 0, level: int = 2
) -> str:
    """Returns, for each sample, a heading, the history as a quotation and a table of answers.

    Args:
      samples: what to write.
      titles: title of each item; an item without one stays `@id`.
      last_turns: the number of turns of a history that are shown; 0 shows all.
      level: of the headings.
    """
    parts = []
    for number, sample in enumerate(samples, start=1):
        where = _markdown_text(sample.title or f"Conversation {sample.conversation_id}")
        where += "" if sample.title else f", turn {sample.turn}"
        lines = [f"{'#' * level} {number}. {where}", ""]
        shown = sample.context[-last_turns:]  # -0 is 0: all of them
        if num_before := len(sample.context) - len(shown):
            lines += [f"> *({num_before} earlier turn{'s' * (num_before > 1)})*", ">"]
        for turn in shown:
            text = _rendered(turn.text, titles, _markdown_text, "*{}*")
            lines += [f"> **{turn.role.capitalize()}** {text}", ">"]
        if sample.context:
            lines[-1] = ""
        lines += [_row(HEAD), "|---|---|---|---|"]
        for line in sample.lines:
            lines.append(_row(_cells(line, titles, _markdown_text, "*{}*")))
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def samples_for_terminal(samples: Sequence[Sample], titles: Mapping[int, str]) -> RenderableType:
    """Returns the samples for rich to print."""
    parts: list[RenderableType] = []
    for number, sample in enumerate(samples, start=1):
        parts.append(
            Text(f"{number}. Conversation {sample.conversation_id}, turn {sample.turn}", "bold")
        )
        for turn in sample.context:
            text = _rendered(turn.text, titles, str, "{}")
            parts.append(Text.assemble((f"{turn.role.capitalize()}: ", "dim"), text))
        table = Table(box=box.SIMPLE_HEAD)
        for title in HEAD:
            table.add_column(title)
        for line in sample.lines:
            table.add_row(*(Text(cell) for cell in _cells(line, titles, str, "{}")))
        parts.append(table)
    return Group(*parts)


def samples_as_latex(samples: Sequence[Sample], titles: Mapping[int, str]) -> str:
    """Returns a `table*` for each sample; it needs the package booktabs."""
    parts = []
    for sample in samples:
        lines = [
            r"\begin{table*}[t]  % needs \usepackage{booktabs}",
            r"\centering\small",
            r"\begin{tabular}{lp{0.45\textwidth}p{0.3\textwidth}}",
            r"\toprule",
        ]
        for turn in sample.context:
            text = _rendered(turn.text, titles, latex_text, r"\emph{{{}}}")
            lines.append(rf"{turn.role} & \multicolumn{{2}}{{p{{0.78\textwidth}}}}{{{text}}} \\")
        lines.append(r"\midrule")
        for line in sample.lines:
            label, _, text, items = _cells(line, titles, latex_text, r"\emph{{{}}}")
            items = items.replace("✓", r"$\ast$")
            lines.append(rf"{label} & {text} & {items} \\")
        where = latex_text(f"Conversation {sample.conversation_id}, turn {sample.turn}. ")
        where += "Right: the most probable items of each item step; $\\ast$: gold."
        lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{where}}}", r"\end{table*}"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def sample_of(answers: Mapping[str, Prediction], num_candidates: int = 3) -> Sample:
    """Returns the answers of systems, by name, to one history as a sample."""
    gold = next(iter(answers.values()))
    gold_items = {*gold.reference_items, *(gold.reference_items_out_of_vocabulary or ())}

    def marked(items: Sequence[int]) -> tuple[tuple[int, bool], ...]:
        return tuple((item, item in gold_items) for item in items[:num_candidates])

    lines = [Line("reference", gold.turn_type, gold.reference)]
    for name, answer in answers.items():
        steps = tuple(marked(step.top) for step in answer.item_steps or ())
        predicted = answer.predicted_turn_type or ABSENT
        lines.append(Line(name, predicted, answer.generated, steps))
    if gold.recommender_top:
        lines.append(Line("recommender alone", ABSENT, "", (marked(gold.recommender_top),)))
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
    """Returns a text on one line, with titles in italics for items and everything else escaped."""
    # Titles are escaped before they become italic, so the text is split at its mentions first.
    parts = MENTION.split(text)  # text, digits, text, digits, …, text
    for i in range(1, len(parts), 2):
        item = mention_id(parts[i])
        title = None if item is None else titles.get(item)
        parts[i] = italic.format(escaped(title)) if title else f"@{parts[i]}"
    parts[::2] = [escaped(part) for part in parts[::2]]
    return _one_line("".join(parts))


def _markdown_text(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _one_line(text: str) -> str:
    """Replaces whitespace and control characters by single spaces, lone surrogates by "?"."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.encode(errors="replace").decode().split())
