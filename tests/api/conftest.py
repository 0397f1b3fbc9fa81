"""A student, and a detector that is not downloaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import facedistill as fd
from tests.helpers.photographs import Tiles, photograph, small_student

THRESHOLDS = json.dumps(
    [
        {
            "protocol": "lfw",
            "far": 1e-3,
            "threshold": 0.9,
            "tar": 0.8,
            "tar_ci": [0.7, 0.9],
            "genuine": 3000,
            "impostor": 3000,
        },
        {
            "protocol": "cfp_fp",
            "far": 1e-3,
            "threshold": 0.95,
            "tar": 0.5,
            "tar_ci": [0.4, 0.6],
            "genuine": 3500,
            "impostor": 3500,
        },
        {
            "protocol": "lfw",
            "far": 1e-2,
            "threshold": 0.5,
            "tar": 0.9,
            "tar_ci": [0.8, 1.0],
            "genuine": 3000,
            "impostor": 3000,
        },
    ]
)


@pytest.fixture(autouse=True)
def _tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facedistill.api.photographs.default_detector", Tiles)


@pytest.fixture(scope="session")
def student_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_student(tmp_path_factory.mktemp("run") / "student.safetensors", THRESHOLDS)


@pytest.fixture(scope="session")
def student(student_file: Path) -> fd.Student:
    return fd.load(student_file.parent)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """ann.png and bo.jpg show one face each, both.png both, and none.png none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, seeds in (("ann.png", [1]), ("bo.png", [2]), ("both.png", [2, 1]), ("none.png", [0])):
        photograph(*seeds).save(folder / name)
    return folder
