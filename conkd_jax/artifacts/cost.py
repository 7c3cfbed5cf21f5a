"""What a stage costs: time, memory and disk, measured while it runs and estimated before.

An estimate comes from the manifests of earlier runs of the same stage on devices of the same kind.
This module does not depend on what any stage computes.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from etils import epath

from conkd_jax.artifacts.stage import Stage, in_order
from conkd_jax.io.files import is_remote, parse_json
from conkd_jax.io.integrity import FILES, MANIFEST
from conkd_jax.runtime import threads
from conkd_jax.training.checkpoint import CHECKPOINTS
from conkd_jax.training.progress import duration

_STATUS, _RESET = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")


class CostWatch:
    """Measures what this process needs from now on."""

    def __init__(self):
        """Resets the peak that Linux keeps of the process's memory."""
        try:
            _RESET.write_text("5")
        except OSError:
            pass  # another system: the peak is then that of the whole process so far

    def costs(self, directory: epath.Path) -> dict[str, int]:
        """What was needed so far, in bytes.

        Args:
          directory: the folder of an artifact whose checkpoints, if any, are still there.

        Returns:
          {"memory": peak of the process's memory, "device_memory": peak of the first device's own,
          if it has any, "checkpoints": size of the checkpoints}.
        """
        found = {"memory": peak_memory(), "checkpoints": _size(directory / CHECKPOINTS)}
        statistics = jax.local_devices()[0].memory_stats() or {}
        if peak := statistics.get("peak_bytes_in_use"):
            found["device_memory"] = peak
        return found


def peak_memory() -> int:
    """The most memory that this process has held, in bytes."""
    try:
        line = next(each for each in _STATUS.read_text().splitlines() if each.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _size(folder: epath.Path) -> int:
    if is_remote(folder) or not folder.exists():
        return 0
    files = [os.path.join(top, name) for top, _, names in os.walk(folder) for name in names]
    return sum(os.path.getsize(each) for each in files)


# --- estimates ---------------------------------------------------------------------------------


class Estimate(NamedTuple):
    """What a stage is expected to cost.

    Attributes:
      seconds: duration.
      memory: peak of the process's memory, in bytes; None if no like run has recorded it.
      device_memory: likewise of the first device.
      disk: the artifact and its checkpoints, in bytes; None if no like run has recorded it.
      num_runs: number of like runs.
      is_scaled: whether they were longer or shorter, so that their times were scaled.
      num_differences: settings, other than those of the length, in which they differ.
    """

    seconds: float
    memory: int | None
    device_memory: int | None
    disk: int | None
    num_runs: int
    is_scaled: bool
    num_differences: int


def expected(stage: Stage, artifacts_dir: epath.PathLike) -> Estimate | None:
    """Estimates the cost of a stage from the earlier runs of it that are most alike.

    Their median counts. Their time without compiling is multiplied by epochs · dialogues of the
    stage over theirs.

    Returns:
      The estimate; None if no earlier run of the stage was on such devices.
    """
    artifacts_dir = epath.Path(artifacts_dir)
    manifests = dict(_manifests(artifacts_dir, stage.name))
    manifests.pop(stage.fingerprint, None)
    alike = {name: each for name, each in manifests.items() if _is_on_such_devices(each)}
    if not alike:
        return None
    wanted = _settings(flat(stage.config_part))
    differences = {
        name: len({k for k in wanted | there if wanted.get(k) != there.get(k)})
        for name, each in alike.items()
        for there in [_settings(flat(each["config"]))]
    }
    fewest = min(differences.values())
    nearest = [alike[name] for name, number in differences.items() if number == fewest]
    planned = _epochs(stage.config_part), _dialogues_of(stage, artifacts_dir)
    ratios = [_ratio(planned, each, artifacts_dir) for each in nearest]
    seconds = [_scaled(each, ratio) for each, ratio in zip(nearest, ratios, strict=True)]
    return Estimate(
        seconds=_median(seconds),
        memory=_most(each.get("costs", {}).get("memory") for each in nearest),
        device_memory=_most(each.get("costs", {}).get("device_memory") for each in nearest),
        disk=_most(map(_disk, nearest)),
        num_runs=len(nearest),
        is_scaled=any(ratio != 1 for ratio in ratios),
        num_differences=fewest,
    )


def _manifests(artifacts_dir: epath.Path, name: str) -> Iterator[tuple[str, dict]]:
    for path in sorted((artifacts_dir / name).glob(f"*/{MANIFEST}")):
        try:
            manifest = parse_json(path.read_text())
            if isinstance(manifest["wall_seconds"], int | float) and manifest["config"] is not None:
                yield path.parent.name, manifest
        except (ValueError, KeyError, TypeError):
            continue  # an estimate is a hint: a damaged manifest here is no error


def _is_on_such_devices(manifest: Mapping[str, Any]) -> bool:
    """Whether a run had this process's devices; an earlier version did not record the threads."""
    machine, now = manifest.get("machine", {}), threads.numerics()
    words = f"{jax.device_count()} x {now['device_kind']}"
    same_threads = (
        now["platform"] != "cpu" or machine.get("threads", now["threads"]) == now["threads"]
    )
    return machine.get("devices") == words and same_threads


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested settings, as plain JSON, by their dotted names."""
    if not isinstance(tree, Mapping):
        return {prefix: json.loads(json.dumps(tree))}
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}.{key}" if prefix else key)
    return leaves


_LENGTHS = ("epochs", "num_dialogues", "seed")  # time is proportional to them, or does not change


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, by dotted names, that decide about the cost in a way that is not known."""
    return {k: v for k, v in config.items() if k.rpartition(".")[2] not in _LENGTHS}


def _epochs(config: Mapping[str, Any]) -> float:
    found = [v for k, v in flat(config).items() if k.rpartition(".")[2] == "epochs"]
    return float(sum(found) or 1)


def _dialogues_of(stage: Stage, artifacts_dir: epath.Path) -> float | None:
    corpora = [each for each in in_order(stage) if each.name == "corpus"]
    if not corpora:
        return None
    corpus = corpora[0]
    manifest = dict(_manifests(artifacts_dir, corpus.name)).get(corpus.fingerprint)
    return _dialogues(corpus.config_part, manifest)


def _dialogues(config: Mapping[str, Any], manifest: Mapping[str, Any] | None) -> float | None:
    """Dialogues of a corpus, by its settings or, once it is built, by its counts."""
    if "num_dialogues" in config:
        return float(config["num_dialogues"])
    counts = flat((manifest or {}).get("metrics", {}).get("splits", {}))
    return float(sum(v for k, v in counts.items() if k.endswith(".dialogues"))) or None


def _ratio(planned: tuple, manifest: Mapping[str, Any], artifacts_dir: epath.Path) -> float:
    """How much longer the planned run is than an earlier one."""
    epochs, dialogues = planned
    fingerprint = manifest["inputs"].get("corpus")
    corpus = manifest
    if fingerprint is not None:
        corpus = dict(_manifests(artifacts_dir, "corpus")).get(fingerprint, {"config": {}})
    before = _dialogues(corpus["config"], corpus)
    ratio = epochs / _epochs(manifest["config"])
    return ratio * dialogues / before if dialogues and before else ratio


def _scaled(manifest: Mapping[str, Any], ratio: float) -> float:
    compiled = min(manifest.get("compile_seconds", 0.0), manifest["wall_seconds"])
    return compiled + (manifest["wall_seconds"] - compiled) * ratio


def _disk(manifest: Mapping[str, Any]) -> int | None:
    if FILES not in manifest:
        return None
    files = sum(entry["bytes"] for entry in manifest[FILES].values())
    return files + manifest.get("costs", {}).get("checkpoints", 0)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _most(values: Any) -> int | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None


# --- words -------------------------------------------------------------------------------------


def in_words(estimate: Estimate | None) -> str:
    """An estimate in words, with where it comes from.

    >>> in_words(None)
    'no like run yet'
    >>> in_words(Estimate(4210.0, 3 << 30, None, 5 << 29, 2, True, 0))
    '1 h 10 min, 3.0 GiB memory, 2.5 GiB disk (from 2 earlier runs, scaled)'
    """
    if estimate is None:
        return "no like run yet"
    parts = [duration(estimate.seconds)]
    for size, what in (
        (estimate.memory, "memory"),
        (estimate.device_memory, "on the device"),
        (estimate.disk, "disk"),
    ):
        parts += [f"{_bytes(size)} {what}"] if size is not None else []
    source = f"from {estimate.num_runs} earlier run{'s' if estimate.num_runs > 1 else ''}"
    source += ", scaled" if estimate.is_scaled else ""
    if estimate.num_differences:
        settings = "settings" if estimate.num_differences > 1 else "setting"
        source += f", with {estimate.num_differences} other {settings}"
    return f"{', '.join(parts)} ({source})"


def _bytes(size: int) -> str:
    exponent = min(int(math.log(max(size, 1), 1024)), 4)
    number = size / 1024**exponent
    unit = ("B", "KiB", "MiB", "GiB", "TiB")[exponent]
    return f"{number:.1f} {unit}" if number < 10 and exponent else f"{number:.0f} {unit}"
