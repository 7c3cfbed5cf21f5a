"""Predictions of runs, found by what a user names: a run's folder or a predictions.jsonl.

The titles of a run's items lie beside its predictions, in the corpus that the run links to.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable

from etils import epath

from conkd_jax.data.corpus import Corpus
from conkd_jax.errors import UserError
from conkd_jax.eval.predictions import PredictionError
from conkd_jax.files import read_csv

PREDICTIONS = "predictions.jsonl"


class TitleError(UserError, ValueError):
    """A file that holds no titles of movies."""


def predictions_file(run: epath.PathLike) -> epath.Path:
    """Returns the predictions of a run.

    Args:
      run: the folder of a run, or a predictions.jsonl.

    Raises:
      PredictionError: there is no such file.
    """
    path = epath.Path(run)
    file = path / PREDICTIONS if path.is_dir() else path
    if not file.exists():
        raise PredictionError(
            f"{run}: expected a predictions.jsonl, or the folder that conkd_jax.train or "
            "conkd_jax.evaluate left with one in it; found none."
        )
    return file


def system_name(file: epath.PathLike) -> str:
    """Returns the name of the system that wrote a file.

    That is the name of the file, or of its folder where the file has the usual name.

    >>> system_name("theirs/kbrd.jsonl"), system_name("runs/unicrs/predictions.jsonl")
    ('kbrd', 'unicrs')
    """
    path = epath.Path(file)
    name = path.resolve().parent.name if path.stem == "predictions" else path.stem
    return re.sub(r"[^\w.-]", "_", name) or "system"


def predictions_by_name(runs: Iterable[epath.PathLike]) -> dict[str, epath.Path]:
    """Returns the predictions of runs by the names of their systems.

    Args:
      runs: folders of runs, or files like predictions.jsonl.

    Raises:
      PredictionError: a run has none, or two have the same name.
    """
    files: dict[str, epath.Path] = {}
    for run in runs:
        file = predictions_file(run)
        name = system_name(file)
        if name in files:
            raise PredictionError(
                f"{files[name]} and {file}: expected runs with different names, got {name} twice. "
                "A copy of the file under another name counts as a system of that name."
            )
        files[name] = file
    return files


def titles_of_runs(
    files: Iterable[epath.Path], given: epath.PathLike | None = None
) -> dict[int, str]:
    """Returns titles of items by movie id.

    Args:
      files: predictions of runs; each run's folder may link to its corpus.
      given: a CSV file of movie ids and titles, or the folder of a corpus; its titles take
        precedence over those of the runs.

    Raises:
      TitleError: `given` is neither.
      CorpusError: a corpus is damaged.
    """
    titles: dict[int, str] = {}
    for file in files:
        corpus = file.parent / "artifacts" / "corpus"
        if corpus.exists():
            titles |= _titles_of_corpus(corpus)
    if given:
        path = epath.Path(given)
        titles |= _titles_of_corpus(path) if path.is_dir() else read_titles(path)
    return titles


def _titles_of_corpus(corpus: epath.Path) -> dict[int, str]:
    items = Corpus.open(corpus).items
    return dict(zip(items.movie_ids.tolist(), items.titles, strict=True))


def read_titles(path: epath.PathLike) -> dict[int, str]:
    """Returns titles from a CSV file with movie ids and titles in its first two columns.

    Args:
      path: the file; its first row may be a header.

    Raises:
      TitleError: there is no such file, or a row has no movie id and title.
    """
    path = epath.Path(path)
    if not path.exists():
        raise TitleError(
            f"{path}: expected a CSV file of movie ids and titles, or the folder of a corpus; "
            "found neither."
        )
    titles: dict[int, str] = {}
    rows = read_csv(path.read_bytes().decode(errors="replace"))
    try:
        for place, (line, row) in enumerate(rows):
            if len(row) > 1 and row[0].strip().isdecimal():
                titles[int(row[0])] = row[1].strip()
            elif place > 0:
                raise TitleError(
                    f"{path}, line {line}: expected movie id and title, got {row[:2]}. ReDial's "
                    "movies_with_mentions.csv is such a file."
                )
    except csv.Error as error:
        raise TitleError(f"{path}, {error}: expected a CSV file of movie ids and titles") from error
    return titles
