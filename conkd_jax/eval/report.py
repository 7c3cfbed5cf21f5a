"""What a scored run leaves to be read: `metrics.json`, and a table beside the paper's row.

Everything here formats numbers that were made elsewhere; it measures nothing. It knows the paper's
tables, so that no number of ours is printed without the one it stands against.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Mapping, Sequence

from etils import epath
from rich import box
from rich.table import Table

from conkd_jax.eval.metrics.pairs import Number
from conkd_jax.eval.tables.paper import PaperRow, paper_row

Interval = tuple[float, float]
EXTERNAL = "external"  # the preset of a system that this project did not train; it has no backbone
SYNTHETIC = "demo"  # the preset whose corpus no paper has

_AT_K = tuple(f"{name}@{k}" for name in ("rer", "prr", "f1") for k in (1, 10, 50))
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "items in responses": (*_AT_K, "rec_ratio", "mismatch"),
    "… counted otherwise": (
        "f1@10_novel",
        "f1@10_all",
        "f1@10_pairs",
        "f1@10_2hop",
        "f1@10_refilled",
        "rer@10_original",
        "items_per_response",
    ),
    "the recommender alone": ("recall@1", "recall@10", "recall@50", "mrr@50", "ndcg@50"),
    "words": ("dist-1", "dist-2", "dist-3", "dist-4", "generated_length"),
    "gold responses": ("ppl", "ppl_predprefix", "ppl_words", "ppl_item", "bits_per_character"),
    "all items together": ("coverage", "gini", "popularity_bias"),
    "gate and turn prefix": (
        "lambda_r",
        "lambda_v",
        "classifier_accuracy",
        "classifier_base_rate",
    ),
}
_TWO_DIGITS = ("ppl", "generated_length", "reference_length")


def decoding_label(decode: Mapping) -> str:
    """How a system's responses were decoded, where that isn't plain greedy decoding; else "".

    Args:
      decode: the `decode` part of a config, as plain values; without a constraint there is none.

    >>> decoding_label({"item_rule": "argmax"})
    ''
    >>> decoding_label({"item_rule": "mass", "allow_repeated_items": False})
    'mass+once'
    """
    found = [] if decode["item_rule"] == "argmax" else [decode["item_rule"]]
    found += [] if decode.get("allow_mentioned_items", True) else ["novel"]
    found += [] if decode.get("allow_repeated_items", True) else ["once"]
    return "+".join(found)


def run_label(config_name: str, backbone: str, decoding: str = "") -> str:
    """What a run is called in tables, and where its results lie: its config, its backbone unless
    the config's own name begins with it, and how it was decoded unless plainly.

    Args:
      config_name: path of the config under configs/, without ".py".
      backbone: "dialogpt" or "kgsf"; "" for a system that this project did not train.
      decoding: what `decoding_label` gives.

    >>> run_label("dialogpt_hard", "dialogpt"), run_label("ablations/vanilla", "kgsf", "mass")
    ('dialogpt_hard', 'ablations/vanilla-kgsf+mass')
    >>> run_label("kbrd", "")
    'kbrd'
    """
    is_named = config_name.rpartition("/")[2].startswith(backbone)
    label = config_name if is_named else f"{config_name}-{backbone}"
    return f"{label}+{decoding}" if decoding else label


def run_name(config_name: str, settings: Mapping) -> str:
    """The folder of a run under runs/, and what a reader of several runs calls it.

    Args:
      config_name: path of the config under configs/, without ".py".
      settings: the whole config, as plain values.

    >>> decode = {"item_rule": "mass"}
    >>> settings = {"backbone": "kgsf", "preset": "mini", "seed": 0, "decode": decode}
    >>> run_name("ablations/vanilla", settings)
    'ablations-vanilla-kgsf+mass-mini-seed0'
    """
    decoding = decoding_label(settings["decode"])
    label = run_label(config_name, settings["backbone"], decoding).replace("/", "-")
    return f"{label}-{settings['preset']}-seed{settings['seed']}"


def config_sha256(config: Mapping) -> str:
    """SHA-256 of a config's plain JSON form, keys sorted: the same settings give the same hash.

    >>> config_sha256({"a": 1, "b": 2}) == config_sha256({"b": 2, "a": 1})
    True
    """
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def label_of(document: Mapping) -> str:
    """`run_label` of what `metrics.json` holds; one without "decoding" was decoded plainly."""
    return run_label(document["config"], document["backbone"], document.get("decoding", ""))


def paper_beside(document: Mapping) -> PaperRow | None:
    """The paper's row to stand beside a document; none for a synthetic corpus."""
    if document["preset"] == SYNTHETIC:
        return None
    return paper_row(document["config"], document["backbone"])


def metrics_json(
    *,
    config_name: str,
    preset: str,
    backbone: str,
    split: str,
    seed: int,
    config_sha256: str,
    counts: Mapping[str, int],
    metrics: Mapping[str, Number],
    intervals: Mapping[str, Interval] | None = None,
    command: str,
    machine: Mapping | str,
    git: str,
    decoding: str = "",
    teacher_seed: int = 0,
) -> dict:
    """The document that `metrics.json` holds.

    Args:
      config_name: path of the config under configs/, without ".py".
      preset: "paper", "mini" or "demo"; `EXTERNAL` for another's system.
      backbone: "dialogpt" or "kgsf"; "" for another's system.
      split: the split that was scored.
      seed: the student's.
      config_sha256: `config_sha256` of the whole config.
      counts: `RunStatistics.totals`; "responses" among them.
      metrics: flat names and values.
      intervals: 95 % bootstrap intervals over dialogues, of the metrics that have one.
      command, machine, git: what was run, where, and at which commit.
      decoding: what `decoding_label` gives.
      teacher_seed: of teachers, turn classifier and store.

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
        "backbone": backbone,
        "split": split,
        "seed": int(seed),
        "teacher_seed": int(teacher_seed),
        "decoding": decoding,
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
    for field in ("config", "backbone", "decoding", "preset", "split"):
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
        title=f"{label_of(document)} ({document['preset']}) on "
        f"{document['split']}: "
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
            row = [f"  {name}", number(name, metrics[name])]
            row.append(" to ".join(number(name, v) for v in intervals.get(name, ())) or "–")
            if paper is not None:
                row.append(number(name, paper.metrics[name]) if name in paper.metrics else "–")
            table.add_row(*row)
        table.add_section()
    return table


def _caption(paper: PaperRow | None) -> str:
    text = "Intervals: bootstrap over dialogues."
    if paper is not None:
        text += (
            f" {paper.name}: the paper's {paper.table}, ReDial's test split. Which form of "
            "perplexity the paper prints is not known."
        )
    return text


def number(name: str, value: float) -> str:
    """A metric as it is printed: perplexities and lengths with two digits, all else with three.

    >>> number("ppl_words", 41.1726), number("f1@10", 0.0734)
    ('41.17', '0.073')
    """
    return f"{value:.2f}" if name.startswith(_TWO_DIGITS) else f"{value:.3f}"
