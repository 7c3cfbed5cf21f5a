"""Downloads the official raw files into a cache and checks them.

This module handles addresses and checksums, not contents. A file gets its final name in the cache
only after its checksum was found correct.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from conkd_jax.errors import UserError
from conkd_jax.io.files import sha256_of_file, whole_file, write_whole

CACHE_VARIABLE = "CONKD_CACHE_DIR"
KGSF_URL = "https://github.com/RUCAIBox/KGSF/raw/master/data/"


@dataclasses.dataclass(frozen=True)
class Download:
    """An official file.

    Attributes:
      filename: its name in the cache.
      url: its address.
      sha256: the SHA-256 that it must have. None if its publisher gives no checksum: then it must
        have the one of its first download, which is kept beside it as `<filename>.sha256`.
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
    """A file could not be downloaded, or is not the expected one."""


def default_cache() -> Path:
    """Returns the folder of downloads: `CONKD_CACHE_DIR`, or else `~/.cache/conkd_jax`."""
    folder = os.environ.get(CACHE_VARIABLE)
    return Path(folder).expanduser() if folder else Path.home() / ".cache" / "conkd_jax"


def fetch_file(file: Download, cache: Path | None = None, *, accept_sha256: str = "") -> Path:
    """Returns the path of a file in the cache, and downloads the file first if it is missing.

    Args:
      file: the file.
      cache: the folder; None is `default_cache()`.
      accept_sha256: a checksum to accept instead of the expected one, for a file that its publisher
        has replaced.

    Raises:
      DownloadError: there is no connection, or the file is not the expected one.
    """
    cache = cache or default_cache()
    target = cache / file.filename
    pin = target.with_name(f"{target.name}.sha256")
    expected = accept_sha256 or file.sha256 or (pin.read_text().strip() if pin.exists() else None)
    if target.exists():
        _check(target, expected, file)
        return target
    cache.mkdir(parents=True, exist_ok=True)
    unverified = _unverified(target)
    try:
        with (
            urllib.request.urlopen(file.url, timeout=60) as response,
            whole_file(unverified, "wb") as out,
        ):
            shutil.copyfileobj(response, out, 1 << 20)
    except (urllib.error.URLError, OSError) as error:
        raise DownloadError(
            f"Could not download {file.url}: {error}. Get it another way and put it into {cache} "
            f"as {file.filename}, or set raw_dir (CONKD_RAW_DIR) to a folder with the files."
        ) from error
    _check(unverified, expected, file)
    if file.sha256 is None:
        write_whole(pin, sha256_of_file(unverified) + "\n")
    os.replace(unverified, target)
    return target


def fetch_everything(cache: Path | None = None, *, accept_sha256: tuple[str, ...] = ()) -> Path:
    """Downloads every raw file of a ReDial corpus that is not in the cache yet.

    Args:
      cache: the folder; None is `default_cache()`.
      accept_sha256: further checksums that the user trusts.

    Returns:
      The folder, for use as `raw_dir`.

    Raises:
      DownloadError: there is no connection, or a file is not the expected one.
    """
    cache = cache or default_cache()
    for file in EVERYTHING:
        trusted = _trusted_sha256(cache / file.filename, accept_sha256)
        fetch_file(file, cache, accept_sha256=trusted)
    return cache


def _unverified(target: Path) -> Path:
    """Returns the name of a download whose checksum has not been found correct."""
    return target.with_name(f"{target.name}.unverified")


def _trusted_sha256(target: Path, accepted: tuple[str, ...]) -> str:
    """Returns the accepted checksum of a file in the cache, or "" if the file has another one.

    A file that was set aside as unverified gets its final name if its checksum is accepted now.
    """
    for path in (target, _unverified(target)):
        if accepted and path.exists():
            found = sha256_of_file(path)
            if found in accepted:
                os.replace(path, target)
                return found
    return ""


def _check(path: Path, expected: str | None, file: Download) -> None:
    found = expected and sha256_of_file(path)
    if found == expected:
        return
    raise DownloadError(
        f"{file.filename} is not the expected file.\n"
        f"  expected SHA-256 {expected}\n"
        f"  found    SHA-256 {found}\n"
        f"  from     {file.url}\n"
        f"It was left at {path} and is not used. If the transfer broke off, delete it and run "
        "again. If its publisher has replaced the file and you trust it, run again with "
        f"--accept_sha256={found}."
    )
