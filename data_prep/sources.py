"""Finds the raw files: which of the known layouts a folder has, and what is missing.

Knows file names only; what is inside a file is its reader's business.
"""

import dataclasses
import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from conkd_jax.errors import UserError
from data_prep import download

ENVIRONMENT_VARIABLE = "CONKD_RAW_DIR"
_FOLDERS = (".", "redial", "kg", "data")
_ARCHIVES = ("redial_dataset.zip",)

# What is read, by the names that the official sources give it. The first name found is taken.
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
# What the official archive may hold; pickles are read as plain files only.
_IN_ARCHIVE = ("train", "valid", "test", "inferred", "movies")
_REQUIRED = ("train", "triples", "entity_ids", "movie_entities")


class MissingDataError(UserError, FileNotFoundError):
    """Raw files are not where they were looked for."""


@dataclasses.dataclass(frozen=True)
class RawFile:
    """One raw file, plain or inside the official archive.

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
        """The file's own name, wherever it lies."""
        return Path(self.member).name if self.member else self.path.name

    def read_bytes(self) -> bytes:
        """Returns the whole content."""
        if self.member is None:
            return self.path.read_bytes()
        with self.path.open("rb") as file, zipfile.ZipFile(file) as archive:
            return archive.read(self.member)

    def lines(self) -> Iterator[bytes]:
        """Yields the content line by line."""
        yield from io.BytesIO(self.read_bytes())

    def sha256(self) -> str:
        """Hashes the content, so that the same file counts the same in every layout."""
        if self.member is not None:
            return hashlib.sha256(self.read_bytes()).hexdigest()
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class Sources:
    """The raw files of a corpus; the optional ones may be None."""

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
        """Returns the files that the corpus is made of, by what each is for."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) is not None
        }


def find(
    raw_dir: epath.PathLike | None = None,
    *,
    use_inferred_order: bool = False,
    use_test: bool = True,
) -> Sources:
    """Finds the raw files.

    Taken as they come: a folder with everything in it, one with `redial/` and `kg/`, a checkout
    of KGSF (`data/`), the official archive or a folder that has it.

    Args:
      raw_dir: folder or archive. None: `CONKD_RAW_DIR`, else what was downloaded before.
      use_inferred_order: whether the dialogues of inferred turn order are wanted.
      use_test: whether the test dialogues are wanted, where they are there.

    Returns:
      The files.

    Raises:
      MissingDataError: the folder or a file that nothing can replace is not there.
    """
    root = raw_dir or os.environ.get(ENVIRONMENT_VARIABLE) or download.default_cache()
    root = epath.Path(root)
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
    """A named archive goes before the files beside it; in a folder, plain files go first."""
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
    try:
        with archive.open("rb") as file, zipfile.ZipFile(file) as opened:
            members = [m for m in opened.namelist() if not m.startswith("__MACOSX/")]
    except zipfile.BadZipFile as error:
        raise MissingDataError(
            f"{archive}: expected ReDial's zip archive, got a file that is none ({error}). It is "
            "truncated or another file: download it again."
        ) from error
    for name in names:
        for member in members:
            if Path(member).name == name:
                return member
    return None


def _missing(raw_dir: epath.PathLike | None, root: epath.Path, why: str) -> MissingDataError:
    asked = f"raw_dir={os.fspath(raw_dir)}" if raw_dir else f"{ENVIRONMENT_VARIABLE} or the cache"
    return MissingDataError(
        f"ReDial's raw files were not found in {root} ({asked}): {why}.\n"
        "Do one of these:\n"
        "  * point to a folder that has them: --config.corpus.raw_dir=DIR, --raw_dir=DIR, or\n"
        f"    export {ENVIRONMENT_VARIABLE}=DIR (flat, redial/ + kg/, or the official zip);\n"
        "  * download them: python -m data_prep.redial --download --report\n"
        f"    (ReDial: {download.REDIAL.url};\n"
        f"     graphs: {download.KGSF_URL}; ConceptNet: {download.CONCEPTNET.url});\n"
        "  * try everything on the synthetic corpus first, no data needed: "
        "--config=configs/dialogpt_hard.py:demo"
    )
