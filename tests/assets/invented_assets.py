"""A weight that never was, and a converter placed inside the package for the length of a test."""

import hashlib
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

WEIGHT = bytes(range(256)) * 16
WEIGHT_SHA = hashlib.sha256(WEIGHT).hexdigest()
MEMBER = "fake_weights/model/tiny.bin"
CONVERTER = "facedistill.models.invented_converter.convert"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def install_converter(monkeypatch: pytest.MonkeyPatch, function: Callable[..., object]) -> None:
    module = types.ModuleType("facedistill.models.invented_converter")
    function.__module__ = module.__name__
    module.convert = function  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
