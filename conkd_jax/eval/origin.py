"""Which artifacts results were made from, so that results of two trainings never lie side by side.

`metrics.json` and `gate.json` record the fingerprint of every artifact that they depend on. A
folder that gets results of other artifacts hands its earlier ones over to `earlier/`, and what does
not belong to the run that it lies in is not read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from etils import epath

from conkd_jax.data.corpus import SPLITS
from conkd_jax.errors import UserError
from conkd_jax.io.files import move, parse_json, read_json, write_json

Origin = Mapping[str, str]  # fingerprints by the names of stages

KEY = "artifacts"  # of the origin in a document, and the folder of links
LISTING = "artifacts.txt"  # in that folder
EVALUATION = "evaluation"
DOCUMENTS = ("metrics.json", "gate.json")
EARLIER = "earlier"
MOVING = "moving.json"  # in that folder while results are moved there: their names and their goal
TRAINED_ON = ("train", "inferred")  # the other splits have folders of results
SWEEP = ("sweep.json", "sweep.md", "sweep.png")
RESULTS = (  # whatever the programs write into the folder of a run, or of a sweep beside its runs
    "config.json",
    "metrics.json",
    "predictions.jsonl",
    "samples.md",
    *SWEEP,
    "figures",
    "artifacts",
    "gate",
    "rate_matched",
    "latency",
    *(split for split in SPLITS if split not in TRAINED_ON),
)
_OF_A_SPLIT = (EVALUATION, "scored_corpus")  # other splits of a run have others


def origin_of(folder: epath.PathLike) -> dict[str, str]:
    """The artifacts that the results in a folder were made from; empty if that is not known.

    Runs of earlier versions have no record in their documents, but a list of links.
    """
    folder = epath.Path(folder)
    for name in DOCUMENTS:
        try:
            found = parse_json((folder / name).read_text())[KEY]
            return {str(stage): str(fingerprint) for stage, fingerprint in found.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # this is no check of the document; whoever reads it explains what is wrong
    try:
        lines = (folder / KEY / LISTING).read_text().splitlines()
    except (OSError, ValueError):
        return {}
    pairs = (line.partition(" ") for line in lines)
    return {stage: epath.Path(directory).name for stage, _, directory in pairs if directory}


def differences(first: Origin, second: Origin) -> list[str]:
    """The stages whose artifacts differ, apart from those that depend on the scored split."""
    return [
        stage
        for stage in first.keys() & second.keys() - set(_OF_A_SPLIT)
        if first[stage] != second[stage]
    ]


def foreign(folder: epath.PathLike, run: epath.PathLike) -> str:
    """Says why results in a folder of a run are not that run's; "" if they are, or may be.

    Args:
      folder: a folder in that of the run, with results on another split for example.
      run: the folder of the run.
    """
    theirs, ours = origin_of(folder), origin_of(run)
    changed = sorted(differences(theirs, ours))
    if not changed:
        return ""
    which = ", ".join(f"{stage} {theirs[stage]} instead of {ours[stage]}" for stage in changed)
    return f"it was made from other artifacts than {run}, which was trained again since: {which}"


def set_aside(
    folder: epath.PathLike, origin: Origin, names: Iterable[str] | None = None
) -> epath.Path | None:
    """Moves the results in a folder into its subfolder `earlier/` if they are of another origin.

    A move that was interrupted is completed first, into the same folder.

    Args:
      folder: a folder that will get new results.
      origin: the artifacts that these are made from.
      names: the files and folders to move; None for all results of a run, and all of a sweep.

    Returns:
      Where the earlier results are now; None if there were none, or if they are of this origin.
    """
    folder = epath.Path(folder)
    completed = _complete_move(folder)
    if names is None:
        names = (*RESULTS, *_runs_of_a_sweep(folder))
    found = _existing(folder, names)
    before = origin_of(folder)
    if not found or (before and before.get(EVALUATION) == origin.get(EVALUATION)):
        return completed
    return _moved(folder, found, before.get(EVALUATION, "unknown"))


def set_aside_before_sweep(folder: epath.PathLike, runs: Collection[str]) -> epath.Path | None:
    """Moves results in the folder of a sweep that are not of its runs into `earlier/`.

    These are results of a single run, and the runs of another sweep, with that one's table.

    Args:
      folder: a folder that will get the folders of a sweep's runs.
      runs: the names of these folders; `set_aside` is called for each of them.

    Returns:
      Where the earlier results are now; None if there were none.
    """
    folder = epath.Path(folder)
    completed = _complete_move(folder)
    names = [name for name in RESULTS if name not in SWEEP]
    names += [name for name in _runs_of_a_sweep(folder) if name not in runs]
    found = _existing(folder, names)
    if not found:
        return completed
    found += _existing(folder, SWEEP)
    return _moved(folder, found, origin_of(folder).get(EVALUATION, "unknown"))


def _runs_of_a_sweep(folder: epath.Path) -> list[str]:
    """The folders of runs that are named after a field and its value, like "eta=0.3"."""
    if not folder.exists():
        return []
    return sorted(
        path.name
        for path in folder.iterdir()
        if re.match(r"\w+=", path.name) and (path / DOCUMENTS[0]).exists()
    )


def _existing(folder: epath.Path, names: Iterable[str]) -> list[epath.Path]:
    """The files and folders of these names, but no store of artifacts, which is no result."""
    return [
        folder / name
        for name in names
        if (folder / name).exists() and (name != KEY or (folder / KEY / LISTING).exists())
    ]


def _moved(folder: epath.Path, found: Iterable[epath.Path], label: str) -> epath.Path:
    """Moves what was found in a folder into a new folder `earlier/<label>`, which is returned.

    What is moved, and where to, is written down before and deleted afterwards, for
    `_complete_move`. Documents are moved first: a folder that has one has all that belongs to it.
    """
    aside, number = folder / EARLIER / label, 1
    while aside.exists():
        number += 1
        aside = folder / EARLIER / f"{label}-{number}"
    names = sorted((path.name for path in found), key=lambda name: name not in DOCUMENTS)
    aside.parent.mkdir(exist_ok=True)
    write_json(aside.parent / MOVING, {"names": names, "to": aside.name})
    _complete_move(folder)
    return aside


def _complete_move(folder: epath.Path) -> epath.Path | None:
    """Moves what `_moved` has written down, as far as it is still there; returns where to."""
    record = folder / EARLIER / MOVING
    if not record.exists():
        return None
    moving = read_json(record, UserError, f"delete it, and move the results in {folder} elsewhere")
    aside = folder / EARLIER / moving["to"]
    for name in moving["names"]:
        if (folder / name).exists():
            move(folder / name, aside / name)
    record.unlink()
    return aside
