"""Reads zip archives and gzip files without trusting their sizes.

A few kilobytes can unpack to terabytes, and one flipped bit can raise any of a dozen exceptions.
Here what is read is bounded, and whatever is wrong with a file is one `ArchiveError`.
"""

from __future__ import annotations

import contextlib
import gzip
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator

from etils import epath

from conkd_jax.errors import UserError

MAX_MEMBERS = 10_000
MAX_UNPACKED = 4 << 30  # bytes of a member; ReDial's largest has 30 MB
MAX_RATIO = 1_000  # of unpacked to packed bytes: the most that deflate can reach is 1,032
MAX_LINE = 1 << 20  # bytes of a line of a gzip file; ConceptNet's longest has a few thousand
_BLOCK = 1 << 20

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,  # an encrypted member, or a method of compression that is not known
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
    MemoryError,
)


class ArchiveError(UserError, ValueError):
    """An archive is damaged, or unpacks to more than it should."""


@contextlib.contextmanager
def _readable(path: epath.PathLike, kind: str) -> Iterator[None]:
    try:
        yield
    except ArchiveError:
        raise
    except FileNotFoundError:
        raise
    except _DAMAGE as error:
        raise ArchiveError(
            f"{path}: expected {kind}, got a damaged, truncated or another file "
            f"({type(error).__name__}: {error}): download it again."
        ) from error


def members(path: epath.PathLike) -> list[str]:
    """The names of the files in a zip archive, without the folders that macOS adds.

    Raises:
      ArchiveError: the archive is damaged, or has too many files.
    """
    with _readable(path, "a zip archive"), epath.Path(path).open("rb") as file:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
    if len(names) > MAX_MEMBERS:
        raise ArchiveError(f"{path}: expected at most {MAX_MEMBERS:,} files, got {len(names):,}.")
    return names


def read_member(path: epath.PathLike, name: str) -> bytes:
    """The content of a file in a zip archive; its checksum is checked.

    Raises:
      ArchiveError: the archive is damaged, or the file unpacks to more than it should.
    """
    content = bytearray()
    with _readable(path, "a zip archive"), epath.Path(path).open("rb") as file:
        with zipfile.ZipFile(file) as archive, archive.open(name) as member:
            packed = archive.getinfo(name).compress_size
            limit = min(MAX_UNPACKED, MAX_RATIO * max(packed, 1))
            while block := member.read(_BLOCK):
                content += block
                if len(content) > limit:
                    raise ArchiveError(
                        f"{path}!{name}: {packed:,} bytes unpack to more than {limit:,}: this is "
                        "not the published file, download it again."
                    )
    return bytes(content)


def gzip_lines(path: epath.PathLike) -> Iterator[bytes]:
    """Yields the lines of a gzip file; its checksum is checked at the end.

    Raises:
      ArchiveError: the file is damaged, or has a line that is too long.
    """
    with (
        _readable(path, "a gzip file"),
        epath.Path(path).open("rb") as file,
        gzip.open(file) as lines,
    ):
        number = 0
        while line := lines.readline(MAX_LINE):
            number += 1
            if len(line) == MAX_LINE and not line.endswith(b"\n"):
                raise ArchiveError(
                    f"{path}, line {number}: expected a line of at most {MAX_LINE:,} bytes, got a "
                    "longer one: this is not the published file, download it again."
                )
            yield line
        if not number:
            raise ArchiveError(f"{path}: expected a gzip file with lines, got an empty one.")
