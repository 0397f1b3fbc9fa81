"""What a teacher answers to faces that never change: a card that carries it notices another color order or mean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from facedistill.errors import ConfigError
from facedistill.models.drawn_faces import draw_faces
from facedistill.models.teachers.frozen import FrozenTeacher, adapt

NUM_FACES, NUM_ELEMENTS = 4, 8
TOLERANCE = 0.01  # float32 differs by 1e-5 between machines, (x - 137.5) by 0.015, RGB for BGR by 0.26 at least (docs/teachers.md)


@torch.no_grad()
def golden_of(teacher: FrozenTeacher) -> list[list[float]]:
    """The first 8 elements of the raw embeddings of 4 faces drawn by formula, to 4 digits.

    The faces enter by the teacher's own door, so that weights, arithmetic and input spec all have their say.
    """
    network = teacher.network
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    faces = adapt(draw_faces(NUM_FACES).to(device), teacher.input_spec)
    found = network(faces).float().cpu()[:, :NUM_ELEMENTS]
    return [[float(f"{value:.4g}") for value in row] for row in found.tolist()]


def check_golden(teacher: FrozenTeacher, expected: Sequence[Sequence[float]], name: str) -> None:
    """Holds a loaded teacher to what its card says of it.

    Args:
        teacher: Loaded and frozen.
        expected: What `golden_of` said when the card was written.
        name: The teacher's, for the message.

    Raises:
        ConfigError: If it answers otherwise, or `expected` is not of that shape.
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
            f"teacher {name}: fed with {spec.color} (x - {spec.mean:g}) / {spec.std:g} at {spec.size_px} px it does not "
            f"answer as its card says (difference {difference:.2f}, {TOLERANCE} is admitted); restore teacher.input_spec "
            "and the weights, or set teacher.card.golden=null and prove the new ones with `facedistill teacher add`"
        )


def relative_difference(found: Tensor, wanted: Tensor) -> float:
    """|found - wanted| / |wanted|, Frobenius norms; infinite where `found` is not finite."""
    difference = (found - wanted).norm() / wanted.norm().clamp_min(1e-12)
    return float(difference) if bool(torch.isfinite(difference)) else float("inf")


def _form(name: str) -> str:
    return (
        f"teacher {name}: card.golden must be {NUM_FACES} rows of {NUM_ELEMENTS} numbers, as `facedistill teacher add` "
        "writes them"
    )
