"""The document that `metrics.json` holds: how it is made and checked, and what its run is called.

Every scored run leaves one, whether this project trained the system or not; tables, figures and
committed results are made from these documents alone. This module reads no file and measures
nothing.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from conkd_jax.config import Config, field_names
from conkd_jax.config.parts import SearchConfig
from conkd_jax.errors import UserError
from conkd_jax.eval.metrics.pairs import Number
from conkd_jax.io.files import sha256

Document = Mapping  # what `metrics_document` returns
Interval = tuple[float, float]
EXTERNAL = "external"  # the preset of a system that this project did not train; it has no backbone
SYNTHETIC = "demo"  # the preset whose corpus is generated: no row of a paper stands beside it
RATE_MATCHED = "rate-matched"  # how responses were decoded whose offset was chosen on dev
LONGEST_LABEL = 120  # bytes of overrides in a run's name; a file name can have 255

_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "config": str,
    "preset": str,
    "backbone": str,
    "split": str,
    "seed": int,
    "n_responses": int,
    "metrics": Mapping,
    "command": str,
    "machine": (Mapping, str),
}


class DocumentError(UserError, ValueError):
    """A file that is not a metrics.json of this version."""


def metrics_document(
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
    paper_row: str = "",
    overrides: Mapping[str, Any] | None = None,
    settings_sha256: str = "",
) -> dict:
    """Returns the document that `metrics.json` holds.

    Args:
      config_name: path of the config under configs/, without ".py".
      preset: one of `config.PRESETS`; `EXTERNAL` for a system that this project did not train.
      backbone: "dialogpt" or "kgsf"; "" for a system that this project did not train.
      split: the split that was scored.
      seed: the student's seed.
      config_sha256: hash of the whole config.
      counts: `RunStatistics.totals`; "responses" among them.
      metrics: flat names and values.
      intervals: 95 % bootstrap intervals over dialogues, of the metrics that have one.
      command: the command that was run.
      machine: the machine that it ran on.
      git: the commit that it ran at.
      decoding: what `decoding_label` returns.
      teacher_seed: the seed of teachers, turn classifier and teacher store.
      paper_row: the paper's row to stand beside the run, by its name in `eval.tables.paper`.
      overrides: the fields in which the run differs from its config file, by dotted name.
      settings_sha256: hash of the config without its seeds.

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
        "paper_row": paper_row,
        "overrides": dict(overrides or {}),
        "config_sha256": config_sha256,
        "settings_sha256": settings_sha256,
        "n_responses": int(counts["responses"]),
        "counts": {name: int(value) for name, value in counts.items()},
        "metrics": {name: float(value) for name, value in metrics.items()},
        "intervals": {name: [float(low), float(high)] for name, (low, high) in intervals.items()},
        "command": command,
        "machine": machine,
        "git": git,
    }


def checked_document(value: object, name: str) -> Document:
    """Returns the value if it is what `metrics.json` holds.

    Args:
      value: parsed JSON.
      name: the file, for the message.

    Raises:
      DocumentError: it is anything else.
    """
    problem = "it is not a JSON object"
    if isinstance(value, Mapping):
        wrong = [key for key, kind in _FIELDS.items() if not isinstance(value.get(key), kind)]
        # Documents of older versions lack this field.
        wrong += [] if isinstance(value.get("paper_row", ""), str) else ["paper_row"]
        if not wrong and all(isinstance(v, int | float) for v in value["metrics"].values()):
            return value
        problem = f"missing or of another type: {', '.join(wrong) or 'a value of metrics'}"
    raise DocumentError(
        f"{name}: expected a metrics.json written by this version of conkd_jax.train "
        f"or conkd_jax.evaluate; {problem}. Score the run again with conkd_jax.evaluate."
    )


# --- names -----------------------------------------------------------------------------------


def decoding_label(decode: Mapping) -> str:
    """Returns how responses were decoded, or "" for plain greedy decoding.

    Args:
      decode: the `decode` part of a config, as plain values; a field that is missing has its
        default.

    >>> decoding_label({"item_rule": "argmax"})
    ''
    >>> decoding_label({"item_rule": "mass", "allow_repeated_items": False})
    'mass+once'
    >>> decoding_label({"item_rule": "argmax", "item_offset": 1.5})
    'offset=1.5'
    >>> decoding_label({"item_rule": "argmax", "strategy": "sample", "top_p": 0.9, "seed": 1})
    'sample+top_p=0.9+draw=1'
    >>> decoding_label({"item_rule": "argmax", "strategy": "beam", "beam_width": 8})
    'beam=8'
    """
    found = [] if decode["item_rule"] == "argmax" else [decode["item_rule"]]
    found += [] if decode.get("allow_mentioned_items", True) else ["novel"]
    found += [] if decode.get("allow_repeated_items", True) else ["once"]
    found += [f"offset={decode['item_offset']:g}"] if decode.get("item_offset") else []
    return "+".join([*found, *_search_labels(decode)])


def _search_labels(decode: Mapping) -> list[str]:
    """Returns the strategy, unless it is greedy, and what differs from the defaults of sampling."""
    search = {**dataclasses.asdict(SearchConfig()), **decode}
    if search["strategy"] == "sample":
        names = {"temperature": "temperature", "top_p": "top_p", "seed": "draw"}
        found = ["sample"]
    elif search["strategy"] == "beam":
        names = {"length_penalty": "length_penalty"}
        found = [f"beam={search['beam_width']}"]
    else:
        return []
    plain = SearchConfig()
    changed = {name: label for name, label in names.items() if search[name] != getattr(plain, name)}
    return [*found, *(f"{label}={search[name]:g}" for name, label in changed.items())]


def overrides_label(overrides: Mapping[str, Any]) -> str:
    """Returns the fields in which a run differs from its config file, as part of its name.

    A field goes by its last name, or by its whole name if another part has a field of that name.
    Characters that a file name can't have everywhere become "_". A label longer than
    `LONGEST_LABEL` bytes is cut, and ends in a hash of the whole label instead.

    Args:
      overrides: values by dotted field.

    >>> overrides_label({"distill.gamma": 0.2, "student.epochs": 16})
    'gamma=0.2+student.epochs=16'
    >>> overrides_label({"vocabulary.tokenizer": "my/words.json"})
    'tokenizer=my_words.json'
    """
    last_names = collections.Counter(name.rpartition(".")[2] for name in field_names(Config()))
    found = []
    for field, value in sorted(overrides.items()):
        last = field.rpartition(".")[2]
        text = f"{field if last_names[last] > 1 else last}={value}"
        found.append(re.sub(r"[^\w.=-]", "_", text))
    label = "+".join(found)
    if len(label.encode()) <= LONGEST_LABEL:
        return label
    end = f"-{sha256(label)[:8]}"
    return label.encode()[: LONGEST_LABEL - len(end)].decode(errors="ignore") + end


def run_label(
    config_name: str, backbone: str, decoding: str = "", overrides: Mapping[str, Any] | None = None
) -> str:
    """Returns what tables and the folders of committed results call a run.

    That is its config, its backbone unless the config's own name begins with it, how it was decoded
    unless plainly, and the fields in which it differs from its config file.

    Args:
      config_name: path of the config under configs/, without ".py".
      backbone: the name of its backbone; "" for a system that this project did not train.
      decoding: what `decoding_label` returns.
      overrides: values by dotted field.

    >>> run_label("dialogpt_hard", "dialogpt"), run_label("ablations/vanilla", "kgsf", "mass")
    ('dialogpt_hard', 'ablations/vanilla-kgsf+mass')
    >>> run_label("kbrd", "")
    'kbrd'
    >>> run_label("dialogpt_hard", "dialogpt", overrides={"distill.gamma": 0.2})
    'dialogpt_hard+gamma=0.2'
    >>> run_label("dialogpt_hard", "my_backbone:stages")
    'dialogpt_hard-my_backbone_stages'
    """
    backbone = re.sub(r"[^\w.-]", "_", backbone)  # it becomes part of a folder's name
    is_named = config_name.rpartition("/")[2].startswith(backbone)
    label = config_name if is_named else f"{config_name}-{backbone}"
    return "+".join(filter(None, (label, decoding, overrides_label(overrides or {}))))


def run_name(
    config_name: str, settings: Mapping, overrides: Mapping[str, Any] | None = None
) -> str:
    """Returns the name of a run: its folder under runs/, and its name among several runs.

    Args:
      config_name: path of the config under configs/, without ".py".
      settings: the whole config, as plain values.
      overrides: values by dotted field.

    >>> settings = Config(backbone="kgsf", preset="mini").to_dict()
    >>> run_name("ablations/vanilla", settings, {"distill.gamma": 0.2})
    'ablations-vanilla-kgsf+gamma=0.2-mini-seed0'
    >>> run_name("kgsf", settings | {"seed": 1, "teacher_seed": 2})
    'kgsf-mini-seed1-teachers2'
    """
    decoding = decoding_label(settings["decode"])
    label = run_label(config_name, settings["backbone"], decoding, overrides).replace("/", "-")
    return f"{label}-{settings['preset']}-{seeds_label(settings['seed'], settings['teacher_seed'])}"


def seeds_label(seed: int, teacher_seed: int) -> str:
    """Returns the seeds of a run as part of its name; teachers of seed 0 go without saying.

    >>> seeds_label(3, 0), seeds_label(3, 3)
    ('seed3', 'seed3-teachers3')
    """
    return f"seed{seed}" + (f"-teachers{teacher_seed}" if teacher_seed else "")


def document_label(document: Document) -> str:
    """Returns the `run_label` of a document.

    Documents of older versions may lack "decoding" (they were decoded plainly) and "overrides".
    """
    return run_label(
        document["config"],
        document["backbone"],
        document.get("decoding", ""),
        document.get("overrides"),
    )
