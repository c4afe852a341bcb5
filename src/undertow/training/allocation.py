"""Memory that is kept between the updates of a training instead of being given back and asked for again.

A block beyond 128 kB, such as a table of states, is mapped by glibc anew each time and handed back when it is freed;
the kernel then zeroes its pages at every use. glibc raises these limits by itself, but only as far as 32 MB, and a
finch's update still takes thousands of page faults.
"""

import ctypes
import os
from collections.abc import Generator
from contextlib import contextmanager

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Names of `mallopt` in malloc.h."""

KEPT, MAPPED, AHEAD = 2**31 - 1, 2**30, 64 * 2**20
"""Free bytes that are kept, size from which a block is mapped by itself, and bytes asked for at a time."""


@contextmanager
def kept_memory() -> Generator[None]:
    """Keep freed memory while the context lasts, and give it back afterwards; does nothing without glibc."""
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
        # Where the limits settle by themselves after a few large blocks; glibc's first ones cannot be set again.
        glibc.mallopt(_MMAP_THRESHOLD, 32 * 2**20)
        glibc.mallopt(_TRIM_THRESHOLD, 64 * 2**20)
        glibc.mallopt(_TOP_PAD, 0)
        glibc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        if not os.confstr("CS_GNU_LIBC_VERSION"):
            return None
        return ctypes.CDLL(None)
    except (AttributeError, ValueError, OSError):
        return None
