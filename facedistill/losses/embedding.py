"""Losses between the embeddings of a student and of its teacher: tensors to scalar."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from facedistill.losses.precision import at_least_float32


def embedding_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error of raw embeddings: SynthDistill's objective (released code; methods' section 1.1).

    L = 1 / (N·D) · sum (student - teacher)²

    >>> embedding_mse(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]]))
    tensor(2.)

    Args:
        student: (N, D) un-normalized student embeddings.
        teacher: (N, D) un-normalized teacher embeddings; receives no gradient.

    Returns:
        () loss >= 0, computed in float32 whatever the inputs' precision (float64 stays float64).
    """
    student, teacher = at_least_float32(student), at_least_float32(teacher.detach())
    return F.mse_loss(student, teacher)


def cosine_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the cosine: half the squared distance of unit embeddings.

    L = 1 / N · sum (1 - cos(student_i, teacher_i)) = 1 / (2·N) · sum ‖s_i - t_i‖² with s, t of unit length

    >>> cosine_loss(torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 4.0]]))
    tensor(0.4000)

    Args:
        student: (N, D) embeddings of any norm > 0.
        teacher: (N, D) embeddings of any norm > 0; receives no gradient.

    Returns:
        () loss in [0, 2].
    """
    return (1 - F.cosine_similarity(at_least_float32(student), at_least_float32(teacher.detach()))).mean()


def squared_errors(student: Tensor, teacher: Tensor) -> Tensor:
    """`embedding_mse` image by image: (N, D) raw embeddings to (N,) mean squared errors over the dimensions.

    >>> squared_errors(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]]))
    tensor([2.])
    """
    return (at_least_float32(student) - at_least_float32(teacher.detach())).square().mean(1)


def cosine_distances(student: Tensor, teacher: Tensor) -> Tensor:
    """`cosine_loss` image by image: (N, D) embeddings of any norm to (N,) values of 1 - cos in [0, 2].

    >>> cosine_distances(torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 4.0]]))
    tensor([0.4000])
    """
    return 1 - F.cosine_similarity(at_least_float32(student), at_least_float32(teacher.detach()))
