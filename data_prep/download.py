"""Fetches the official raw files into a cache and checks what came.

Knows addresses and checksums, not contents. Nothing enters the cache under its final name before
its checksum held.
"""

import dataclasses
import hashlib
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from conkd_jax.errors import UserError

CACHE_VARIABLE = "CONKD_CACHE_DIR"
KGSF_URL = "https://github.com/RUCAIBox/KGSF/raw/master/data/"


@dataclasses.dataclass(frozen=True)
class Download:
    """One official file.

    Attributes:
      filename: its name in the cache.
      url: where it comes from.
      sha256: what it must hash to; None where its publisher gives no checksum.
    """

    filename: str
    url: str
    sha256: str | None


REDIAL = Download(
    "redial_dataset.zip",
    "https://github.com/ReDialData/website/raw/data/redial_dataset.zip",
    "b48756681ec6f84e0af36979c5e9baa21ea8d9e7036b8764ea9b787bb0baf69b",
)
CONCEPTNET = Download(
    "conceptnet-assertions-5.7.0.csv.gz",
    "https://s3.amazonaws.com/conceptnet/downloads/2019/edges/conceptnet-assertions-5.7.0.csv.gz",
    None,
)
KGSF = tuple(
    Download(filename, KGSF_URL + filename, sha256)
    for filename, sha256 in (
        ("subkg.pkl", "843aebff87af71a595789bc4d25929a8f584299644d93f3bb6fe40cacaaca72b"),
        ("entity2entityId.pkl", "ec3ac62ad968a130bc902747ca505f63c142e417b5205887be80955a16163483"),
        ("id2entity.pkl", "415231d92dfdd4692f16812d7c4fcb58fea880291a3c952ec1f55f8e50cf07b9"),
    )
)
EVERYTHING = (REDIAL, *KGSF, CONCEPTNET)


class DownloadError(UserError, OSError):
    """A file could not be fetched, or is not the one that was expected."""


def default_cache() -> Path:
    """Returns the folder that downloads go to: `CONKD_CACHE_DIR`, else `~/.cache/conkd_jax`."""
    folder = os.environ.get(CACHE_VARIABLE)
    return Path(folder) if folder else Path.home() / ".cache" / "conkd_jax"


def fetch(file: Download, cache: Path | None = None, *, accept_sha256: str = "") -> Path:
    """Returns a file of the cache, fetched first where it is missing.

    Args:
      file: what to fetch.
      cache: the folder; None is `default_cache()`.
      accept_sha256: a checksum to take in place of the expected one, for a file whose publisher
        replaced it.

    Returns:
      Where it lies.

    Raises:
      DownloadError: no connection, or another file came than expected.
    """
    cache = cache or default_cache()
    target = cache / file.filename
    expected = accept_sha256 or file.sha256
    if target.exists():
        _check(target, target, expected, file)
        return target
    cache.mkdir(parents=True, exist_ok=True)
    incomplete = target.with_name(f"{target.name}.incomplete-{os.getpid()}")
    try:
        with urllib.request.urlopen(file.url, timeout=60) as response, incomplete.open("wb") as out:
            shutil.copyfileobj(response, out, 1 << 20)
    except (urllib.error.URLError, OSError) as error:
        incomplete.unlink(missing_ok=True)
        raise DownloadError(
            f"Could not fetch {file.url}: {error}. Fetch it by other means and put it into {cache} "
            f"as {file.filename}, or point raw_dir (CONKD_RAW_DIR) at a folder that has the files."
        ) from error
    suspect = target.with_name(f"{target.name}.unverified")
    _check(incomplete, suspect, expected, file)
    os.replace(incomplete, target)
    return target


def fetch_all(cache: Path | None = None, *, accept_sha256: tuple[str, ...] = ()) -> Path:
    """Fetches everything that a ReDial corpus is made of.

    Args:
      cache: the folder; None is `default_cache()`.
      accept_sha256: further checksums that the user vouches for.

    Returns:
      The folder, fit for `raw_dir`.
    """
    cache = cache or default_cache()
    for file in EVERYTHING:
        wanted = _vouched(cache / file.filename, accept_sha256)
        fetch(file, cache, accept_sha256=wanted)
    return cache


def _vouched(target: Path, accepted: tuple[str, ...]) -> str:
    """The accepted checksum that a file in the cache (verified or set aside) really has."""
    for path in (target, target.with_name(f"{target.name}.unverified")):
        if accepted and path.exists():
            found = _sha256(path)
            if found in accepted:
                if path != target:
                    os.replace(path, target)
                return found
    return ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(path: Path, keep_as: Path, expected: str | None, file: Download) -> None:
    if expected is None:
        return
    found = _sha256(path)
    if found == expected:
        return
    if path != keep_as:
        os.replace(path, keep_as)
    raise DownloadError(
        f"{file.filename} is not the file that was expected.\n"
        f"  expected SHA-256 {expected}\n"
        f"  found    SHA-256 {found}\n"
        f"  from     {file.url}\n"
        f"It was left at {keep_as} and is not used. If the transfer was cut short, delete it and "
        "run again. If its publisher replaced the file and you trust it, run again with "
        f"--accept_sha256={found}."
    )
