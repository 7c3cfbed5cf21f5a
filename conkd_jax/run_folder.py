"""What one invocation leaves to be read: metrics, predictions, samples, figures, links.

Nothing here is computed that an artifact does not hold already; the folder is written anew every
time.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from conkd_jax import config as conkd
from conkd_jax import config_rules
from conkd_jax.artifacts.build import Stage
from conkd_jax.artifacts.manifest import is_whole, whole_manifest
from conkd_jax.config import Config
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.eval import report
from conkd_jax.eval.figures.loss_curves import draw_loss_curves
from conkd_jax.eval.figures.metric_bars import draw_metric_bars
from conkd_jax.eval.gate.figures import draw_gate_histograms, draw_gate_traces
from conkd_jax.eval.gate.traces import GateTrace, trace_of_response
from conkd_jax.eval.predictions import read_predictions
from conkd_jax.eval.tables import samples
from conkd_jax.eval.tables.paper import PaperRow, paper_row
from conkd_jax.stages import evaluation

FOLDERS = ("artifacts_dir", "runs_dir")
NUM_TRACES = 4  # responses whose gate is drawn


class Record(NamedTuple):
    """What a run's config.json says: the config, its name and the split that was scored."""

    config: Config
    name: str
    split: str


def config_name(path: str) -> str:
    """A config's name: its path under configs/, without ".py" and preset.

    >>> config_name("configs/ablations/cross_fitted.py:mini")
    'ablations/cross_fitted'
    """
    path = path.split(".py")[0].replace(os.sep, "/")
    return path.rsplit("configs/", 1)[-1].lstrip("/")


def paper(config, name: str) -> PaperRow | None:
    """The paper's row to stand beside; none for a synthetic corpus, which no paper has."""
    return paper_row(name, config.backbone) if config.corpus.name == "redial" else None


def default(config, name: str, workdir: str = "") -> epath.Path:
    """Where a run's files go: `workdir`, or a folder of the run's own name under runs/."""
    if workdir:
        return epath.Path(workdir)
    return epath.Path(config.runs_dir) / report.run_name(name, config.to_dict())


def read_record(folder: epath.Path) -> Record:
    """What was run, of a folder that `write` left.

    Raises:
      ConfigError: the folder holds no run, or one of another version.
    """
    path = folder / "config.json"
    if not path.exists():
        raise conkd.ConfigError(
            f"{folder}: expected a folder that conkd_jax.train left, with config.json in it; found "
            "none. For example runs/dialogpt_hard-demo-seed0"
        )
    try:
        record = json.loads(path.read_text())
        settings, name, split = record["settings"], record["name"], record["split"]
        config = Config.from_dict(settings)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise conkd.ConfigError(
            f"{path} is not the config of a run of this version: {error}. Train it again, or use "
            "the version that trained it."
        ) from error
    return Record(config_rules.validate(config), name, split)


def write(
    folder: epath.Path, config, name: str, stages: Mapping[str, Stage], command: str
) -> dict[str, Any]:
    """Writes the folder of a run: what its evaluation read is whole.

    What only a training read, the teachers' outputs, may have been deleted since; the document then
    lacks what they told (λ on train, the fitted η).

    Raises:
      ArtifactError: the evaluation, or something that it read, is not finished.

    Returns:
      The document that `metrics.json` holds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    root = config.artifacts_dir
    read = {"evaluation", *stages["evaluation"].inputs}
    stages = {key: one for key, one in stages.items() if key in read or is_whole(one, root)}
    directories = {key: stage.directory(root) for key, stage in stages.items()}
    manifests = {key: whole_manifest(stage, root) for key, stage in stages.items()}
    split = stages["evaluation"].config_part["split"]
    settings = config.to_dict()
    scores = json.loads((directories["evaluation"] / evaluation.SCORES).read_text())
    scores["metrics"] |= _training_metrics(config, manifests)
    document = report.metrics_json(
        config_name=name,
        preset=config.preset,
        backbone=config.backbone,
        split=split,
        seed=config.seed,
        config_sha256=config_sha256(config),
        counts=scores["counts"],
        metrics=scores["metrics"],
        intervals={key: tuple(pair) for key, pair in scores["intervals"].items()},
        command=command,
        machine=machine(),
        git=manifests["evaluation"]["git"],
        decoding=report.decoding_label(settings["decode"]),
        teacher_seed=config.teacher_seed,
    )
    document["seconds"] = {key: m["wall_seconds"] for key, m in manifests.items()}
    report.write_json(folder / "metrics.json", document)
    record = {"name": name, "settings": settings, "split": split}
    report.write_json(folder / "config.json", record)
    shutil.copyfile(
        directories["evaluation"] / evaluation.PREDICTIONS, folder / evaluation.PREDICTIONS
    )
    _samples(folder, config, name, directories)
    _figures(folder / "figures", directories, manifests, document, paper(config, name))
    _links(folder, directories)
    return document


def config_sha256(config) -> str:
    """Hash of a config, less where files lie on this machine, which changes no number."""
    settings = config.to_dict()
    kept = {key: value for key, value in settings.items() if key not in (*FOLDERS, "paper_row")}
    kept["corpus"] = {key: v for key, v in settings["corpus"].items() if key != "raw_dir"}
    return report.config_sha256(kept)


def machine() -> dict[str, Any]:
    """What the numbers were made on."""
    import jax

    devices = jax.devices()
    return {
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "jax": jax.__version__,
    }


def _training_metrics(config, manifests: Mapping[str, Mapping]) -> dict[str, float]:
    """η, and λ on the training responses (optimistic: the teacher was fitted to them)."""
    found = {}
    store = manifests.get("teacher_outputs", {}).get("metrics", {})
    for key in ("train_lambda_r", "train_lambda_v", "fitted_eta"):
        if store.get(key) is not None:  # no η can be fitted where dev has no item
            found[key] = store[key]
    student = manifests.get("student", {}).get("metrics", {})
    if "eta" in student:
        found["eta"] = student["eta"]
    return found


def _samples(folder: epath.Path, config, name: str, directories: Mapping[str, epath.Path]) -> None:
    items = Corpus.open(directories["corpus"]).items
    titles = dict(zip(items.movie_ids.tolist(), items.titles, strict=True))
    predictions = list(read_predictions(folder / evaluation.PREDICTIONS))
    text = samples.samples_md(
        {name: predictions}, titles, num_samples=config.evaluation.num_samples
    )
    (folder / "samples.md").write_text(text)


def _figures(
    folder: epath.Path,
    directories: Mapping[str, epath.Path],
    manifests: Mapping[str, Mapping],
    document: Mapping,
    paper: PaperRow | None,
) -> None:
    """Loss curves of everything trained; the gate along responses and over all of them; F1 bars."""
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
    """The gate along some responses that hold an item, spread evenly over the split."""
    with_item = np.unique(tokens["response_index"][tokens["is_item"]])
    chosen = with_item[np.linspace(0, len(with_item) - 1, NUM_TRACES).astype(int)]
    return [
        trace_of_response(tokens, vocabulary, response, title=f"response {response}")
        for response in islice(dict.fromkeys(chosen.tolist()), NUM_TRACES)
    ]


def _links(folder: epath.Path, directories: Mapping[str, epath.Path]) -> None:
    """A link, or where the disk has none a line of text, to every artifact of the run."""
    links = folder / "artifacts"
    links.mkdir(exist_ok=True)
    lines = []
    for stage, directory in directories.items():
        lines.append(f"{stage} {os.fspath(directory)}")
        link = os.path.join(os.fspath(links), stage)
        if "://" in link:
            continue
        if os.path.islink(link):
            os.unlink(link)
        os.symlink(os.path.abspath(os.fspath(directory)), link)
    (links / "artifacts.txt").write_text("\n".join(lines) + "\n")
