"""Faces, histograms and ROC on the dashboard are those of the run's files."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facedistill.metrics.verification import roc
from facedistill.reporting.run.reduced import roc_steps
from tests.reporting.dashboard.dashboard_page import written


def test_pictures_are_those_of_the_files(run: Path, tmp_path: Path) -> None:
    (shown,) = written(tmp_path).data["runs"]
    assert shown["thresholds"].keys() == {"lfw"}
    scores = np.load(run / "scores" / "lfw.student.npz")
    genuine, impostor = scores["score"][scores["same"]], scores["score"][~scores["same"]]
    roc = shown["rocs"]["lfw"]
    assert (len(roc["far"]), roc["floor"], roc["least"]) == (len(roc["tar"]), 0.0003333, 0.0003333)
    assert 40 < len(roc["far"]) <= 120
    for far, tar in list(zip(roc["far"], roc["tar"], strict=True))[::10]:
        threshold = np.sort(impostor)[::-1][min(int(far * 3000 * (1 + 1e-3)), 2999)]
        assert tar == pytest.approx((genuine > threshold).mean(), abs=2e-3)
    drawn = shown["scores"]["lfw"]
    width = (drawn["high"] - drawn["low"]) / 48
    for kind in ("genuine", "impostor"):
        assert sum(drawn[kind]) * width == pytest.approx(1, abs=1e-2)
    assert (drawn["low"], drawn["high"]) == pytest.approx(
        (genuine.min().clip(max=impostor.min()), genuine.max()), abs=1e-3
    )
    kind, picture = shown["faces"]["uri"].split(",", 1)
    assert kind == "data:image/jpeg;base64"
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))), dtype=float)
    faces = np.load(run / "faces.npz")
    least = int(faces["base_cosine"].argmin())
    for name, top in (("base", 0), ("variation", 80)):
        expected = Image.fromarray(faces[name][least].transpose(1, 2, 0)).resize((80, 80))
        assert np.abs(sheet[top : top + 80, :80] - np.asarray(expected, dtype=float)).mean() < 6
    assert shown["faces"]["caption"].startswith(
        f"cosine of student and teacher from {faces['base_cosine'].min():.2f}, left"
    )


def test_the_steps_of_a_roc_are_those_of_the_full_roc() -> None:
    random = np.random.default_rng(0)
    genuine, impostor = (
        random.normal(0.5, 0.2, 400).round(2),
        random.normal(0, 0.2, 900).round(2),
    )  # with ties
    curve = roc(genuine, impostor)
    far, tar = roc_steps(np.sort(genuine), np.sort(impostor), 900)
    for wanted, found in zip(far, tar, strict=True):
        assert found == pytest.approx(curve.tar[curve.far <= wanted + 1e-9].max())
    few, _ = roc_steps(np.sort(genuine), np.sort(impostor), 50)
    assert len(few) <= 50
    assert set(few) <= {k / 900 for k in range(901)}


def test_broken_pictures_are_named_and_the_rest_is_shown(run: Path, tmp_path: Path) -> None:
    (run / "faces.npz").write_bytes(b"PK spoilt")
    np.savez(run / "scores" / "lfw.student.npz", score=np.ones(3))
    page = written(tmp_path)
    assert page.rows[1][4] == "damaged"
    assert "faces.npz cannot be read" in page.rows[1][1]
    assert "scores/lfw.student.npz has no array same, fold; delete it" in page.rows[1][1]
    assert str(tmp_path) not in page.rows[1][1]
    (shown,) = page.data["runs"]
    assert (shown["faces"], shown["rocs"], shown["scores"]) == (None, {}, {})
    assert shown["curves"]
