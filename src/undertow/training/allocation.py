"""Keep the memory that a training frees, so that the next update need not ask the kernel for it again.

A block beyond 128 kB, such as a table of hidden states, is mapped by glibc anew each time and handed back when it is
freed; the kernel then zeroes its pages at every use. glibc raises these limits by itself, but only as far as 32 MB, and
an update of even a small embedded model then takes thousands of page faults.
"""

import ctypes
import os
from collections.abc import Generator
from contextlib import contextmanager

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Numbers of the `mallopt` parameters, as malloc.h defines them."""

KEPT, MAPPED, AHEAD = 2**31 - 1, 2**30, 64 * 2**20
"""In bytes: free memory that is kept, size from which a block gets a mapping of its own, and growth of the heap at a
time."""


@contextmanager
def kept_memory() -> Generator[None]:
    """Keep freed memory while the context lasts, and give it back afterwards. Without glibc this does nothing."""
    glibc = _glibc()
    if glibc is None:
        yield
        return
    glibc.mallopt(_MMAP_THRESHOLD, MAPPED)
    glibc.mallopt(_TRIM_THRESHOLD, KEPT)
    glibc.mallopt(_TOP_PAD, AHEAD)
    try:
        yield
    finally:
        # Where glibc's limits settle by themselves after a few large blocks; a fresh process's cannot be restored.
        glibc.mallopt(_MMAP_THRESHOLD, 32 * 2**20)
        glibc.mallopt(_TRIM_THRESHOLD, 64 * 2**20)
        glibc.mallopt(_TOP_PAD, 0)
        glibc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc, and None for any other or where that cannot be told."""
    try:
        if not os.confstr("CS_GNU_LIBC_VERSION"):
            return None
        return ctypes.CDLL(None)
    except (AttributeError, ValueError, OSError):
        return None
