"""The similarity from FFHQ's alignment to aligned 112x112 faces, as two matrices."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from facedistill.errors import ConfigError
from facedistill.models.generators.region import Window

CropName = Literal["paper", "fitted", "legacy"]
FACE_SIZE = 112

# Edge coordinates (a pixel i spans [i, i + 1]) of a 1024 px frame: x_112 = scale * x_1024 + offset.
_SIMILARITIES = {
    "paper": (0.130519, -11.307, -11.049),  # FFHQ's nominal eyes on the ArcFace template's (SynthDistill)
    "fitted": (0.141812, -17.010, -15.853),  # least squares on landmarks detected in rendered faces
}
_EYES = {"row": 480 / 1024, "left": 380 / 1024, "right": 650 / 1024}  # FFHQ's alignment
_TEMPLATE = {
    "row": 51.6,
    "left": 38.2946,
    "right": 73.5318,
}  # SynthDistill's target, ArcFace's template rounded


def crop_matrices(crop: CropName, size: int) -> tuple[Tensor, Tensor]:
    """Computes the matrices that crop and resize a frame: face = rows @ frame @ columnsᵀ.

    Args:
        crop: "paper" puts the nominal eyes on the template, "fitted" is a closer zoom with smaller
            landmark errors, both antialiased; "legacy" is SynthDistill's own integer box, bilinear and not
            antialiased.
        size: Height and width of the frame.

    Returns:
        rows (112, size) and columns (112, size), float32; each row sums to 1.

    Raises:
        ConfigError: If the crop is unknown.
    """
    if crop not in get_args(CropName):
        raise ConfigError(
            f"generator.network.crop: unknown crop {crop!r}; try one of {', '.join(get_args(CropName))}"
        )
    if crop == "legacy":
        box = _legacy_box(size)
        return _legacy_matrix(box.top, box.bottom, size), _legacy_matrix(box.left, box.right, size)
    scale, offset_x, offset_y = _SIMILARITIES[crop]
    return (
        _antialiased_matrix(scale * 1024 / size, offset_y, size),
        _antialiased_matrix(scale * 1024 / size, offset_x, size),
    )


def crop_window(rows: Tensor, columns: Tensor) -> Window:
    """The part of the frame that the matrices read."""
    used_rows, used_columns = rows.abs().sum(0).nonzero(), columns.abs().sum(0).nonzero()
    top, bottom = int(used_rows.min()), int(used_rows.max()) + 1
    return Window(top, bottom, int(used_columns.min()), int(used_columns.max()) + 1)


def _antialiased_matrix(scale: float, offset: float, size: int) -> Tensor:
    """A triangle filter, as wide as the coarser of the two grids, around each target pixel's pre-image."""
    centers = (torch.arange(FACE_SIZE, dtype=torch.float64) + 0.5 - offset) / scale
    reach = max(1.0, 1 / scale)
    distance = (torch.arange(size, dtype=torch.float64) + 0.5 - centers[:, None]).abs()
    weights = (1 - distance / reach).clamp(min=0)
    return (weights / weights.sum(1, keepdim=True)).float()


def _legacy_box(size: int) -> Window:
    """SynthDistill's box: eyes and all four edges truncated to integers, as its code does."""
    row, left_eye, right_eye = (int(_EYES[name] * size) for name in ("row", "left", "right"))
    scale = (_TEMPLATE["right"] - _TEMPLATE["left"]) / (right_eye - left_eye)
    top, left, side = row - _TEMPLATE["row"] / scale, left_eye - _TEMPLATE["left"] / scale, FACE_SIZE / scale
    return Window(int(top), int(top + side), int(left), int(left + side))


def _legacy_matrix(start: int, stop: int, size: int) -> Tensor:
    """Bilinear resize of [start, stop) to 112 with `align_corners=False`: two taps, edges clamped."""
    side = stop - start
    position = ((torch.arange(FACE_SIZE, dtype=torch.float64) + 0.5) * side / FACE_SIZE - 0.5).clamp(
        0, side - 1
    )
    first = position.floor().long()
    fraction = position - first
    matrix = torch.zeros(FACE_SIZE, size, dtype=torch.float64)
    rows = torch.arange(FACE_SIZE)
    matrix[rows, start + first] += 1 - fraction
    matrix[rows, start + (first + 1).clamp(max=side - 1)] += fraction
    return matrix.float()
