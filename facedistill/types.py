"""The nouns that cross rooms.

Shape letters, used in every docstring: N images, P pairs, K identities, D embedding width, L latent width,
C x H x W channels, height, width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from torch import Tensor


@dataclass(frozen=True)
class FaceBatch:
    """Aligned faces, whatever their origin.

    Attributes:
        images: (N, 3, H, W) RGB in [-1, 1].
        labels: (N,) identity index in [0, K), or None for unlabelled faces.
        latents: (N, L) generator input that the images were rendered from, or None for photographs.
        indices: (N,) position of each image in its finite set, or None for a stream.
        balanced: (N,) bool, true for images that were drawn identity by identity (P identities x K images, EKD)
            and not from the set as a whole; None where all come from the whole.
        teacher_embeddings: (N, D) what the teacher says of exactly these images, where that was computed once
            and kept; None where the teacher has to be asked.
    """

    images: Tensor
    labels: Tensor | None = None
    latents: Tensor | None = None
    indices: Tensor | None = None
    balanced: Tensor | None = None
    teacher_embeddings: Tensor | None = None


@dataclass(frozen=True)
class StepOutput:
    """One objective and the parts it is made of.

    Attributes:
        loss: () scalar to minimize.
        terms: Named scalars for the logs, each ().
        agreement: (N,) cosine of student and teacher per image, detached, computed before the update; None
            where the method compares something else.
    """

    loss: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    agreement: Tensor | None = None


@dataclass(frozen=True)
class Traits:
    """What a method needs, or what a source offers.

    Attributes:
        labels: Identity labels.
        latents: The latents that faces were rendered from.
        indices: A finite set, so that something can be kept per image (CRD's memory bank).
        class_centers: One teacher center per identity, (K, D): a finite labelled set offers them as the means of
            the teacher's embeddings.
    """

    labels: bool = False
    latents: bool = False
    indices: bool = False
    class_centers: bool = False


@dataclass(frozen=True)
class InputSpec:
    """What a network expects at its door: `size_px` square faces, `color` order, (x - mean) / std of 0..255.

    The package's own faces are RGB in [-1, 1]; `facedistill.models.teachers.FrozenTeacher` adapts them.
    """

    size_px: int = 112
    color: Literal["RGB", "BGR"] = "RGB"
    mean: float = 127.5
    std: float = 127.5


class Generator(Protocol):
    """What is needed of a face generator."""

    latent_dim: int
    cholesky_w: Tensor

    def map(self, z: Tensor) -> Tensor:
        """(N, L) latents to (N, L) styles."""
        ...

    def render(self, w: Tensor) -> Tensor:
        """(N, L) styles to (N, 3, 112, 112) faces in [-1, 1]."""
        ...
