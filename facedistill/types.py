"""Types that several packages share.

Shape letters, used in every docstring: N images, P pairs, K identities, D embedding width, L latent width,
C x H x W channels, height, width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FaceBatch:
    """Aligned faces from any source.

    Attributes:
        images: (N, 3, H, W) RGB in [-1, 1].
        labels: (N,) identity index in [0, K), or None for unlabeled faces.
        latents: (N, L) generator input that the images were rendered from, or None for photographs.
        indices: (N,) position of each image in its finite set, or None for a stream.
        balanced: (N,) bool, true for images drawn identity by identity (P identities x K images, EKD), false for
            images drawn from the full set; None where all are. On the CPU, where the choice of rows waits for no device.
        teacher_images: (N, 3, H, W) what the teacher sees instead of `images`; None where it sees the same.
        teacher_embeddings: (N, D) embeddings of exactly these images from the cache of teacher embeddings; None
            where the teacher has to compute them.
    """

    images: Tensor
    labels: Tensor | None = None
    latents: Tensor | None = None
    indices: Tensor | None = None
    balanced: Tensor | None = None
    teacher_images: Tensor | None = None
    teacher_embeddings: Tensor | None = None

    @property
    def seen_by_teacher(self) -> Tensor:
        """(N, 3, H, W) images of the teacher."""
        return self.images if self.teacher_images is None else self.teacher_images


@dataclass(frozen=True)
class StepOutput:
    """The loss of one batch, and its terms.

    Attributes:
        loss: () scalar to minimize.
        terms: Named scalars for the logs, each ().
        agreement: (N,) cosine of student and teacher per image, detached, computed before the update; None
            where the method does not report it or the widths differ.
    """

    loss: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    agreement: Tensor | None = None


@dataclass(frozen=True)
class Offers:
    """What the faces of a source come with.

    Attributes:
        labels: Identity labels.
        latents: The latents that the faces were rendered from.
        indices: The position of each image in a finite set.
        class_centers: One teacher center per identity, (K, D): a finite labeled set has them as the means of the
            teacher's embeddings.
    """

    labels: bool = False
    latents: bool = False
    indices: bool = False
    class_centers: bool = False


@dataclass(frozen=True)
class Requirements:
    """Everything that a method needs of faces, teacher, student, head and trainer, and what it gives back.

    Attributes:
        labels: Identity labels.
        latents: The latents that the faces were rendered from.
        indices: A finite set, so that something can be stored per image (CRD's memory bank).
        class_centers: One teacher center per identity, (K, D).
        teacher: A frozen teacher; without one, it can still be compared with in validation.
        equal_widths: Student and teacher embeddings are compared directly, so they must have the same width.
        head: A margin head over the identities of the training set.
        identity_loss: `identity_weight` above 0; the method has no loss without the head's.
        all_logits: The logits of all identities in every step: a head must not sample them.
        unsplit_logits: The logits of all identities in each process: a head must not split them.
        one_center: One center per identity in the head.
        feature_maps: Reads a feature map inside the student, which excludes `trainer.compile` and
            gradient accumulation.
        several_teachers: Can learn from more than one teacher at once.
        clean_view: Compares the augmented face with the one before, which the teacher sees with
            `data.source.teacher_view=clean`.
        reports_agreement: Gives back the cosine of student and teacher per image, which dynamic resampling follows.
    """

    labels: bool = False
    latents: bool = False
    indices: bool = False
    class_centers: bool = False
    teacher: bool = True
    equal_widths: bool = False
    head: bool = False
    identity_loss: bool = False
    all_logits: bool = False
    unsplit_logits: bool = False
    one_center: bool = False
    feature_maps: bool = False
    several_teachers: bool = False
    clean_view: bool = False
    reports_agreement: bool = False

    def missing(self, offers: Offers) -> list[str]:
        """The fields of `Offers` that are needed and not offered."""
        return [f.name for f in fields(Offers) if getattr(self, f.name) and not getattr(offers, f.name)]


@dataclass(frozen=True)
class InputSpec:
    """Input that a network expects: `size_px` square faces, `color` order, (x - mean) / std of values 0..255.

    The package's own faces are RGB in [-1, 1]; `facedistill.models.teachers.FrozenTeacher` adapts them.
    """

    size_px: int = 112
    color: Literal["RGB", "BGR"] = "RGB"
    mean: float = 127.5
    std: float = 127.5


class Generator(Protocol):
    """The interface of a face generator."""

    latent_dim: int
    cholesky_w: Tensor

    def map(self, z: Tensor) -> Tensor:
        """(N, L) latents to (N, L) styles."""
        ...

    def render(self, w: Tensor) -> Tensor:
        """(N, L) styles to (N, 3, 112, 112) faces in [-1, 1]."""
        ...
