"""A human evaluation goes out: a folder for each annotator, and the key that stays at home."""

from __future__ import annotations

import json
from collections.abc import Sequence

from etils import epath

from conkd_jax.eval.document import run_name
from conkd_jax.eval.human.form import form_page
from conkd_jax.eval.human.instructions import instructions_md
from conkd_jax.eval.human.sheets import sheet_csv
from conkd_jax.eval.human.study import (
    Shown,
    Study,
    StudyError,
    System,
    draw_study,
    shown_contexts,
    study_document,
    untitled_items,
)
from conkd_jax.eval.predictions import read_predictions
from conkd_jax.eval.run_predictions import PREDICTIONS, predictions_file, titles_of_runs
from conkd_jax.files import sha256_of_file, write_json, write_whole

KEY = "key.json"


def export_study(
    runs: Sequence[epath.PathLike],
    out: epath.PathLike,
    *,
    num_contexts: int = 100,
    num_annotators: int = 3,
    seed: int = 0,
    titles: epath.PathLike = "",
) -> list[str]:
    """Draws a study over runs and writes its folder.

    The key is written last: a folder without one is not a study.

    Args:
      runs: folders of runs, or files like predictions.jsonl.
      out: the folder of the study.
      num_contexts: the number of contexts that are judged.
      num_annotators: the number of sheets.
      seed: the seed of contexts and orders.
      titles: where item titles come from if not from the runs: a CSV file, or the folder of a
        corpus.

    Returns:
      Lines that say what was written.

    Raises:
      StudyError: the runs have too few contexts in common, or the folder holds a study already.
      PredictionError: a run can't be found, or its file is not a predictions.jsonl.
      TitleError: `titles` can't be read.
      CorpusError: a corpus is damaged.
    """
    out = epath.Path(out)
    if (out / KEY).exists():
        raise StudyError(
            f"{out}: expected a folder without a study, found {KEY}: without it the sheets that "
            "were sent out can't be scored. Name another folder."
        )
    files = [predictions_file(run) for run in runs]
    systems = [_system(file) for file in files]
    answers = [{p.key: p for p in read_predictions(file)} for file in files]
    study = draw_study(
        systems, answers, num_contexts=num_contexts, num_annotators=num_annotators, seed=seed
    )
    texts = shown_contexts(study, answers, titles_of_runs(files, titles))
    for annotator in range(1, num_annotators + 1):
        _write_annotator(out, study, annotator, texts)
    write_json(out / KEY, study_document(study))
    return _summary(study, out, untitled_items(texts))


def _write_annotator(out: epath.Path, study: Study, annotator: int, texts: Sequence[Shown]) -> None:
    name = f"annotator_{annotator}"
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    page = form_page(study, annotator, texts, file=f"{name}_judged.csv")
    write_whole(folder / f"{name}.html", page)
    write_whole(folder / f"{name}.csv", sheet_csv(study, annotator, texts))
    write_whole(folder / "instructions.md", instructions_md())


def _summary(study: Study, out: epath.Path, untitled: set[str]) -> list[str]:
    lines = [
        f"{len(study.contexts)} contexts, {len(study.systems)} systems, {len(study.sheets)} "
        f"annotators: {len(study.sheets[0]):,} responses each.",
        f"Send each annotator a folder: {out}/annotator_1" + ("…" if study.sheets[1:] else ""),
        f"Keep to yourself: {out}/{KEY}",
    ]
    if untitled:
        lines.append(
            f"Note: {len(untitled):,} items have no title and are shown like {min(untitled)}; "
            "--titles=FILE gives them titles."
        )
    return lines


def _system(file: epath.Path) -> System:
    """Returns who wrote a file, by the config beside it or the name of the file or its folder."""
    sha256 = sha256_of_file(file)
    if file.name != PREDICTIONS:
        return System(file.stem, "", "", "", sha256)
    path = file.parent / "config.json"
    if not path.exists():
        return System(file.parent.name, "", "", "", sha256)
    try:
        record = json.loads(path.read_text())
        config, settings = record["name"], record["settings"]
        backbone, corpus = settings["backbone"], settings["corpus"]["name"]
        return System(run_name(config, settings), config, backbone, corpus, sha256)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(
            f"{path} is not the config of a run ({error!r}): expected one that conkd_jax.train "
            "left. Restore it, or give the predictions.jsonl from a folder without it."
        ) from error
