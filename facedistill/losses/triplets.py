"""Triplet loss whose margins come from the teacher: tensors to scalar."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.losses.precision import at_least_float32, outside_autocast

Distance = Literal["squared", "angle"]


@outside_autocast
def distances(embeddings: Tensor, distance: Distance) -> Tensor:
    """(N, D) embeddings of any norm to (N, N): squared distances of unit embeddings, or angles in radians.

    Angles have no gradient where the cosine is beyond ±(1 - 1e-6), where that of arccos is unbounded.

    >>> distances(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), "squared")
    tensor([[0., 2.],
            [2., 0.]])
    """
    unit = F.normalize(at_least_float32(embeddings))
    cosines = unit @ unit.T
    if distance == "squared":
        return 2 - 2 * cosines
    return torch.acos(cosines.clamp(-1 + 1e-6, 1 - 1e-6))


def semi_hard_triplets(distances: Tensor, labels: Tensor, reach: float) -> tuple[Tensor, Tensor, Tensor]:
    """FaceNet's selection: every genuine pair with impostors that are slightly further from the anchor.

    Args:
        distances: (N, N).
        labels: (N,) identities.
        reach: An impostor n is selected if d(a, p) < d(a, n) < d(a, p) + reach.

    Returns:
        Indices (T,) of anchors, positives and negatives, T >= 0.
    """
    genuine = labels[:, None] == labels[None, :]
    anchors, positives = torch.nonzero(
        genuine & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    ).T
    gap = distances[anchors] - distances[anchors, positives][:, None]  # (genuine pairs, N)
    taken = (gap > 0) & (gap < reach) & ~genuine[anchors]
    pair, negatives = torch.nonzero(taken).T
    return anchors[pair], positives[pair], negatives


@outside_autocast
def triplet_distillation(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    min_margin: float = 0.2,
    max_margin: float = 0.5,
    reach: float = 0.35,
    distance: Distance = "squared",
) -> Tensor | None:
    """TripletDistillation (Feng et al., ICIP 2020): pairs that are far apart for the teacher get a wide margin.

    L = mean over triplets of relu(d_S(a, p) - d_S(a, n) + m),
    m = (max_margin - min_margin) / Dmax · relu(d_T(a, n) - d_T(a, p)) + min_margin,
    Dmax = the largest relu(d_T(a, n) - d_T(a, p)) among the triplets.

    Triplets are semi-hard ones of the student in this batch: a genuine pair counts once, with the mean over its
    negatives, which is what the released code's one random negative per pair gives on average. It mines a bag
    of 7,200 images at squared distances, each pair in one order, and takes Dmax over 60 triplets; here both
    orders count and Dmax is the batch's. Where Dmax is 0 all margins are `min_margin` (there NaN).

    >>> faces = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    >>> triplet_distillation(faces, faces, torch.tensor([0, 0, 1]), reach=0.5)
    tensor(0.1000)

    Args:
        student: (N, D) embeddings of any norm > 0.
        teacher: (N, D') embeddings of any norm > 0; receives no gradient.
        labels: (N,) identities.
        min_margin: Smallest margin, >= 0, in the unit of the distance.
        max_margin: Largest margin.
        reach: How much further than the genuine face an impostor may be to count; in the unit of the distance.
        distance: "squared" of unit embeddings (released L2), or "angle" in radians (released cos).

    Returns:
        () loss >= 0, or None where the batch has no such triplet.
    """
    ours = distances(student, distance)
    theirs = distances(teacher.detach(), distance)
    anchors, positives, negatives = semi_hard_triplets(ours.detach(), labels, reach)
    if not len(anchors):
        return None
    lead = F.relu(theirs[anchors, negatives] - theirs[anchors, positives])
    largest = lead.max()
    margins = (max_margin - min_margin) * lead / torch.where(largest > 0, largest, 1) + min_margin
    hinge = F.relu(ours[anchors, positives] - ours[anchors, negatives] + margins.to(ours.dtype))
    pairs, counts = torch.unique(anchors * len(labels) + positives, return_inverse=True, return_counts=True)[
        1:
    ]
    return (hinge / counts[pairs]).sum() / len(counts)
