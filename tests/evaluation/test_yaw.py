"""Accuracy by yaw: the estimate from landmarks, the buckets by hand, and the cache."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from facedistill.config import compose
from facedistill.errors import ConfigError
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.evaluation.protocols.images import ArrayImages
from facedistill.evaluation.yaw import face_yaws, yaw_degrees, yaw_figures
from facedistill.runs.yaw import yaw_settings


@pytest.fixture
def protocol() -> PairsProtocol:
    """Eight pairs of face 0 and face 1, 2, 3, 4 in two folds, kinds in turn."""
    right = torch.tensor([1, 1, 2, 2, 3, 3, 4, 4])
    faces = torch.arange(5, dtype=torch.uint8).view(-1, 1, 1, 1).expand(5, 3, 112, 112)
    fold = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1])
    return PairsProtocol(
        "turned", ArrayImages(faces), torch.zeros(8, dtype=torch.int64), right, right % 2 == -1, fold
    )


def test_rotation_in_the_image_has_no_influence() -> None:
    points = np.array([[38.0, 52], [74, 52], [62, 72], [42, 92], [71, 92]])
    angle = math.radians(30)
    turned = points @ np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    assert yaw_degrees(turned) == pytest.approx(yaw_degrees(points))
    assert yaw_degrees(points) == pytest.approx(math.degrees(math.atan(2 * 6 / 36)))
    assert yaw_degrees(points * [-1, 1] + [112, 0])  # the mirror image exchanges the eyes as well


def test_buckets_by_hand(protocol: PairsProtocol) -> None:
    same = torch.tensor([True, False] * 4)
    protocol = PairsProtocol("turned", protocol.image_set, protocol.left, protocol.right, same, protocol.fold)
    yaws = torch.tensor([5.0, -10.0, 40.0, -50.0, float("nan")], dtype=torch.float64)
    score = torch.tensor(
        [0.9, 0.1, 0.8, 0.2, 0.05, 0.15, 0.7, 0.3]
    )  # the genuine pair at 50 degrees scores low
    figures = yaw_figures(score, protocol, yaws, [0, 30, 45, 90])
    assert (figures["protocol"], figures["unknown"]) == ("turned", 2)
    near, middle, far = figures["buckets"]
    assert [(one["low"], one["high"], one["genuine"], one["impostor"]) for one in (near, middle, far)] == [
        (0, 30, 1, 1), (30, 45, 1, 1), (45, 90, 1, 1),
    ]  # fmt: skip
    assert [(one["accuracy"], one["tar"], one["far"]) for one in (near, middle, far)] == [
        (1.0, 1.0, 0.0), (1.0, 1.0, 0.0), (0.5, 0.0, 0.0),
    ]  # fmt: skip
    assert yaw_figures(score, protocol, yaws, [60, 90])["buckets"] == [
        {"low": 60, "high": 90, "genuine": 0, "impostor": 0}
    ]


def test_faces_are_estimated_once(protocol: PairsProtocol, tmp_path: Path) -> None:
    seen: list[int] = []

    def estimate(face: object) -> float:
        seen.append(np.asarray(face)[0, 0, 0])
        return float(seen[-1])

    first = face_yaws(protocol, estimate, tmp_path, "a")
    assert first.tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(face_yaws(protocol, estimate, tmp_path, "a"), first)
    assert len(seen) == 5
    next(tmp_path.glob("yaw-turned-*.npz")).write_bytes(b"damaged")
    assert torch.equal(face_yaws(protocol, estimate, tmp_path, "a"), first)
    assert len(seen) == 10


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["evaluation.yaw={edge: [0, 30]}"], "evaluation.yaw.edge: unknown key; known: protocol, edges"),
        (
            ["evaluation.yaw={edges: [30, 0]}"],
            "evaluation.yaw.edges: must ascend within 0 and 90 degrees, got [30.0, 0.0]",
        ),
    ],
)
def test_wrong_settings_are_named(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        yaw_settings(compose("train", overrides).evaluation)
    assert str(caught.value) == message
