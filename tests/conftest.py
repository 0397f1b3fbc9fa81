"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from facedistill.system import devices
from facedistill.system.memory import keep_freed_memory
from tests.helpers.tiny_networks import TinyBackbone, TinyGenerator, TinyTeacher

keep_freed_memory()


@pytest.fixture
def empty_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("FACEDISTILL_CACHE", str(folder))
    return folder


@pytest.fixture
def cpu_with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """This CPU computes in bfloat16 even if that is slow."""
    monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: True)


@pytest.fixture
def tiny_generator() -> TinyGenerator:
    return TinyGenerator()


@pytest.fixture
def tiny_teacher() -> TinyTeacher:
    return TinyTeacher()


@pytest.fixture
def tiny_student() -> TinyBackbone:
    torch.manual_seed(2)
    return TinyBackbone()
