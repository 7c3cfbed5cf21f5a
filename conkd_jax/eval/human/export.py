"""A human evaluation goes out: a folder for each annotator, and the key that stays at home."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from etils import epath

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
from conkd_jax.io.files import write_json, write_whole

KEY = "key.json"


def export_study(
    systems: Sequence[System],
    files: Sequence[epath.Path],
    titles: Mapping[int, str],
    out: epath.PathLike,
    *,
    num_contexts: int = 100,
    num_annotators: int = 3,
    seed: int = 0,
) -> list[str]:
    """Draws a study over systems and writes its folder.

    The key is written last: a folder without one is not a study.

    Args:
      systems: the systems that are compared.
      files: the predictions.jsonl of each.
      titles: of items, by item id.
      out: the folder of the study.
      num_contexts: the number of contexts that are judged.
      num_annotators: the number of sheets.
      seed: the seed of contexts and orders.

    Returns:
      Lines that say what was written.

    Raises:
      StudyError: the systems have too few contexts in common, or the folder holds a study already.
      PredictionError: a file is not a predictions.jsonl.
    """
    out = epath.Path(out)
    if (out / KEY).exists():
        raise StudyError(
            f"{out}: expected a folder without a study, found {KEY}: without it the sheets that "
            "were sent out can't be scored. Name another folder."
        )
    answers = [{p.key: p for p in read_predictions(file)} for file in files]
    study = draw_study(
        systems, answers, num_contexts=num_contexts, num_annotators=num_annotators, seed=seed
    )
    texts = shown_contexts(study, answers, titles)
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
            f"Note: items without a title: {len(untitled):,}, shown like {min(untitled)}; "
            "--titles=FILE gives them titles."
        )
    return lines
