"""Whether a folder can be written to, told in words before anything runs."""

from __future__ import annotations

import os
import tempfile

from etils import epath

from conkd_jax.io.files import is_remote

LONGEST_BELOW = 255  # bytes that are left for the paths of what is written into a folder


def unwritable(folder: epath.PathLike) -> str:
    """Says why nothing can be written into a folder; "" if it can.

    The folder need not exist. Nothing is left behind: a temporary file is made and deleted in it,
    or in the nearest folder above that exists.

    >>> unwritable("/dev/null/runs")
    '/dev/null is a file'
    """
    path = epath.Path("/")
    try:
        path = epath.Path(folder)
        if is_remote(folder):
            path.exists()
            return ""
        path = epath.Path(os.path.abspath(path))
        while not os.path.lexists(path) and path != path.parent:
            path = path.parent
        if not path.is_dir():
            return f"{path} is a file"
        if why := _too_long(os.path.abspath(folder), path):
            return why
        tempfile.TemporaryFile(dir=path).close()
    except ImportError as error:
        return missing_client(error) or f"a package is missing: {error}"
    except KeyError as error:
        return f"no object store has addresses like {error.args[0]!r}"
    except OSError as error:
        return f"{path}: {error.strerror or error}"
    return ""


def _too_long(folder: str, disk: epath.Path) -> str:
    """Says why a folder can't be made on the disk of another one; "" if it can."""
    longest = max(map(os.fsencode, folder.split(os.sep)), key=len)
    limit = os.pathconf(disk, "PC_NAME_MAX")  # -1 without a limit
    if len(longest) > limit >= 0:
        start = longest[:24].decode(errors="ignore")
        return f"the name {start}… has {len(longest)} bytes, the disk allows {limit}"
    limit, size = os.pathconf(disk, "PC_PATH_MAX") - LONGEST_BELOW, len(os.fsencode(folder))
    if size > limit >= 0:
        return f"the path has {size:,} bytes, the disk leaves room for {limit:,}"
    return ""


def missing_client(error: ImportError) -> str:
    """Says which package an object store needs, which is imported on first use.

    Args:
      error: what was raised.

    Returns:
      A sentence; "" if the error is another one.
    """
    name = getattr(error, "name", None) or getattr(error.__cause__, "name", None)
    if name == "gcsfs":
        return "gs:// needs the extra [gcs]: pip install 'conkd_jax[gcs]'"
    if name == "s3fs":
        return "s3:// needs a package: pip install s3fs"
    return ""
