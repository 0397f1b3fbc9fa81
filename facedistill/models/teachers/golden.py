"""Embeddings of fixed faces: a teacher's card stores them, which detects a wrong color order or mean."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from facedistill.errors import ConfigError
from facedistill.models.teachers.frozen import FrozenTeacher, adapt

NUM_FACES, NUM_ELEMENTS = 4, 8
TOLERANCE = 0.01  # float32 differs by 1e-5 between machines, (x - 137.5) by 0.015, RGB for BGR by 0.26 at least (docs/teachers.md)


@torch.no_grad()
def golden_of(teacher: FrozenTeacher) -> list[list[float]]:
    """The first 8 elements of the raw embeddings of 4 faces drawn by formula, to 4 digits.

    The faces are adapted to the teacher's input spec, so the result depends on weights, arithmetic and input spec.
    """
    network = teacher.network
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    faces = adapt(draw_faces(NUM_FACES).to(device), teacher.input_spec)
    found = network(faces).float().cpu()[:, :NUM_ELEMENTS]
    return [[float(f"{value:.4g}") for value in row] for row in found.tolist()]


def check_golden(teacher: FrozenTeacher, expected: Sequence[Sequence[float]], name: str) -> None:
    """Checks a loaded teacher against the embeddings on its card.

    Args:
        teacher: Loaded and frozen.
        expected: What `golden_of` returned when the card was written.
        name: The teacher's, for the message.

    Raises:
        ConfigError: If the embeddings differ, or `expected` is not of that shape.
    """
    try:
        wanted = torch.tensor([list(row) for row in expected], dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise ConfigError(_form(name)) from error
    found = torch.tensor(golden_of(teacher))
    if wanted.shape != found.shape:
        raise ConfigError(_form(name))
    difference = relative_difference(found, wanted)
    if difference > TOLERANCE:
        spec = teacher.input_spec
        raise ConfigError(
            f"teacher {name}: with input {spec.color} (x - {spec.mean:g}) / {spec.std:g} at {spec.size_px} px its "
            f"embeddings differ from its card (by {difference:.2f}, more than {TOLERANCE}); restore teacher.input_spec "
            "and the weights, or set teacher.card.golden=null and check the new ones with `facedistill teacher add`"
        )


def relative_difference(found: Tensor, wanted: Tensor) -> float:
    """|found - wanted| / |wanted|, Frobenius norms; infinite if `found` is not finite."""
    difference = (found - wanted).norm() / wanted.norm().clamp_min(1e-12)
    return float(difference) if bool(torch.isfinite(difference)) else float("inf")


def _form(name: str) -> str:
    return (
        f"teacher {name}: card.golden must be {NUM_FACES} rows of {NUM_ELEMENTS} numbers, as `facedistill teacher add` "
        "writes them"
    )


def draw_faces(num_faces: int) -> Tensor:
    """(num_faces, 3, 112, 112) in [-1, 1]: faces of different proportions."""
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
