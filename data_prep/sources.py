"""Finds the raw files in any of the known layouts of a folder, and says what is missing.

This module handles file names only; other modules read the files.
"""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from conkd_jax.errors import UserError
from conkd_jax.io.files import sha256, sha256_of_file
from data_prep import archives
from data_prep.download import CONCEPTNET, KGSF_URL, REDIAL, default_cache

RAW_DIR_VARIABLE = "CONKD_RAW_DIR"
_FOLDERS = (".", "redial", "kg", "data")
_ARCHIVES = ("redial_dataset.zip",)

# The files under the names of their official sources; the first name that is found is used.
_NAMES: dict[str, tuple[str, ...]] = {
    "train": ("train_data.jsonl",),
    "valid": ("valid_data.jsonl",),
    "test": ("test_data.jsonl",),
    "inferred": ("train_inferred_order.jsonl",),
    "movies": ("movies_with_mentions.csv", "movies_merged.csv"),
    "triples": ("subkg.pkl",),
    "entity_ids": ("entity2entityId.pkl",),
    "movie_entities": ("id2entity.pkl",),
    "concept_edges": ("conceptnet_one_hop_edges.txt", "conceptnet_edges2nd.txt"),
    "concept_dump": (
        "conceptnet-assertions-5.7.0.csv.gz",
        "conceptnet-assertions-5.6.0.csv.gz",
        "conceptnet-assertions.csv.gz",
    ),
    "stop_words": ("stopwords.txt",),
    "vocabulary": ("word2index_redial.json",),
}
# What the official archive may hold. Pickles are read from plain files only.
_IN_ARCHIVE = ("train", "valid", "test", "inferred", "movies")
_REQUIRED = ("train", "triples", "entity_ids", "movie_entities")


class MissingDataError(UserError, FileNotFoundError):
    """Raw files are missing or can't be read."""


@dataclasses.dataclass(frozen=True)
class RawFile:
    """A raw file, plain or inside the official archive.

    Attributes:
      path: the file, or the archive that holds it.
      member: its name inside the archive; None for a plain file.
    """

    path: epath.Path
    member: str | None = None

    def __str__(self) -> str:
        return os.fspath(self.path) + (f"!{self.member}" if self.member else "")

    @property
    def name(self) -> str:
        """The file's own name, without its folder or archive."""
        return Path(self.member).name if self.member else self.path.name

    def read_bytes(self) -> bytes:
        """Returns the whole content.

        Raises:
          ArchiveError: the archive is damaged.
        """
        if self.member is None:
            return self.path.read_bytes()
        return archives.read_member(self.path, self.member)

    def lines(self) -> Iterator[bytes]:
        """Yields the content line by line."""
        yield from io.BytesIO(self.read_bytes())

    def sha256(self) -> str:
        """Returns the SHA-256 of the content, which is the same in every layout."""
        return sha256_of_file(self.path) if self.member is None else sha256(self.read_bytes())


@dataclasses.dataclass(frozen=True)
class Sources:
    """The raw files of a corpus; an optional file that is missing is None."""

    train: RawFile
    triples: RawFile
    entity_ids: RawFile
    movie_entities: RawFile
    valid: RawFile | None = None
    test: RawFile | None = None
    inferred: RawFile | None = None
    movies: RawFile | None = None
    concept_edges: RawFile | None = None
    concept_dump: RawFile | None = None
    stop_words: RawFile | None = None
    vocabulary: RawFile | None = None

    def used(self) -> dict[str, RawFile]:
        """Returns the files that are there, by their role."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) is not None
        }


def raw_root(raw_dir: epath.PathLike | None = None) -> epath.Path:
    """Returns the folder or archive of the raw files; None: `CONKD_RAW_DIR`, then the cache."""
    root = raw_dir or os.environ.get(RAW_DIR_VARIABLE) or default_cache()
    return epath.Path(root).expanduser()


def find_sources(
    raw_dir: epath.PathLike | None = None,
    *,
    use_inferred_order: bool = False,
    use_test: bool = True,
) -> Sources:
    """Finds the raw files.

    The known layouts are a flat folder, a folder with `redial/` and `kg/`, a checkout of KGSF
    (`data/`), the official archive, and a folder with that archive.

    Args:
      raw_dir: folder or archive; None uses `CONKD_RAW_DIR`, then the download cache.
      use_inferred_order: whether to read the dialogues with an inferred turn order.
      use_test: whether to read the test dialogues, if they are there.

    Returns:
      The files.

    Raises:
      MissingDataError: the folder or a required file is missing.
    """
    root = raw_root(raw_dir)
    if not root.exists():
        raise _missing(raw_dir, root, "the path does not exist")
    found: dict[str, RawFile] = {}
    for use, names in _NAMES.items():
        if (use == "inferred" and not use_inferred_order) or (use == "test" and not use_test):
            continue
        file = _locate(root, names, search_archives=use in _IN_ARCHIVE)
        if file is not None:
            found[use] = file
    if "concept_edges" in found:
        found.pop("concept_dump", None)
    lacking = [_NAMES[use][0] for use in _REQUIRED if use not in found]
    if use_inferred_order and "inferred" not in found:
        lacking.append(_NAMES["inferred"][0])
    if "concept_edges" not in found and "concept_dump" not in found:
        lacking.append(f"{_NAMES['concept_edges'][0]} (or {_NAMES['concept_dump'][0]})")
    if lacking:
        raise _missing(raw_dir, root, f"no {', no '.join(lacking)}")
    return Sources(**found)


def _locate(root: epath.Path, names: tuple[str, ...], *, search_archives: bool) -> RawFile | None:
    """Finds one file: an archive named by the user wins, but in a folder plain files do."""
    if root.is_dir():
        base, archives = root, [root / folder / name for folder in _FOLDERS for name in _ARCHIVES]
    else:
        base, archives = root.parent, [root]
    plain = [base / folder / name for name in names for folder in _FOLDERS]
    found = next((RawFile(path) for path in plain if path.is_file()), None)
    if search_archives and (found is None or not root.is_dir()):
        for archive in archives:
            member = _member(archive, names) if archive.is_file() else None
            if member:
                return RawFile(archive, member)
    return found


def _member(archive: epath.Path, names: tuple[str, ...]) -> str | None:
    members = archives.members(archive)
    for name in names:
        for member in members:
            if Path(member).name == name:
                return member
    return None


def asked_for(raw_dir: epath.PathLike | None) -> str:
    """How a folder of raw files was chosen, for a message that it lacks some."""
    return f"raw_dir={os.fspath(raw_dir)}" if raw_dir else f"{RAW_DIR_VARIABLE} or the cache"


def _missing(raw_dir: epath.PathLike | None, root: epath.Path, why: str) -> MissingDataError:
    return MissingDataError(
        f"ReDial's raw files were not found in {root} ({asked_for(raw_dir)}): {why}.\n"
        "Do one of these:\n"
        "  * point to a folder that has them: --config.corpus.raw_dir=DIR, --raw_dir=DIR, or\n"
        f"    export {RAW_DIR_VARIABLE}=DIR (flat, redial/ + kg/, or the official zip);\n"
        "  * download them: python -m data_prep.redial --download --report\n"
        f"    (ReDial: {REDIAL.url};\n"
        f"     graphs: {KGSF_URL}; ConceptNet: {CONCEPTNET.url});\n"
        "  * try everything on the synthetic corpus first, which needs no data: "
        "--config=configs/dialogpt_hard.py:demo"
    )
