"""The files of a system that a user names: its predictions, and the titles of their items."""

from __future__ import annotations

import re

from etils import epath

from conkd_jax.data.corpus import Corpus, CorpusError
from conkd_jax.data.titles import titles_from_csv
from conkd_jax.errors import UserError
from conkd_jax.eval.predictions import PredictionError

PREDICTIONS = "predictions.jsonl"
ARTIFACTS = "artifacts.txt"  # in the folder artifacts/ of a run: its artifacts, one on each line


class TitleError(UserError, ValueError):
    """A file that holds no titles of items."""


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


def open_corpus(folder: epath.PathLike, split: str = "") -> Corpus:
    """Opens a corpus, or that of a run.

    A run that was scored on a split which it was not trained with has two corpora; the one that
    holds the split is opened.

    Args:
      folder: a corpus, or a folder written by `conkd_jax.train` or `conkd_jax.evaluate`.
      split: the split that the corpus should hold.

    Raises:
      CorpusError: the folder is neither, or the corpus is damaged.
    """
    run = epath.Path(folder)
    homes = [home for home in (run, run / split) if (home / "artifacts" / ARTIFACTS).exists()]
    if (run / "corpus.json").exists() or not homes:
        return Corpus.open(run)
    found = [Corpus.open(path) for home in homes for path in _corpora_of_run(home)]
    if not found:
        raise CorpusError(
            f"{run}: expected the corpus of the run, found none that {ARTIFACTS} lists. Give the "
            "folder of a corpus"
        )
    return next((corpus for corpus in found if split in corpus.splits), found[0])


def _corpora_of_run(run: epath.Path) -> list[epath.Path]:
    """The corpora of a run's folder: the one with the scored split last."""
    lines = (run / "artifacts" / ARTIFACTS).read_text().splitlines()
    listed = dict(line.split(" ", 1) for line in lines if " " in line)
    paths = []
    for name in ("corpus", "scored_corpus"):
        if name in listed:  # a link, or on a disk without links the path beside it
            link = run / "artifacts" / name
            paths.append(link if link.exists() else epath.Path(listed[name]))
    return [path for path in paths if path.exists()]


def corpus_titles(corpus: epath.PathLike) -> dict[int, str]:
    """Returns the titles of a corpus' items by item id.

    Args:
      corpus: a corpus, or a run.

    Raises:
      CorpusError: the corpus is damaged.
    """
    items = open_corpus(corpus).items
    return dict(zip(items.item_ids.tolist(), items.titles, strict=True))


def read_titles(path: epath.PathLike) -> dict[int, str]:
    """Returns the titles of items by item id, from a CSV file or a corpus.

    Args:
      path: a CSV file with item ids and titles in its first two columns and perhaps a header, or
        the folder of a corpus or of a run.

    Raises:
      TitleError: there is neither, or a row has no item id and title or repeats an id.
      CorpusError: the corpus is damaged.
    """
    path = epath.Path(path)
    if path.is_dir():
        return corpus_titles(path)
    if not path.exists():
        raise TitleError(
            f"{path}: expected a CSV file of item ids and titles, or the folder of a corpus; "
            "found neither."
        )
    remedy = "Correct the line; ReDial's movies_with_mentions.csv is such a file"
    return titles_from_csv(path.read_bytes(), str(path), TitleError, remedy)
