"""Seeded random images, embeddings and logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from facedistill.types import FaceBatch


def random_batch(labels: Sequence[int] | Tensor = (0, 0, 1, 1, 2, 3, 3, 3), *, seed: int = 0) -> FaceBatch:
    """One image of 8 x 8 pixels, in float64, for each label."""
    seeded = torch.Generator().manual_seed(seed)
    images = torch.randn(len(labels), 3, 8, 8, dtype=torch.float64, generator=seeded)
    return FaceBatch(images=images, labels=torch.as_tensor(labels))


def random_embeddings(
    num_images: int = 5,
    dims: tuple[int, int] = (4, 6),
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """Embeddings of a student and of a teacher, of widths `dims`."""
    seeded = torch.Generator().manual_seed(seed)
    student, teacher = (
        torch.randn(num_images, dim, generator=seeded, dtype=torch.float64).to(dtype) for dim in dims
    )
    return student, teacher


def random_labels(num_images: int, num_identities: int, *, seed: int = 0) -> Tensor:
    return torch.randint(num_identities, (num_images,), generator=torch.Generator().manual_seed(seed))


def random_logits(
    num_images: int = 5,
    num_identities: int = 9,
    *,
    spread: float = 5.0,
    seed: int = 1,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of a student and of a teacher, and labels."""
    sizes = (num_identities, num_identities)
    student, teacher = random_embeddings(num_images, sizes, seed=seed)
    labels = random_labels(num_images, num_identities, seed=seed)
    return (spread * student).to(dtype), (spread * teacher).to(dtype), labels


def cosine(one: Tensor, other: Tensor) -> Tensor:
    """The cosine between two vectors, from its definition."""
    return (one * other).sum() / ((one * one).sum() * (other * other).sum()).sqrt()
