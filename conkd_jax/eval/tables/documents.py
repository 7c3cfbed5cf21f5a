"""The metrics.json files of runs: which are read, and where those that docs quote are kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from etils import epath

from conkd_jax.eval.document import (
    Document,
    DocumentError,
    checked_document,
    document_label,
    seeds_label,
)
from conkd_jax.eval.origin import EARLIER, foreign
from conkd_jax.io.files import absolute, parse_json, write_json

# --- reading ---------------------------------------------------------------------------------


def read_documents(runs: Iterable[epath.PathLike]) -> list[Document]:
    """Returns the documents of runs, each file once.

    Args:
      runs: a metrics.json, a run's folder, or a folder that holds several of them at any depth.

    Raises:
      DocumentError: a run can't be found, a file is not a metrics.json, or results on another split
        or of the latency are not those of the run in whose folder they lie.
    """
    files: dict[epath.Path, None] = {}
    for run in runs:
        found = _document_files(epath.Path(run))
        if not found:
            raise DocumentError(
                f"{run}: expected a metrics.json, the folder of a run, or a folder with "
                "metrics.json or seed<k>.json at some depth; found none."
            )
        files |= dict.fromkeys(map(absolute, found))
    for path in files:
        run = path.parent.parent
        if (run / "metrics.json").exists() and (why := foreign(path.parent, run)):
            raise DocumentError(
                f"{path}: expected results of the run that they lie in, but {why}. Score or time "
                "the run again, or delete the folder."
            )
    return [read_document(path) for path in files]


def documents_in(folder: epath.PathLike) -> list[Document]:
    """Returns the documents at any depth of a folder; none if there is no such folder.

    Raises:
      DocumentError: a file is not a metrics.json.
    """
    return [read_document(path) for path in _document_files(epath.Path(folder))]


def read_document(path: epath.Path) -> Document:
    """Returns the document of one file.

    Raises:
      DocumentError: it is not a metrics.json.
    """
    try:
        value = parse_json(path.read_text())
    except ValueError as error:  # text that is not UTF-8 is a ValueError too
        raise DocumentError(f"{path}: expected a metrics.json; it is not JSON: {error}") from error
    return checked_document(value, str(path))


def _document_files(path: epath.Path) -> list[epath.Path]:
    """Returns a file itself, the metrics.json of a run's folder, or those of any other folder.

    What lies below a run's metrics.json (its scores on another split, its latency) is not read, nor
    is what was moved aside.
    """
    if not path.is_dir():
        return [path] if path.exists() else []
    if (path / "metrics.json").exists():
        return [path / "metrics.json"]
    files = []
    for entry in sorted(path.iterdir()):
        if entry.is_dir():
            is_skipped = entry.name.startswith(".") or entry.name == EARLIER
            files += [] if is_skipped else _document_files(entry)
        elif entry.name.startswith("seed") and entry.suffix == ".json":
            files.append(entry)
    return files


# --- writing ---------------------------------------------------------------------------------


def write_document(path: epath.PathLike, document: Mapping[str, Any]) -> None:
    """Writes a comparison, curves or the like as JSON; the folder is created."""
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, dict(document))


# --- keeping ---------------------------------------------------------------------------------


def keep_documents(documents: Iterable[Document], checkout: Path) -> list[str]:
    """Writes documents where they are committed, without this machine's folders in commands.

    Args:
      documents: contents of `metrics.json`.
      checkout: the root of the checkout.

    Returns:
      The files, relative to the root of the checkout.

    Raises:
      DocumentError: a committed file is of another split or other teachers, or two documents have
        one path.
    """
    kept: dict[str, Document] = {}
    for document in documents:
        path = commit_path(document)
        if path in kept:
            raise DocumentError(f"{path}: expected one run for each file, got two.")
        if (checkout / path).exists():
            other = read_document(epath.Path(checkout / path))
            for field in ("split", "teacher_seed"):
                if other.get(field, 0) != document.get(field, 0):
                    raise DocumentError(
                        f"{path} has {field} {other.get(field, 0)}, the run has "
                        f"{document.get(field, 0)}: expected the same. Delete that file if this "
                        "run is to replace it."
                    )
        kept[path] = document
    for path, document in kept.items():
        command = portable_command(document["command"])
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        write_json(checkout / path, {**document, "command": command})
    return list(kept)


def commit_path(document: Document) -> str:
    """Returns where a run that the docs quote is committed, relative to the checkout.

    >>> run = {"preset": "mini", "config": "ablations/vanilla", "backbone": "kgsf", "seed": 2}
    >>> commit_path(run | {"metrics": {"ppl": 40.0}})
    'docs/results/mini/ablations/vanilla-kgsf/seed2.json'
    >>> commit_path(run | {"metrics": {"ms_per_token": 5.3}})
    'docs/results/latency/mini/ablations/vanilla-kgsf/seed2.json'
    >>> commit_path(run | {"metrics": {"ppl": 40.0}, "split": "inspired_dev"})
    'docs/results/inspired_dev/mini/ablations/vanilla-kgsf/seed2.json'

    Raises:
      DocumentError: the config has no plain path under configs/.
    """
    label, parts = document_label(document), document["config"].split("/")
    if not all(re.fullmatch(r"[\w-][\w.-]*", part) for part in (document["preset"], *parts)):
        raise DocumentError(
            f"config {document['config']!r}, preset {document['preset']!r}: expected a config by "
            "its path under configs/, without '.py'."
        )
    kind = "latency/" if "ms_per_token" in document["metrics"] else _other_data(document)
    seed, teacher_seed = document["seed"], document.get("teacher_seed", 0)
    # A whole training has one seed for teachers and student, and needs no second number.
    seeds = seeds_label(seed, 0 if teacher_seed == seed else teacher_seed)
    return f"docs/results/{kind}{document['preset']}/{label}/{seeds}.json"


def _other_data(document: Document) -> str:
    """The folder of results that share no table with those on ReDial, or ""."""
    split = document.get("split", "")
    names = [document.get("overrides", {}).get("corpus.name", "")]
    names.append(split if split.startswith("inspired_") else "")
    return "".join(f"{name}/" for name in names if name)


def portable_command(command: str) -> str:
    """Returns a run's command without the folders of the machine that it ran on.

    >>> portable_command("/opt/conkd_jax/train.py --config=configs/dialogpt.py --workdir=/disk/1")
    'python -m conkd_jax.train --config=configs/dialogpt.py --workdir=DIR'
    """
    command = re.sub(r"^\S*\bconkd_jax/(\w+)\.py\b", r"python -m conkd_jax.\1", command)
    command = re.sub(r"(?<=[\s=])/\S*?/(?=configs/\S+\.py)", "", command)
    return re.sub(r"(^|(?<=[\s=]))/\S*", "DIR", command)
