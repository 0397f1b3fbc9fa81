"""Faces drawn by formula: no photograph, no random generator, the same on every machine."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def draw_faces(num_faces: int) -> Tensor:
    """(num_faces, 3, 112, 112) in [-1, 1]: a face of its own proportions each."""
    return torch.stack([_draw(index) for index in range(num_faces)])


def _draw(index: int) -> Tensor:
    row, column = torch.meshgrid(torch.arange(112.0), torch.arange(112.0), indexing="ij")
    image = torch.full((3, 112, 112), 0.1 * math.sin(index)) + 0.3 * (row / 112)
    turn = [math.sin(1 + index * step) for step in (0.7, 1.3, 1.9, 2.3)]

    def paint(row_px: float, column_px: float, height: float, width: float, color: tuple[float, ...]) -> None:
        distance = ((row - row_px) / height) ** 2 + ((column - column_px) / width) ** 2
        cover = torch.sigmoid((1 - distance) * 6)
        image.copy_(image * (1 - cover) + cover * torch.tensor(color)[:, None, None])

    paint(60, 56, 56 + 3 * turn[0], 40 + 4 * turn[1], (0.45 + 0.2 * turn[2], 0.1 + 0.2 * turn[2], -0.1))
    for column_px in (38.3, 73.5):
        paint(51.7, column_px, 3 + turn[1], 7 + turn[3], (0.8, 0.8, 0.8))
        paint(51.7, column_px, 3, 3, (-0.8, -0.6 + 0.3 * turn[0], -0.5))
        paint(42 + 2 * turn[2], column_px, 2, 9 + 2 * turn[0], (-0.6, -0.7, -0.8))
    paint(66, 56, 9 + 2 * turn[3], 5 + turn[0], (0.35 + 0.2 * turn[2], 0.0, -0.2))
    paint(92.3, 56, 3 + turn[1], 15 + 3 * turn[2], (0.4, -0.5, -0.4))
    return image.clamp(-1, 1)
