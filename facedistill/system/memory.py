"""What the C library does with freed memory."""

from __future__ import annotations

import contextlib
import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_LARGEST = 1 << 30


def keep_freed_memory() -> None:
    """Has glibc keep what a forward pass frees for the next one, instead of giving it back to the system page by page.

    Nearly half of the processor time of an evaluation on a CPU went into that (`benchmarks/results/inference.md`). The
    process holds on to its peak; where the C library is another one, nothing happens.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(_TRIM_THRESHOLD, _LARGEST)
            library.mallopt(_MMAP_THRESHOLD, _LARGEST)
