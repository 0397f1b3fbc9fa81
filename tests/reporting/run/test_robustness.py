"""Accuracy under corruptions in the report: text, a picture, and a rendered face under each of them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from facedistill.data.augmentation.corruptions import CORRUPTIONS
from facedistill.reporting.record import NetworkResults, Results
from facedistill.reporting.run.files import Faces
from facedistill.reporting.run.robustness import corrupted_faces, robustness_drawings, robustness_table
from facedistill.reporting.run.yaw import yaw_table
from facedistill.reporting.style import LIGHT


@pytest.fixture
def results() -> Results:
    plain = {"accuracy": 0.95, "accuracy_ci": [0.93, 0.97]}
    dark = {"accuracy": 0.8, "accuracy_ci": [0.78, 0.82], "loss": 0.15, "loss_ci": [0.12, 0.18]}
    measured = {"protocol": "lfw", "pairs": 1000, "genuine": 500, "impostor": 500}
    return Results(
        student=NetworkResults(
            robustness={**measured, "conditions": {"plain": plain, "low_resolution": dark}}
        ),
        teacher=NetworkResults(robustness={**measured, "conditions": {"plain": plain}}),
    )


def test_table_says_pairs_accuracy_and_loss(results: Results) -> None:
    table = robustness_table(results)
    assert table.pairs == "LFW: 1,000 pairs, 500 genuine and 500 impostor"
    plain, low = table.rows
    assert (plain.label, plain.student, plain.student_lost) == ("as they are", "95.00 %", "")
    assert (low.label, low.student, low.student_interval) == ("low resolution", "80.00 %", "[78.00, 82.00]")
    assert (low.student_lost, low.teacher, low.teacher_lost) == ("15.00 [12.00, 18.00]", "not measured", "")
    assert robustness_table(Results()) is None


def test_bars(results: Results) -> None:
    (drawing,) = robustness_drawings(results)
    assert drawing.alt == (
        "LFW: 1,000 pairs, 500 genuine and 500 impostor. Accuracy: as they are: student 95.00 %, teacher 95.00 %; "
        "low resolution: student 80.00 %, teacher not measured."
    )
    assert Image.open(io.BytesIO(drawing.png(LIGHT))).width > 800
    assert robustness_drawings(Results()) == []


def test_a_rendered_face_under_each() -> None:
    base = np.full((1, 3, 112, 112), 200, np.uint8)
    shown = corrupted_faces(Faces(base, base, *(np.zeros(1),) * 3))
    assert [label for label, _ in shown] == [
        "as they are",
        *(n.replace("_", " ").replace("jpeg", "JPEG") for n in CORRUPTIONS),
    ]
    assert all(uri.startswith("data:image/jpeg;base64,") for _, uri in shown)


def test_accuracy_by_yaw() -> None:
    bucket = {"low": 0.0, "high": 30.0, "genuine": 1200, "impostor": 7}
    measured = {"protocol": "cfp_fp", "unknown": 3}
    student = {**measured, "buckets": [{**bucket, "accuracy": 0.75, "accuracy_ci": [0.7, 0.8]}]}
    table = yaw_table(Results(student=NetworkResults(yaw=student)))
    assert (table.protocol, table.unknown) == ("CFP-FP", "3")
    (row,) = table.rows
    assert (row.yaw, row.pairs) == ("0 to 30°", "1,200 genuine, 7 impostor")
    assert (row.student, row.teacher) == ("75.00 % [70.00, 80.00]", "not measured")
    assert yaw_table(Results()) is None
