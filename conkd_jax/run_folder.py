"""Writes the folder of a run: metrics, predictions, samples, figures and links to the artifacts.

Everything comes from finished artifacts, and every invocation rewrites the folder.
`conkd_jax.run` reads it.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Collection, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from conkd_jax.artifacts.manifest import is_whole, whole_manifest
from conkd_jax.artifacts.stage import Stage
from conkd_jax.config import Config
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.eval.document import Interval, decoding_label, metrics_document, run_name
from conkd_jax.eval.figures.loss_curves import draw_loss_curves
from conkd_jax.eval.figures.metric_bars import draw_metric_bars
from conkd_jax.eval.gate.figures import draw_gate_histograms, draw_gate_traces
from conkd_jax.eval.gate.traces import GateTrace, trace_of_response
from conkd_jax.eval.metrics.pairs import Number
from conkd_jax.eval.predictions import read_predictions
from conkd_jax.eval.tables.paper import PaperRow
from conkd_jax.eval.tables.samples import samples_page
from conkd_jax.files import is_remote, sha256_of_json, write_json, write_whole
from conkd_jax.run import CONFIG, METRICS, PREDICTIONS, paper_row_of
from conkd_jax.stages import evaluation
from conkd_jax.stages.system import spread_evenly

NO_NUMBER = ("artifacts_dir", "runs_dir", "paper_row")  # options that no number depends on
SEEDS = ("seed", "teacher_seed")
NOT_IN_NAME = {  # fields that a run's name shows elsewhere, or that no number depends on
    *NO_NUMBER,
    *SEEDS,
    "checkpoint_every",
    "corpus.raw_dir",
    "decode.allow_mentioned_items",
    "decode.allow_repeated_items",
    "decode.batch_size",
    "decode.item_rule",
    "evaluation.num_samples",
    "evaluation.split",
    "parallel.num_devices",
    "sweep.field",
    "sweep.over",
    "teacher_outputs.batch_rows",
}
NUM_TRACES = 4  # responses whose gate is drawn


def config_name(path: str) -> str:
    """A config's name: its path under configs/, without ".py" and preset.

    >>> config_name("configs/ablations/cross_fitted.py:mini")
    'ablations/cross_fitted'
    """
    path = path.split(".py")[0].replace(os.sep, "/")
    return path.rsplit("configs/", 1)[-1].lstrip("/")


def overrides_of(config: Config, own: Config) -> dict[str, Any]:
    """The fields that are part of a run's name: those that differ from its config file's own.

    Args:
      config: the config of the run.
      own: what its config file makes, before any override.
    """
    differences = config.differences(own)
    return {field: value for field, value in differences.items() if field not in NOT_IN_NAME}


def default_folder(
    config: Config, name: str, workdir: str = "", overrides: Mapping[str, Any] | None = None
) -> epath.Path:
    """The folder of a run: `workdir`, or by default a folder under runs/ named after the run.

    Args:
      config: the config of the run.
      name: the name of the config.
      workdir: the value of --workdir.
      overrides: what `overrides_of` returns.
    """
    if workdir:
        return epath.Path(workdir)
    return epath.Path(config.runs_dir) / run_name(name, config.to_dict(), overrides)


def write_run_folder(
    folder: epath.Path,
    config: Config,
    name: str,
    stages: Mapping[str, Stage],
    command: str,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes the folder of a run that has been scored.

    The teacher store, which only training reads, may have been deleted. The document then lacks the
    metrics of its manifest: λ on the training split and the fitted η.

    Args:
      folder: the folder; created if it is missing.
      config: the config of the run.
      name: the name of the config.
      stages: the stages of the config, by name.
      command: the command line, which is recorded.
      overrides: what `overrides_of` returns.

    Returns:
      The content of `metrics.json`.

    Raises:
      ArtifactError: the evaluation, or one of its inputs, is missing or unfinished.
    """
    folder.mkdir(parents=True, exist_ok=True)
    root = config.artifacts_dir
    read = {"evaluation", *stages["evaluation"].inputs}
    stages = {key: one for key, one in stages.items() if key in read or is_whole(one, root)}
    directories = {key: stage.directory(root) for key, stage in stages.items()}
    manifests = {key: whole_manifest(stage, root) for key, stage in stages.items()}
    split, settings = stages["evaluation"].config_part["split"], config.to_dict()
    scores = json.loads((directories["evaluation"] / evaluation.SCORES).read_text())
    document = run_document(
        config,
        name,
        split,
        counts=scores["counts"],
        metrics=scores["metrics"] | _training_metrics(manifests),
        intervals={key: tuple(pair) for key, pair in scores["intervals"].items()},
        command=command,
        git=manifests["evaluation"]["git"],
        decoding=decoding_label(settings["decode"]),
        overrides=overrides,
    )
    document["seconds"] = {key: m["wall_seconds"] for key, m in manifests.items()}
    write_json(folder / METRICS, document)
    record = {"name": name, "settings": settings, "split": split, "overrides": overrides or {}}
    write_json(folder / CONFIG, record)
    shutil.copyfile(directories["evaluation"] / PREDICTIONS, folder / PREDICTIONS)
    _write_samples(folder, config, name, directories)
    _draw_figures(folder / "figures", directories, manifests, document, paper_row_of(config))
    _link_artifacts(folder, directories)
    return document


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
        paper_row=config.paper_row,
        overrides=overrides,
        settings_sha256=config_sha256(config, without=SEEDS),
    )


def config_sha256(config: Config, without: Collection[str] = ()) -> str:
    """SHA-256 of a config without the options that no number depends on, such as folders.

    Args:
      config: the config of a run.
      without: further top-level options that are left out.
    """
    settings = config.to_dict()
    kept = {key: value for key, value in settings.items() if key not in {*NO_NUMBER, *without}}
    kept["corpus"] = {key: v for key, v in settings["corpus"].items() if key != "raw_dir"}
    return sha256_of_json(kept)


def machine() -> dict[str, Any]:
    """This machine, for the record: platform, CPUs, devices and the version of jax."""
    devices = jax.devices()
    return {
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "jax": jax.__version__,
    }


def _training_metrics(manifests: Mapping[str, Mapping]) -> dict[str, float]:
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


def _write_samples(
    folder: epath.Path, config: Config, name: str, directories: Mapping[str, epath.Path]
) -> None:
    items = Corpus.open(directories["corpus"]).items
    titles = dict(zip(items.movie_ids.tolist(), items.titles, strict=True))
    predictions = list(read_predictions(folder / PREDICTIONS))
    text = samples_page({name: predictions}, titles, num_samples=config.evaluation.num_samples)
    write_whole(folder / "samples.md", text)


def _draw_figures(
    folder: epath.Path,
    directories: Mapping[str, epath.Path],
    manifests: Mapping[str, Mapping],
    document: Mapping,
    paper: PaperRow | None,
) -> None:
    """Draws loss curves, the gate over all tokens and along a few responses, and F1 bars."""
    folder.mkdir(parents=True, exist_ok=True)
    for stage in ("rec_teacher", "dialogue_teacher", "turn_classifier", "student"):
        history = directories.get(stage, folder) / "history.jsonl"
        if history.exists():
            lines = [json.loads(line) for line in history.read_text().splitlines()]
            best = manifests[stage]["metrics"].get("step")
            draw_loss_curves(
                lines,
                folder / f"loss_{stage}.png",
                title=stage.replace("_", " "),
                best_step=int(best) if best else None,
            )
    with np.load(str(directories["evaluation"] / evaluation.TOKENS)) as tokens:
        tokens = dict(tokens)
    eta = document["metrics"].get("eta")
    mass, is_item = tokens["teacher_item_mass"], tokens["is_item"]
    draw_gate_histograms(
        mass[is_item],
        mass[~is_item],
        folder / "gate_histogram.png",
        eta=eta,
        title=f"The dialogue teacher's gate on {document['split']}",
    )
    vocabulary = Vocabulary.load(directories["vocabulary"])
    draw_gate_traces(
        _traces(tokens, vocabulary),
        folder / "gate_traces.png",
        eta=eta,
        title="λ along gold responses",
    )
    draw_metric_bars(
        document["metrics"],
        folder / "items_in_responses.png",
        paper=paper.metrics if paper else None,
        intervals={key: tuple(pair) for key, pair in document["intervals"].items()},
        title=f"{document['config']} ({document['preset']}) on {document['split']}",
    )


def _traces(tokens: Mapping[str, np.ndarray], vocabulary: Vocabulary) -> list[GateTrace]:
    """The gate along a few responses with an item, spread evenly over the split."""
    with_item = np.unique(tokens["response_index"][tokens["is_item"]])
    chosen = with_item[spread_evenly(len(with_item), NUM_TRACES)]
    return [
        trace_of_response(tokens, vocabulary, response, title=f"response {response}")
        for response in chosen.tolist()
    ]


def _link_artifacts(folder: epath.Path, directories: Mapping[str, epath.Path]) -> None:
    """Links every artifact of the run, and lists them in a file for disks without links."""
    links = folder / "artifacts"
    links.mkdir(exist_ok=True)
    lines = []
    for stage, directory in directories.items():
        lines.append(f"{stage} {os.fspath(directory)}")
        link = os.path.join(os.fspath(links), stage)
        if is_remote(link):
            continue
        if os.path.islink(link):
            os.unlink(link)
        os.symlink(os.path.abspath(os.fspath(directory)), link)
    write_whole(links / "artifacts.txt", "\n".join(lines) + "\n")
