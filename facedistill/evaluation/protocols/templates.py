"""Templates: several faces of one person pooled into one embedding, as IJB-B and IJB-C compare them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_PAIRS_AT_ONCE = 2**12


@dataclass(frozen=True)
class TemplateMode:
    """What goes into a template; the literature names the modes N0D0F0 to N1D1F1.

    Attributes:
        norm: N1: embeddings keep their norm, so that faces of high norm weigh more; N0: unit embeddings.
        detector: D1: embeddings are multiplied by the detector's score of their face.
        flip: F1: the embedding of the mirror image is added.
    """

    norm: bool
    detector: bool
    flip: bool

    @property
    def name(self) -> str:
        """For example `N1D1F1`."""
        return f"N{self.norm:d}D{self.detector:d}F{self.flip:d}"


N0D0F0 = TemplateMode(norm=False, detector=False, flip=False)
"""TFace's evaluator as released."""
N1D1F1 = TemplateMode(norm=True, detector=True, flip=True)
"""insightface's evaluator as released."""


def face_embeddings(plain: Tensor, mirrored: Tensor, detector_score: Tensor, mode: TemplateMode) -> Tensor:
    """Embeddings to pool in a mode: flip first, then norm, then detector score (insightface's order).

    Args:
        plain: (N, D) of the faces.
        mirrored: (N, D) of their mirror images.
        detector_score: (N,) the detector's confidence.
        mode: See `TemplateMode`.
    """
    faces = plain + mirrored if mode.flip else plain
    faces = faces if mode.norm else F.normalize(faces, dim=1)
    return faces * detector_score[:, None].to(faces) if mode.detector else faces


def pool_templates(embeddings: Tensor, template: Tensor, media: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the faces of a media (frames of a video), sum over the media of a template, then unit length.

    Args:
        embeddings: (N, D) of faces.
        template: (N,) int64 template of each face.
        media: (N,) int64 media of each face; numbers are unique within a template only.

    Returns:
        (T,) the distinct templates in ascending order, and (T, D) their unit embeddings.
    """
    templates, of_face = torch.unique(template, return_inverse=True)
    distinct, media = torch.unique(media, return_inverse=True)
    parts, part, count = torch.unique(
        of_face * len(distinct) + media, return_inverse=True, return_counts=True
    )
    width = embeddings.shape[1]
    means = embeddings.new_zeros(len(parts), width).index_add_(0, part, embeddings)
    means /= count[:, None].to(means)
    of_part = torch.div(parts, len(distinct), rounding_mode="floor")
    pooled = embeddings.new_zeros(len(templates), width).index_add_(0, of_part, means)
    return templates, F.normalize(pooled, dim=1)


def pair_scores(embeddings: Tensor, left: Tensor, right: Tensor, norm: Tensor | None = None) -> Tensor:
    """Cosine of each pair, in batches: takes no memory of the size of the embeddings.

    Args:
        embeddings: (T, D); unit embeddings where `norm` is None.
        left: (P,) row of the first of each pair.
        right: (P,) row of the second.
        norm: (T,) their norms, above 0.

    Returns:
        (P,) float32 in [-1, 1].
    """
    scores = torch.empty(len(left), dtype=torch.float32)
    for start in range(0, len(left), _PAIRS_AT_ONCE):
        some = slice(start, start + _PAIRS_AT_ONCE)
        one, other = (
            embeddings[rows] if norm is None else embeddings[rows] / norm[rows, None]
            for rows in (left[some], right[some])
        )
        scores[some] = (one * other).sum(dim=1)
    return scores.clamp_(-1, 1)
