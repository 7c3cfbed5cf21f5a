"""What the metrics.json of a run says: numbers, settings, hashes, machine and artifacts."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Collection, Mapping
from typing import Any

import jax

from conkd_jax.artifacts.stage import Stage
from conkd_jax.config import Config
from conkd_jax.config.options import ADDED_FIELDS
from conkd_jax.data.corpus import TRANSFER_SPLITS
from conkd_jax.eval import origin
from conkd_jax.eval.document import RATE_MATCHED, Interval, decoding_label, metrics_document
from conkd_jax.eval.metrics.pairs import Number
from conkd_jax.io.files import sha256_of_json
from conkd_jax.stages.systems.rate_matching import MatchedRate

NO_NUMBER = ("artifacts_dir", "runs_dir", "paper_row")  # options that no number depends on
SEEDS = ("seed", "teacher_seed")
IN_THE_PAPER = ("redial", "movieworld")  # beside the second, tables show no row in any case


def origin_of_run(evaluation: Stage) -> dict[str, str]:
    """The fingerprints of a run's evaluation and of all that it reads, by the names of stages."""
    return {**evaluation.input_fingerprints, origin.EVALUATION: evaluation.fingerprint}


def rate_matched(
    document: Mapping[str, Any], config: Config, matched: MatchedRate
) -> dict[str, Any]:
    """What the document of a run says differently if its item offset was chosen on dev.

    The offset is a result then and no setting, so that runs of several seeds are one row.
    """
    plain = config.replace({"decode.item_offset": 0.0})
    decoding = decoding_label(plain.to_dict()["decode"])
    return {
        "decoding": "+".join(filter(None, (decoding, RATE_MATCHED))),
        "settings_sha256": config_sha256(plain, without=SEEDS),
        "metrics": {**document["metrics"], **matched.metrics()},
        "rate": dataclasses.asdict(matched)
        | {"split_rate": document["metrics"]["items_per_response"]},
    }


def run_document(
    config: Config,
    name: str,
    split: str,
    *,
    counts: Mapping[str, int],
    metrics: Mapping[str, Number],
    intervals: Mapping[str, Interval] | None = None,
    command: str,
    git: str,
    decoding: str,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The document of a run that was measured on this machine (see `eval.document`)."""
    is_foreign = config.corpus.name not in IN_THE_PAPER or split in TRANSFER_SPLITS
    return metrics_document(
        config_name=name,
        preset=config.preset,
        backbone=config.backbone,
        split=split,
        seed=config.seed,
        config_sha256=config_sha256(config),
        counts=counts,
        metrics=metrics,
        intervals=intervals,
        command=command,
        machine=machine(),
        git=git,
        decoding=decoding,
        teacher_seed=config.teacher_seed,
        paper_row="" if is_foreign else config.paper_row,
        overrides=overrides,
        settings_sha256=config_sha256(config, without=SEEDS),
    )


def config_sha256(config: Config, without: Collection[str] = ()) -> str:
    """SHA-256 of a config without the options that no number depends on, such as folders.

    An option that earlier versions lack is left out at its default, so that their hashes stay.

    Args:
      config: the config of a run.
      without: further top-level options that are left out.
    """
    settings = config.to_dict()
    kept = {key: value for key, value in settings.items() if key not in {*NO_NUMBER, *without}}
    kept["corpus"] = {key: v for key, v in settings["corpus"].items() if key != "raw_dir"}
    return sha256_of_json(_without_added(kept, Config().to_dict()))


def _without_added(part: Mapping[str, Any], defaults: Mapping[str, Any], path: str = "") -> dict:
    """The options of a part but for those of `ADDED_FIELDS` at their default.

    A part with such options alone is left out, since earlier versions lack it as well.
    """
    kept = {}
    for key, value in part.items():
        if isinstance(value, Mapping):
            inside = _without_added(value, defaults[key], f"{path}{key}.")
            if inside or not value:
                kept[key] = inside
        elif f"{path}{key}" not in ADDED_FIELDS or value != defaults[key]:
            kept[key] = value
    return kept


def machine() -> dict[str, Any]:
    """This machine, for the record: platform, CPUs, devices and the version of jax."""
    devices = jax.devices()
    return {
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "jax": jax.__version__,
    }


def training_metrics(manifests: Mapping[str, Mapping]) -> dict[str, float]:
    """η, and λ on the training responses (optimistic, as the teacher was trained on them)."""
    found = {}
    store = manifests.get("teacher_outputs", {}).get("metrics", {})
    for key in ("train_lambda_r", "train_lambda_v", "fitted_eta"):
        if store.get(key) is not None:  # without items in dev, no η can be fitted
            found[key] = store[key]
    student = manifests.get("student", {}).get("metrics", {})
    if "eta" in student:
        found["eta"] = student["eta"]
    return found
