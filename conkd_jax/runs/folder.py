"""Writes the folder of a run: metrics, predictions, samples, figures and links to the artifacts.

Everything comes from finished artifacts, and every invocation rewrites the folder.
`conkd_jax.runs.finished` reads it.
"""

from __future__ import annotations

import io
import json
import os
import posixpath
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from conkd_jax.artifacts.manifest import check_files, is_whole, whole_manifest
from conkd_jax.artifacts.stage import Stage
from conkd_jax.config import Config, field_names
from conkd_jax.config.files import HOME
from conkd_jax.config.parts import SearchConfig
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.eval import origin
from conkd_jax.eval.about_data import with_data
from conkd_jax.eval.document import decoding_label, document_label, run_name
from conkd_jax.eval.figures.loss_curves import draw_loss_curves
from conkd_jax.eval.figures.metric_bars import draw_metric_bars
from conkd_jax.eval.gate.figures import draw_gate_histograms, draw_gate_traces
from conkd_jax.eval.gate.responses import ResponseKey, response_keys, response_name
from conkd_jax.eval.gate.traces import GateTrace, trace_of_response
from conkd_jax.eval.learning import LEARNING, Learning
from conkd_jax.eval.predictions import read_predictions
from conkd_jax.eval.tables.paper import PaperRow
from conkd_jax.eval.tables.samples import samples_page
from conkd_jax.io import terminal
from conkd_jax.io.files import (
    PARTIAL,
    flush,
    is_remote,
    numbered_lines,
    sha256,
    whole_path,
    write_json,
    write_whole,
)
from conkd_jax.io.integrity import DamagedError
from conkd_jax.runs.document import (
    NO_NUMBER,
    SEEDS,
    origin_of_run,
    rate_matched,
    run_document,
    training_metrics,
)
from conkd_jax.runs.finished import CONFIG, METRICS, PREDICTIONS, paper_row_of
from conkd_jax.stages import evaluation
from conkd_jax.stages.systems.rate_matching import MatchedRate
from conkd_jax.stages.systems.system import spread_evenly

NOT_IN_NAME = {  # fields that a run's name shows elsewhere, or that no number depends on
    *NO_NUMBER,
    *SEEDS,
    "checkpoint_every",
    "corpus.raw_dir",
    "decode.allow_mentioned_items",
    "decode.allow_repeated_items",
    "decode.batch_size",
    "decode.item_offset",
    "decode.item_rule",
    *(f"decode.{name}" for name in field_names(SearchConfig())),
    "evaluation.num_samples",
    "evaluation.split",
    "parallel.kind",
    "parallel.num_devices",
    "sweep.field",
    "sweep.over",
    "teacher_outputs.batch_rows",
}
UNNAMED_CORPORA = ("redial", "movieworld")  # the second goes with the preset demo
NUM_TRACES = 4  # responses whose gate is drawn
HISTORY = "history.jsonl"  # in the artifact of a training
LONGEST_STEM = 80  # bytes of a config file's name in that of a run
MOVED = "{folder} held results of another training or split; moved them to {aside}"


def config_name(path: str) -> str:
    """A config's name, which names its runs and their folders.

    For a file in `configs/` of the working directory or of this package, that is its path there,
    without ".py" and preset, whether it was given by path or by name. Any other file is named after
    itself and a hash of its path, so that two files of one name have different runs. Characters
    that a folder's name can't have everywhere become "_".

    >>> config_name("configs/ablations/cross_fitted.py:mini")
    'ablations/cross_fitted'
    >>> config_name("my experiments/hard.py:mini")
    'hard-de684564'
    """
    file = unicodedata.normalize("NFC", path.split(":")[0]).replace(os.sep, "/")
    file = posixpath.normpath(file)
    inside = _path_in_configs(file)
    plain = (inside or posixpath.basename(file)).removesuffix(".py")
    if inside and re.fullmatch(r"([\w-][\w.-]*/)*[\w-][\w.-]*", plain):
        return plain
    here = posixpath.relpath(file) if _is_below(file, ".") else posixpath.abspath(file)
    stem = re.sub(r"[^\w.-]", "_", re.split(r"[/\\\\]", plain)[-1]).lstrip(".") or "config"
    stem = stem.encode()[:LONGEST_STEM].decode(errors="ignore")
    return f"{stem}-{sha256(here)[:8]}"


def _path_in_configs(file: str) -> str:
    """The path of a file in configs/, of the working directory or else of the package; or ""."""
    for folder in ("configs", posixpath.join(HOME.as_posix(), "configs")):
        if _is_below(file, folder):
            inside = posixpath.relpath(posixpath.abspath(file), posixpath.abspath(folder))
            # A file of the package gives way to one of the same path in the working directory.
            here = posixpath.join("configs", inside)
            if not os.path.isfile(here) or os.path.samefile(here, file):
                return inside
    return ""


def _is_below(file: str, folder: str) -> bool:
    file, folder = posixpath.abspath(file), posixpath.abspath(folder)
    return posixpath.commonpath([file, folder]) == folder


def overrides_of(config: Config, own: Config) -> dict[str, Any]:
    """The fields that are part of a run's name: those that differ from its config file's own.

    The corpus is one of them if it is neither ReDial nor generated, although the argument of the
    file names it: results on different data must never look like rows of one table.

    Args:
      config: the config of the run.
      own: what its config file makes, before any override.
    """
    differences = config.differences(own)
    if config.corpus.name not in UNNAMED_CORPORA:
        differences["corpus.name"] = config.corpus.name
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
    *,
    matched: MatchedRate | None = None,
) -> dict[str, Any]:
    """Writes the folder of a run that has been scored.

    Every file appears under its name only when it is complete and safely on the disk, and
    `metrics.json` comes last: a folder that has it has the other files of the same run.

    What an earlier run left there, its gate analysis and other splits included, is moved aside
    first, unless it was made from the same artifacts.

    The teacher store, which only training reads, may have been deleted. The document then lacks the
    metrics of its manifest: λ on the training split and the fitted η.

    Args:
      folder: the folder; created if it is missing.
      config: the config of the run.
      name: the name of the config.
      stages: the stages of the config, by name.
      command: the command line, which is recorded.
      overrides: what `overrides_of` returns.
      matched: how the config's item offset was chosen on dev; None where it was not.

    Returns:
      The content of `metrics.json`.

    Raises:
      ArtifactError: the evaluation, or one of its inputs, is missing or unfinished.
      DamagedError: a file of an artifact is not what was written; nothing in the folder changes.
    """
    root = config.artifacts_dir
    inputs = stages["evaluation"].inputs  # with a split that training never reads, another corpus
    read = {"evaluation", *inputs}
    stages = {key: one for key, one in stages.items() if key in read or is_whole(one, root)}
    stages |= inputs
    directories = {key: stage.directory(root) for key, stage in stages.items()}
    manifests = {key: whole_manifest(stage, root) for key, stage in stages.items()}
    for key, directory in directories.items():  # what is read below
        is_read_whole = key in ("corpus", "scored_corpus", "vocabulary", "evaluation")
        check_files(directory, None if is_read_whole else [HISTORY], with_shards=True)
    split, settings = stages["evaluation"].config_part["split"], config.to_dict()
    scores = json.loads((directories["evaluation"] / evaluation.SCORES).read_text())
    document = run_document(
        config,
        name,
        split,
        counts=scores["counts"],
        metrics=scores["metrics"] | training_metrics(manifests),
        intervals={key: tuple(pair) for key, pair in scores["intervals"].items()},
        command=command,
        git=manifests["evaluation"]["git"],
        decoding=decoding_label(settings["decode"]),
        overrides=overrides,
    )
    if matched is not None:
        document |= rate_matched(document, config, matched)
    scored = directories.get("scored_corpus", directories["corpus"])
    document = with_data(document, Corpus.open(scored).report)
    document["seconds"] = {key: m["wall_seconds"] for key, m in manifests.items()}
    document["compile_seconds"] = {
        key: m["compile_seconds"] for key, m in manifests.items() if "compile_seconds" in m
    }
    document[LEARNING] = _learning_of(config, directories, manifests)
    document[origin.KEY] = origin_of_run(stages["evaluation"])
    folder.mkdir(parents=True, exist_ok=True)
    if aside := origin.set_aside(folder, document[origin.KEY]):
        terminal.say(MOVED.format(folder=folder, aside=aside))
    _copy_predictions(directories["evaluation"] / PREDICTIONS, folder / PREDICTIONS, scores)
    _link_artifacts(folder, directories)
    record = {"name": name, "settings": settings, "split": split, "overrides": overrides or {}}
    write_json(folder / CONFIG, record)
    _write_samples(folder, config, document_label(document), directories)
    paper, num_mim = paper_row_of(config, split), config.rec_teacher.mim_epochs
    _draw_figures(folder / "figures", directories, manifests, document, paper, num_mim)
    flush(folder)
    write_json(folder / METRICS, document)
    return document


def _copy_predictions(source: epath.Path, target: epath.Path, scores: Mapping[str, Any]) -> None:
    """Copies an artifact's predictions over those of the run, unless they were cut short.

    Raises:
      DamagedError: there are fewer of them than were scored.
    """
    with whole_path(target) as partial:
        source.copy(partial)
        with open(partial, "rb") as file:
            count = sum(1 for _ in numbered_lines(file))
        if count != scores["counts"]["responses"]:
            raise DamagedError(
                f"{source} is damaged: expected {scores['counts']['responses']:,} responses, as "
                f"were scored, found {count:,}.",
                source.parent,
            )


def _learning_of(
    config: Config, directories: Mapping[str, epath.Path], manifests: Mapping[str, Mapping]
) -> dict[str, Any]:
    """What the dev scores of the language models say, by stage (see `eval.learning`)."""
    found = {}
    for stage, training in (
        ("dialogue_teacher", config.dialogue_teacher),
        ("student", config.student),
    ):
        if stage in directories and (lines := _history(directories[stage])):
            kept = int(manifests[stage]["metrics"]["step"])
            learning = Learning.of(lines, epochs=training.epochs, kept_step=kept)
            found |= {} if learning is None else {stage: learning.to_dict()}
    return found


def _history(directory: epath.Path) -> list[dict[str, Any]]:
    """The lines of a training's history; none if there is no such file."""
    file = directory / HISTORY
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _write_samples(
    folder: epath.Path, config: Config, label: str, directories: Mapping[str, epath.Path]
) -> None:
    items = Corpus.open(directories["corpus"]).items
    titles = dict(zip(items.item_ids.tolist(), items.titles, strict=True))
    predictions = list(read_predictions(folder / PREDICTIONS))
    text = samples_page({label: predictions}, titles, num_samples=config.evaluation.num_samples)
    write_whole(folder / "samples.md", text)


def _draw_figures(
    folder: epath.Path,
    directories: Mapping[str, epath.Path],
    manifests: Mapping[str, Mapping],
    document: Mapping,
    paper: PaperRow | None,
    num_mim: int,
) -> None:
    """Draws loss curves, the gate over all tokens and along a few responses, and F1 bars."""
    folder.mkdir(parents=True, exist_ok=True)
    for stage in ("sentiment", "rec_teacher", "dialogue_teacher", "turn_classifier", "student"):
        if lines := _history(directories.get(stage, folder)):
            best = manifests[stage]["metrics"].get("step")
            draw_loss_curves(
                lines,
                folder / f"loss_{stage}.png",
                title=stage.replace("_", " "),
                best_step=int(best) if best else None,
                new_loss_after=_end_of_mim(lines, num_mim) if stage == "rec_teacher" else 0,
            )
    content = (directories["evaluation"] / evaluation.TOKENS).read_bytes()
    with np.load(io.BytesIO(content)) as arrays:
        tokens = dict(arrays)
    eta = document["metrics"].get("eta")
    chosen = tokens.get("is_choice", slice(None))  # of item-first rows: not in their texts
    mass, is_item = tokens["teacher_item_mass"][chosen], tokens["is_item"][chosen]
    draw_gate_histograms(
        mass[is_item],
        mass[~is_item],
        folder / "gate_histogram.png",
        eta=eta,
        title=f"The dialogue teacher's gate on {document['split']}",
    )
    vocabulary = Vocabulary.load(directories["vocabulary"])
    scored = "scored_corpus" if "scored_corpus" in directories else "corpus"
    keys = response_keys(Corpus.open(directories[scored]), document["split"])
    draw_gate_traces(
        _traces(tokens, vocabulary, keys),
        folder / "gate_traces.png",
        eta=eta,
        title="λ along gold responses",
    )
    draw_metric_bars(
        document["metrics"],
        folder / "items_in_responses.png",
        paper=paper.metrics if paper else None,
        intervals={key: tuple(pair) for key, pair in document["intervals"].items()},
        title=f"{document_label(document)} ({document['preset']}) on {document['split']}",
    )


def _end_of_mim(history: Sequence[Mapping], num_epochs: int) -> int:
    """The step after which the recommender is trained for more than MIM; 0 without such a part."""
    ends = [line["step"] for line in history if "dev_cross_entropy" in line]  # of every epoch
    return int(ends[num_epochs - 1]) if 0 < num_epochs <= len(ends) else 0


def _traces(
    tokens: Mapping[str, np.ndarray], vocabulary: Vocabulary, keys: Sequence[ResponseKey]
) -> list[GateTrace]:
    """The gate along a few responses with an item, spread evenly over the split."""
    with_item = np.unique(tokens["response_index"][tokens["is_item"]])
    chosen = with_item[spread_evenly(len(with_item), NUM_TRACES)]
    return [
        trace_of_response(tokens, vocabulary, response, title=response_name(keys[response]))
        for response in chosen.tolist()
    ]


def _link_artifacts(folder: epath.Path, directories: Mapping[str, epath.Path]) -> None:
    """Links every artifact of the run, and lists them in a file for disks without links."""
    links = folder / origin.KEY
    links.mkdir(exist_ok=True)
    lines = []
    for stage, directory in directories.items():
        lines.append(f"{stage} {os.fspath(directory)}")
        link = os.path.join(os.fspath(links), stage)
        if is_remote(link):
            continue
        new = f"{link}{PARTIAL}{os.getpid()}"
        os.symlink(os.path.abspath(os.fspath(directory)), new)
        os.replace(new, link)
    write_whole(links / origin.LISTING, "\n".join(lines) + "\n")
