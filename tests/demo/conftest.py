"""A model as the page shows it, with a detector that is not downloaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from facedistill.demo.shown import Shown, open_model
from tests.helpers.photographs import Tiles, small_student

pytest.importorskip("starlette", reason="needs the extra demo")


@pytest.fixture(autouse=True)
def _tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facedistill.api.photographs.default_detector", Tiles)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with scores and a card, and a configuration that names no teacher."""
    folder = tmp_path_factory.mktemp("runs") / "demo-1a2b3c4d"
    (folder / "scores").mkdir(parents=True)
    entry = {"protocol": "lfw", "far": 1e-3, "threshold": 0.9, "tar": 0.8, "tar_ci": [0.7, 0.9], "genuine": 3000, "impostor": 3000}  # fmt: skip
    small_student(
        folder / "student.safetensors", json.dumps([entry, entry | {"far": 1e-2, "threshold": 0.5}])
    )
    (folder / "run.json").write_text("{}")
    figures = {"accuracy": 0.9, "genuine": 500, "impostor": 500}
    protocols = {"lfw": figures, "cfp_fp": figures}
    (folder / "results.json").write_text(json.dumps({"student": {"protocols": protocols}}))
    numbers = np.random.default_rng(0)
    for name in protocols:
        score = np.concatenate(
            [numbers.normal(0.95, 0.02, 500).clip(-1, 1), numbers.normal(0.5, 0.2, 500).clip(-1, 1)]
        )
        np.savez(
            folder / "scores" / f"{name}.student.npz",
            score=score,
            same=np.arange(1000) < 500,
            fold=np.zeros(1000),
        )
    (folder / "README.md").write_text(
        "---\nlicense: other\n---\n# A card\n\n<script>alert(1)</script> [x](javascript:alert(1))\n\n| a |\n|:-:|\n| 1 |\n"
    )
    return folder


@pytest.fixture(scope="module")
def shown(run_folder: Path) -> Shown:
    return open_model(str(run_folder))
