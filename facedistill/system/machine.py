"""The processor, and the memory of this process."""

from __future__ import annotations

import platform
import resource
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path


def cpu_name() -> str:
    """Name of the processor."""
    return _of_cpu("model name") or platform.processor() or platform.machine()


def cpu_instructions() -> frozenset[str]:
    """Names of the processor's instruction sets as Linux gives them, "avx512_bf16"; empty elsewhere."""
    return frozenset(_of_cpu("flags").split())


def vectors_end_at_256_bits() -> bool:
    """Whether this is an x86 processor with AVX2 and without AVX-512, on Linux."""
    return "avx2" in cpu_instructions() and "avx512f" not in cpu_instructions()


@cache
def _of_cpu(name: str) -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    return ""


def peak_memory_mib() -> float:
    """Most memory that this process has held since its start or `forget_peak_memory`.

    Outside Linux since its start, which counts what the process that started it held.
    """
    kib = _status_kib("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / (1024 * 1024 if sys.platform == "darwin" else 1024)


def forget_peak_memory() -> float:
    """Sets the peak to what the process holds now, in MiB, where the system allows that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return (_status_kib("VmRSS") or 0) / 1024 or peak_memory_mib()


def _status_kib(name: str) -> int | None:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    return None
