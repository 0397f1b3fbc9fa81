"""Freed memory stays with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import resource
from facedistill.system.memory import keep_freed_memory
keep_freed_memory()
bytearray(1 << 26)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    bytearray(1 << 26)  # 16,384 pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_memory_that_was_freed_is_used_again_without_page_faults() -> None:
    """In a process of its own, whose heap no other test has used."""
    assert int(subprocess.check_output([sys.executable, "-c", COUNT])) < 4096
