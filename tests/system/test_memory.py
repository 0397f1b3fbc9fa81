"""Freed memory stays with the process."""

from __future__ import annotations

import resource
import sys

import pytest
import torch

from facedistill.system.memory import keep_freed_memory


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_memory_that_was_freed_is_used_again_without_page_faults() -> None:
    keep_freed_memory()
    torch.ones(1 << 24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(1 << 24)  # 64 MiB, 16,384 pages
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 4096
