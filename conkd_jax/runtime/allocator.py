"""Returns freed memory to the operating system, which the C library would keep for itself.

glibc keeps what is freed for later requests, in a separate pool for each group of threads. Every
checkpoint is written by new threads, with buffers of many sizes, and leaves its pools a little more
scattered. The memory of a long training would thus grow although nothing is kept. This module does
not depend on what the memory was used for.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    """The function of glibc; None with another C library, such as that of macOS."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def return_freed_memory() -> None:
    """Returns every page that holds nothing to the system; does nothing without glibc.

    It takes tens of milliseconds, so it is for rare moments such as a checkpoint.
    """
    if (trim := _malloc_trim()) is not None:
        trim(0)
