"""RKD (Park, Kim, Lu, Cho; CVPR 2019): distances and angles between the embeddings of a batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from facedistill.losses.precision import at_least_float32, outside_autocast

COINCIDENT = 1e-4  # of the mean distance: closer pairs have no direction


@outside_autocast
def rkd_distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Distances between raw embeddings, in units of their mean.

    L = 1 / N² · sum over i, j of Huber(d_ij / mean d of the student, the same of the teacher), Huber with a knee
    at 1. The mean is over pairs of distance > 0, its gradient included, as in RepDistiller.

    >>> student, teacher = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [1.0], [3.0]])
    >>> rkd_distance_loss(student, teacher)
    tensor(0.0139)

    Args:
        student: (N, D) raw embeddings.
        teacher: (N, D') raw embeddings; receives no gradient.

    Returns:
        () loss >= 0 in float32 or better; 0 for N = 1. Coincident embeddings have distance 0 and no gradient.
    """
    ours, theirs = (_distances(at_least_float32(e)) for e in (student, teacher.detach()))
    return F.smooth_l1_loss(ours / _mean(ours), theirs / _mean(theirs))


@outside_autocast
def rkd_angle_loss(student: Tensor, teacher: Tensor, *, vertices_at_once: int = 8) -> Tensor:
    """Cosines of the angles of all triangles.

    L = 1 / N³ · sum over i, j, k of Huber(cos∠ijk of the student, of the teacher), j the vertex; N³ and not the
    number of true triangles, as in RepDistiller. The cosine comes from scalar products, O(N³) operations where the
    released code does O(N³·D), and vertices are taken a few at a time and again in the backward pass, so memory is
    O(N²·vertices_at_once). An angle with a leg shorter than 1e-4 of the mean distance counts as cosine 0.

    >>> right = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> rkd_angle_loss(right, torch.tensor([[0.0], [1.0], [2.0]]))
    tensor(0.1296)

    Args:
        student: (N, D) raw embeddings.
        teacher: (N, D') raw embeddings; receives no gradient.
        vertices_at_once: Slices of N x N angles in memory together.

    Returns:
        () loss >= 0 in float32 or better; 0 for N = 1.
    """
    ours, theirs = (_legs(at_least_float32(e)) for e in (student, teacher.detach()))
    size = len(student)
    total = ours[0].new_zeros(())
    for start in range(0, size, vertices_at_once):
        vertices = torch.arange(start, min(start + vertices_at_once, size), device=student.device)
        part = checkpoint(_angle_error, *ours, *theirs, vertices, use_reentrant=False)
        assert isinstance(part, Tensor)
        total = total + part
    return total / size**3


def _angle_error(
    products: Tensor, inverse: Tensor, their_products: Tensor, their_inverse: Tensor, vertices: Tensor
) -> Tensor:
    ours = _angles(products, inverse, vertices)
    return F.smooth_l1_loss(ours, _angles(their_products, their_inverse, vertices), reduction="sum")


def _angles(products: Tensor, inverse: Tensor, vertices: Tensor) -> Tensor:
    """(V, N, N) cosines <f_i - f_j, f_k - f_j> / (d_ij·d_kj) at the vertices j."""
    to_vertex = products[vertices]  # (V, N)
    own = products.diagonal()[vertices]
    inner = products - to_vertex[:, :, None] - to_vertex[:, None, :] + own[:, None, None]
    return inner * inverse[vertices][:, :, None] * inverse[vertices][:, None, :]


def _legs(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """(N, N) scalar products about the mean, and (N, N) inverse distances, 0 for coincident ones."""
    distances = _distances(embeddings)
    apart = distances.detach() > COINCIDENT * _mean(distances.detach())
    inverse = torch.where(apart, 1 / torch.where(apart, distances, 1), 0)
    centered = embeddings - embeddings.mean(0)
    return centered @ centered.T, inverse


def _distances(embeddings: Tensor) -> Tensor:
    """(N, N), exactly 0 between equal embeddings, where the gradient is 0 too."""
    return torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")


def _mean(distances: Tensor) -> Tensor:
    mean = distances.sum() / (distances > 0).sum().clamp(min=1)
    return torch.where(mean > 0, mean, 1)  # where all embeddings are equal
