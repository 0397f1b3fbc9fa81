"""Directions that turn faces, on a generator whose yaw is a known linear function of w."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from facedistill.errors import AssetError, ConfigError
from facedistill.models.generators.directions import (
    estimate_directions,
    landmark_angles,
    measured_yaw,
    read_directions,
    step_per_degree,
    write_directions,
)
from tests.helpers.fake_detector import BrightnessDetector
from tests.helpers.tiny_networks import TinyGenerator

ANGLES_PER_W = torch.tensor([0.3, -0.2, 0.1, 0.0, 0.25, 0.0, 0.0, 0.1])


class Shaded(TinyGenerator):
    """Every image has one brightness, a linear function of w: what `BrightnessDetector` reads as yaw."""

    def __init__(self, dark: bool = False) -> None:
        super().__init__()
        self.dark = dark

    def map(self, z: Tensor) -> Tensor:
        return z @ self.cholesky_w.T

    def native(self, w: Tensor) -> Tensor:
        value = torch.full((len(w),), -1.0) if self.dark else 0.4 * (w @ ANGLES_PER_W)
        return value.clamp(-1, 1).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)


@pytest.fixture
def detector() -> Any:
    return BrightnessDetector()


def test_angles_do_not_depend_on_roll_scale_and_place() -> None:
    face = np.array([[-1.0, 0], [1, 0], [0.5, 1.2], [-0.7, 2], [0.7, 2]])
    angle = 0.4
    turned = (
        30 * face @ np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) + 7
    )
    yaw, pitch = landmark_angles(np.stack([face, turned]))[1]
    assert yaw == pytest.approx(math.degrees(math.atan(0.5)))
    assert pitch == pytest.approx(math.degrees(math.atan(0.2)))


def test_the_step_is_the_regression_of_w_on_the_angle() -> None:
    seeded = torch.Generator().manual_seed(0)
    factor = torch.randn(5, 5, generator=seeded, dtype=torch.float64).tril()
    weights = torch.randn(5, generator=seeded, dtype=torch.float64)
    step = step_per_degree(weights, factor)
    assert float(weights @ step) == pytest.approx(1)
    styles = torch.randn(20_000, 5, generator=seeded, dtype=torch.float64) @ factor.T
    angle = styles @ weights
    torch.testing.assert_close(step, (styles.T @ angle) / (angle @ angle), atol=0.05, rtol=0)


def test_a_step_of_ten_degrees_turns_by_ten_degrees(detector: Any) -> None:
    generator: Any = Shaded()
    found = estimate_directions(generator, detector, renders=400, ridge=0.1)
    assert found.r2[0] > 0.98
    assert (found.renders, found.detected) == (400, 1.0)
    (left, _), (right, seen) = measured_yaw(generator, detector, found.yaw, [-10, 10], faces=32)
    assert left == pytest.approx(-10, abs=1)
    assert right == pytest.approx(10, abs=1)
    assert seen == 1


def test_a_file_belongs_to_its_generator(tmp_path: Path, detector: Any) -> None:
    generator: Any = Shaded()
    found = estimate_directions(generator, detector, renders=40)
    path = write_directions(tmp_path / "own.directions.safetensors", found, generator)
    again = read_directions(path, generator)
    assert torch.equal(again.yaw, found.yaw)
    assert torch.equal(again.pitch, found.pitch)
    assert again.r2 == pytest.approx(found.r2, abs=1e-4)
    other: Any = Shaded()
    other.mean_w += 1
    with pytest.raises(
        AssetError, match="belongs to another generator; delete it and estimate the directions again"
    ):
        read_directions(path, other)
    path.write_bytes(b"torn")
    with pytest.raises(AssetError, match="cannot be read as directions"):
        read_directions(path, generator)


def test_a_generator_without_faces_is_refused(detector: Any) -> None:
    dark: Any = Shaded(dark=True)
    with pytest.raises(ConfigError, match=r"--renders 24: the detector finds 0 faces, and 20 are needed"):
        estimate_directions(dark, detector, renders=24)
