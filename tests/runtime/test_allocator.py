import platform

import numpy as np
import pytest

from conkd_jax.runtime import allocator

BLOCK_BYTES = 50_000  # small enough for glibc not to map each by itself
MEGABYTE = 10**6


def resident() -> int:
    """Bytes of memory that this process has from the system."""
    with open("/proc/self/smaps_rollup") as file:
        (line,) = (line for line in file if line.startswith("Rss:"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another one")
def test_memory_that_glibc_keeps_is_returned():
    blocks = [np.ones(BLOCK_BYTES, np.uint8) for _ in range(2_000)]
    full = resident()
    kept = blocks[::100]  # they lie between the others, so that the heap can't just get shorter
    del blocks
    assert resident() > full - 20 * MEGABYTE
    allocator.return_freed_memory()
    assert resident() < full - 70 * MEGABYTE
    assert all(block.all() for block in kept)


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    allocator._malloc_trim.cache_clear()
    allocator.return_freed_memory()
    allocator._malloc_trim.cache_clear()
