"""Corruptions of fixed strength: what each leaves and removes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from facedistill.data.augmentation.corruptions import CORRUPTIONS, corrupt


@pytest.fixture
def faces() -> Tensor:
    return torch.rand(6, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_depends_on_the_seed_and_the_position_alone(name: str, faces: Tensor) -> None:
    before = faces.clone()
    together = corrupt(faces, name, seed=1, indices=torch.arange(6))
    assert torch.equal(faces, before)
    assert together.shape == faces.shape
    assert together.abs().max() <= 1
    assert not torch.equal(together, faces)
    alone = corrupt(faces[4:5], name, seed=1, indices=torch.tensor([4]))
    assert torch.allclose(alone[0], together[4], atol=1e-5)
    other = corrupt(faces[4:5], name, seed=2, indices=torch.tensor([4]))
    assert torch.equal(other, alone) or name in ("covered", "framed")


def test_strengths(faces: Tensor) -> None:
    changed = {name: corrupt(faces, name, seed=1, indices=torch.arange(6)) for name in CORRUPTIONS}
    light = (faces + 1) / 2
    assert torch.allclose((changed["dark"] + 1) / 2, 0.35 * light**1.5, atol=1e-5)
    assert torch.equal(changed["gray"][:, 0], changed["gray"][:, 2])
    for name, kept in (("blurred", 0.15), ("low_resolution", 0.25)):  # noise has no low frequencies to keep
        assert changed[name].std() < kept * faces.std()
    covered = (changed["covered"] != faces).any(1).float().mean((1, 2))
    assert (covered > 0.06).all()
    assert (covered < 0.16).all()  # a box at the edge is cut off
    black = (changed["framed"] == -1).all(1).float().mean((1, 2))
    assert (black > 0.3).all()
    assert (black < 0.5).all()
