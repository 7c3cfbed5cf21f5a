"""What a scored run leaves to be read: `metrics.json`, `samples.md`, and a table beside the paper's
row.

Everything here formats numbers and texts that were made elsewhere; it measures nothing. It knows
the paper's tables, so that no number of ours is printed without the one it stands against.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence

from etils import epath
from rich import box
from rich.table import Table

from conkd_jax.eval.matching import Number
from conkd_jax.eval.paper import PaperRow
from conkd_jax.eval.predictions import ItemStep, Prediction

Interval = tuple[float, float]

_AT_K = tuple(f"{name}@{k}" for name in ("rer", "prr", "f1") for k in (1, 10, 50))
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "items in responses": (*_AT_K, "rec_ratio", "mismatch"),
    "the recommender alone": ("recall@1", "recall@10", "recall@50"),
    "words": ("dist-1", "dist-2", "dist-3", "dist-4", "generated_length"),
    "gold responses": ("ppl", "ppl_words", "ppl_item", "bits_per_character"),
    "gate and turn prefix": (
        "lambda_r",
        "lambda_v",
        "classifier_accuracy",
        "classifier_base_rate",
    ),
}
_TWO_DIGITS = ("ppl", "generated_length", "reference_length", "ms_per_token")
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~])")
_MENTION = re.compile(r"@(\d+)")


def config_sha256(config: Mapping) -> str:
    """SHA-256 of a config's plain JSON form, keys sorted: the same settings give the same hash.

    >>> config_sha256({"a": 1, "b": 2}) == config_sha256({"b": 2, "a": 1})
    True
    """
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def metrics_json(
    *,
    config_name: str,
    preset: str,
    split: str,
    seed: int,
    config_sha256: str,
    counts: Mapping[str, int],
    metrics: Mapping[str, Number],
    intervals: Mapping[str, Interval] | None = None,
    command: str,
    machine: Mapping | str,
    git: str,
) -> dict:
    """The document that `metrics.json` holds.

    Args:
      config_name: path of the config under configs/, without ".py".
      preset: "paper", "mini" or "demo".
      split: the split that was scored.
      seed: the student's.
      config_sha256: `config_sha256` of the whole config.
      counts: `ResponseStatistics.totals`; "responses" among them.
      metrics: flat names and values.
      intervals: 95 % bootstrap intervals over dialogues, of the metrics that have one.
      command, machine, git: what was run, where, and at which commit.

    Raises:
      ValueError: if a value is not a finite number, or `counts` lacks "responses".
    """
    intervals = intervals or {}
    values = [*metrics.items(), *counts.items()]
    values += [(f"interval of {name}", value) for name, pair in intervals.items() for value in pair]
    for name, value in values:
        if not math.isfinite(value):
            raise ValueError(f"metrics.json: {name}: expected a finite number, got {value}")
    if "responses" not in counts:
        raise ValueError(f"metrics.json: counts: expected 'responses', got {sorted(counts)}")
    return {
        "config": config_name,
        "preset": preset,
        "split": split,
        "seed": int(seed),
        "config_sha256": config_sha256,
        "n_responses": int(counts["responses"]),
        "counts": {name: int(value) for name, value in counts.items()},
        "metrics": {name: float(value) for name, value in metrics.items()},
        "intervals": {name: [float(low), float(high)] for name, (low, high) in intervals.items()},
        "command": command,
        "machine": machine,
        "git": git,
    }


def write_json(path: epath.PathLike, document: Mapping) -> None:
    """Writes a document for people and programs alike; the file takes its name once it is whole."""
    path = epath.Path(path)
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    partial = path.parent / (path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)


def across_seeds(documents: Sequence[Mapping]) -> dict[str, tuple[float, float]]:
    """Mean and sample standard deviation of each metric over runs that differ in their seed alone.

    Args:
      documents: contents of `metrics.json` of two runs or more.

    Returns:
      (mean, sd) of the metrics that all runs have.

    Raises:
      ValueError: if there are fewer than two runs, a seed comes twice, or configs or splits differ.
    """
    seeds = [document["seed"] for document in documents]
    if len(documents) < 2 or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds: expected two or more, each once, got {seeds}")
    for field in ("config", "preset", "split"):
        if len(found := {document.get(field) for document in documents}) > 1:
            raise ValueError(
                f"{field}: expected the same in every run, got {sorted(map(str, found))}"
            )
    names = [n for n in documents[0]["metrics"] if all(n in d["metrics"] for d in documents)]
    values = {name: [document["metrics"][name] for document in documents] for name in names}
    return {name: (statistics.fmean(v), statistics.stdev(v)) for name, v in values.items()}


def summary_table(document: Mapping, paper: PaperRow | None = None) -> Table:
    """The metrics of a run beside the paper's row, with 95 % intervals, for a terminal.

    Args:
      document: what `metrics_json` gave; metrics it lacks are not shown.
      paper: the row to stand beside, or None.
    """
    metrics, intervals = document["metrics"], document["intervals"]
    table = Table(
        title=f"{document['config']} ({document['preset']}) on {document['split']}: "
        f"{document['n_responses']:,} responses, seed {document['seed']}",
        caption=_caption(paper),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("metric")
    table.add_column("this run", justify="right")
    table.add_column("95 % interval", justify="right")
    if paper is not None:
        table.add_column(paper.name, justify="right")
    for section, names in SECTIONS.items():
        shown = [name for name in names if name in metrics]
        if not shown:
            continue
        table.add_row(f"[bold]{section}[/bold]")
        for name in shown:
            row = [f"  {name}", _number(name, metrics[name])]
            row.append(" to ".join(_number(name, v) for v in intervals.get(name, ())) or "–")
            if paper is not None:
                row.append(_number(name, paper.metrics[name]) if name in paper.metrics else "–")
            table.add_row(*row)
        table.add_section()
    return table


def samples_md(
    systems: Mapping[str, Sequence[Prediction]],
    titles: Mapping[int, str],
    *,
    num_samples: int = 12,
    num_candidates: int = 3,
) -> str:
    """Responses of one or more systems to the same histories, for reading side by side.

    The responses are spread evenly over the split, not picked.

    Args:
      systems: predictions of each system by its name; the first one's order counts.
      titles: title of each item; an item without one stays `@id`.
      num_samples: how many responses to show.
      num_candidates: how many of the most probable items to show at each item step.

    Returns:
      Markdown.

    Raises:
      ValueError: if there is no system, or no response that all systems answered.
    """
    by_key = {name: {p.key: p for p in predictions} for name, predictions in systems.items()}
    if not by_key:
        raise ValueError("samples: expected predictions of at least one system, got none")
    first, *others = by_key.values()
    keys = [key for key in first if all(key in other for other in others)]
    if not keys:
        raise ValueError(
            f"samples: expected responses that all of {list(systems)} answered, got none"
        )
    count = min(num_samples, len(keys))
    chosen = [keys[i * len(keys) // count] for i in range(count)]
    parts = ["# Samples", f"{count} of {len(keys):,} responses, spread evenly over the split."]
    for number, key in enumerate(chosen, start=1):
        answers = {name: predictions[key] for name, predictions in by_key.items()}
        parts.append(_sample(number, answers, titles, num_candidates))
    return "\n\n".join(parts) + "\n"


def _sample(
    number: int, answers: Mapping[str, Prediction], titles: Mapping[int, str], num_candidates: int
) -> str:
    gold = next(iter(answers.values()))
    lines = [f"## {number}. Conversation {_escaped(gold.conversation_id)}, turn {gold.turn}", ""]
    for turn in gold.context:
        lines += [f"> **{turn.role.capitalize()}** {_rendered(turn.text, titles)}", ">"]
    if gold.context:
        lines[-1] = ""
    lines += ["| | turn | response | items, most probable first |", "|---|---|---|---|"]
    lines.append(_row("reference", gold.turn_type, _rendered(gold.reference, titles), ""))
    gold_items = {*gold.reference_items, *gold.reference_items_out_of_vocabulary}
    for name, answer in answers.items():
        steps = "; ".join(
            _candidates(step, gold_items, titles, num_candidates) for step in answer.item_steps
        )
        turn_type = answer.predicted_turn_type or "–"
        lines.append(_row(_escaped(name), turn_type, _rendered(answer.generated, titles), steps))
    if gold.recommender_top:
        best = _titles(gold.recommender_top[:num_candidates], gold_items, titles)
        lines.append(_row("recommender alone", "–", "", best))
    return "\n".join(lines)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _candidates(step: ItemStep, gold: set[int], titles: Mapping[int, str], number: int) -> str:
    return _titles(step.top[:number], gold, titles)


def _titles(items: Sequence[int], gold: set[int], titles: Mapping[int, str]) -> str:
    """Titles in a row; a gold item carries a tick."""
    names = (_rendered(f"@{item}", titles) + (" ✓" if item in gold else "") for item in items)
    return ", ".join(names)


def _rendered(text: str, titles: Mapping[int, str]) -> str:
    """Markdown of a text: items as titles in italics, everything else literally, on one line."""
    parts = _MENTION.split(text)  # text, id, text, id, …, text
    for i in range(1, len(parts), 2):
        title = titles.get(int(parts[i]))
        parts[i] = f"*{_escaped(title)}*" if title else f"@{parts[i]}"
    parts[::2] = [_MARKDOWN.sub(r"\\\1", part) for part in parts[::2]]
    return _one_line("".join(parts))


def _escaped(text: str) -> str:
    return _one_line(_MARKDOWN.sub(r"\\\1", text))


def _one_line(text: str) -> str:
    """Whitespace and control characters as single spaces; halves of surrogate pairs as "?"."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.encode(errors="replace").decode().split())


def _caption(paper: PaperRow | None) -> str:
    text = "Intervals: bootstrap over dialogues."
    if paper is not None:
        text += (
            f" {paper.name}: the paper's {paper.table}, ReDial's test split. Which form of "
            "perplexity the paper prints is not known."
        )
    return text


def _number(name: str, value: float) -> str:
    return f"{value:.2f}" if name.startswith(_TWO_DIGITS) else f"{value:.3f}"
