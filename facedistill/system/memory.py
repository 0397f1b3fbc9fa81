"""What the C library does with freed memory."""

from __future__ import annotations

import contextlib
import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_LARGEST = 1 << 30
_HUGE_PAGE, _MADV_HUGEPAGE = 1 << 21, 14  # of madvise(2)


def keep_freed_memory() -> None:
    """Has glibc keep what a forward pass frees for the next one, and asks for huge pages for its first GiB.

    Nearly half of the processor time of an evaluation on a CPU went into giving memory back to the system page by page
    (`benchmarks/results/inference.md`), and a tenth of rendering into looking up small pages (`benchmarks/results/cpu.md`).
    The process holds on to its peak; where the C library is another one, nothing happens.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(_TRIM_THRESHOLD, -1)  # never
            library.mallopt(_MMAP_THRESHOLD, _LARGEST)
            _advise_huge_pages(library)


def _advise_huge_pages(library: ctypes.CDLL) -> None:
    """Grows the heap by a GiB of addresses, which takes no memory before it is used, and asks for huge pages there."""
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = _LARGEST - _HUGE_PAGE  # below the threshold, so that it extends the heap
    if block := library.malloc(size):
        library.madvise(-(-block // _HUGE_PAGE) * _HUGE_PAGE, size - _HUGE_PAGE, _MADV_HUGEPAGE)
        library.free(block)
