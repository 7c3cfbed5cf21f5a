"""The files of a system that a user names: its predictions, and the titles of their items."""

from __future__ import annotations

import csv
import re

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
            f"{run}: expected a predictions.jsonl, or a folder written by conkd_jax.train "
            "or conkd_jax.evaluate with one in it; found none."
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


def corpus_titles(corpus: epath.PathLike) -> dict[int, str]:
    """Returns the titles of a corpus' items by movie id.

    Raises:
      CorpusError: the corpus is damaged.
    """
    items = Corpus.open(corpus).items
    return dict(zip(items.movie_ids.tolist(), items.titles, strict=True))


def read_titles(path: epath.PathLike) -> dict[int, str]:
    """Returns the titles of items by movie id, from a CSV file or a corpus.

    Args:
      path: a CSV file with movie ids and titles in its first two columns and perhaps a header, or
        the folder of a corpus.

    Raises:
      TitleError: there is neither, or a row has no movie id and title.
      CorpusError: the corpus is damaged.
    """
    path = epath.Path(path)
    if path.is_dir():
        return corpus_titles(path)
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
