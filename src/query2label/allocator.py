"""How the C library's allocator treats freed memory: give it back, or keep it for the next batch.

By default glibc maps each large tensor anew and unmaps it when it is freed, and the kernel clears every page
again on first touch: much of the time where maps are large and arithmetic is cheap.
"""

from __future__ import annotations

import ctypes
from typing import Final

# From glibc's malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_MAX: Final = -4

_NEVER: Final = 2**31 - 1  # the largest value that mallopt takes
_STEP_BYTES: Final = 64 * 2**20


def keep_freed_memory() -> bool:
    """From now on, memory that this process frees is kept for what it allocates next.

    It is for programs that allocate the same large tensors over and over. The process then keeps the largest
    amount of memory that it has needed until it ends, so it is never called on import, nor by library
    functions, but by the commands that own their process.

    Returns:
        Whether the C library has such settings (glibc has; elsewhere nothing is changed).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; TypeError on Windows
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _STEP_BYTES))
    return all(mallopt(name, value) == 1 for name, value in settings)


def release_freed_memory() -> bool:
    """Gives memory that this process has freed, and still keeps, back to the system, once.

    For a process that was forked from one that keeps its memory: until it lets go of the pages that it will
    never use, each one that the other writes to exists twice.

    Returns:
        Whether the C library can (glibc can; elsewhere nothing happens).
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # as above
        return False
    return True
