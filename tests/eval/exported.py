"""Runs to export a human evaluation from, and its sheets filled, for the tests of both ways."""

import csv
import io
import json
from pathlib import Path

import numpy as np

from conkd_jax.config import from_argument, frozen
from conkd_jax.data.corpus import ConceptGraph, ItemTable, KnowledgeGraph
from conkd_jax.data.corpus_writing import write_corpus
from conkd_jax.eval.human.study import Study, study_from_document
from conkd_jax.eval.predictions import write_predictions
from tests.eval import judged


def write_run(folder: Path, system: str = "dialogpt_hard", corpus: str = "redial") -> Path:
    """What conkd_jax.train leaves, as far as a human evaluation reads it."""
    folder.mkdir(parents=True)
    name = judged.NAMES[0] if system == "dialogpt" else judged.NAMES[1]
    write_predictions(folder / "predictions.jsonl", judged.answers(name).values())
    config = frozen(from_argument("mini")).replace({"corpus.name": corpus})
    settings = config.to_dict()
    record = {"name": system, "settings": settings, "split": "valid"}
    (folder / "config.json").write_text(json.dumps(record))
    return folder


def write_items(folder: Path, title: str = "Gladiator (2000)") -> Path:
    write_corpus(
        folder,
        splits={"train": []},
        items=ItemTable(
            np.array([7], np.int64), [title], np.array([0], np.int32), np.array([True])
        ),
        graph=KnowledgeGraph(1, 1, ["loop"], np.array([[0, 0, 0]], np.int32), "kgsf"),
        concept_graph=ConceptGraph(0, np.zeros((0, 2), np.int32), [], np.zeros(0, bool)),
        report={},
    )
    return folder


def key(out: Path) -> Study:
    return study_from_document(json.loads((out / "key.json").read_text()), where="key.json")


def fill(out: Path, **form) -> list[Path]:
    """Every annotator's sheet, judged by the rule of `judged.scores`."""
    study = key(out)
    files = []
    for annotator in range(1, len(study.sheets) + 1):
        files.append(out.parent / f"{out.name}_{annotator}_judged.csv")
        files[-1].write_bytes(judged.csv_bytes(judged.rows(study, annotator), **form))
    return files


def csv_rows(out: Path, annotator: int) -> list[dict[str, str]]:
    name = f"annotator_{annotator}"
    text = (out / name / f"{name}.csv").read_text(encoding="utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def sent(out: Path) -> dict[str, bytes]:
    """Everything that goes to annotators."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes() for path in out.glob("annotator_*/*")
    }
