"""Losses between feature maps of a student and of its teacher: tensors to one value per image."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from facedistill.losses.precision import at_least_float32


def same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pools whichever of (N, C, H, W) and (N, C', H', W') is larger to the smaller height and width."""
    height, width = (min(pair) for pair in zip(student.shape[-2:], teacher.shape[-2:], strict=True))
    return tuple(
        maps if maps.shape[-2:] == (height, width) else F.adaptive_avg_pool2d(maps, (height, width))
        for maps in (at_least_float32(student), at_least_float32(teacher.detach()))
    )  # type: ignore[return-value]


def hint_errors(student: Tensor, teacher: Tensor) -> Tensor:
    """FitNets' hint loss, image by image (after Romero et al., ICLR 2015; mean as in RepDistiller).

    L_i = 1 / (C·H·W) · sum (student_i - teacher_i)²

    >>> hint_errors(torch.ones(1, 8, 4, 4), 3 * torch.ones(1, 8, 2, 2))
    tensor([4.])

    Args:
        student: (N, C, H, W) maps, already brought to the teacher's C by a regressor.
        teacher: (N, C, H', W') maps; receives no gradient. The larger of both is average-pooled to the smaller.

    Returns:
        (N,) errors >= 0.
    """
    student, teacher = same_size(student, teacher)
    return (student - teacher).square().flatten(1).mean(1)


def attention(maps: Tensor, power: int = 2) -> Tensor:
    """Where a network looks: (N, C, H, W) to unit vectors (N, H·W) of sum_c |maps_c|^power.

    >>> attention(torch.tensor([[[[0.0, 3.0], [0.0, 4.0]]]]), power=1)
    tensor([[0.0000, 0.6000, 0.0000, 0.8000]])
    """
    return F.normalize(at_least_float32(maps).abs().pow(power).sum(1).flatten(1))


def attention_errors(student: Tensor, teacher: Tensor, power: int = 2) -> Tensor:
    """Attention transfer, image by image (Zagoruyko and Komodakis, ICLR 2017; mean as in RepDistiller).

    L_i = 1 / (H·W) · ‖attention(student_i) - attention(teacher_i)‖²

    The paper's norm is not squared; the released code squares it and divides by H·W, and the usual weight of
    1000 belongs to that.

    >>> attention_errors(torch.ones(1, 8, 4, 4), 5 * torch.ones(1, 3, 2, 2))
    tensor([0.])

    Args:
        student: (N, C, H, W) maps; C may differ from the teacher's.
        teacher: (N, C', H', W') maps; receives no gradient. The larger of both is average-pooled to the smaller.
        power: p >= 1; 2 in the paper.

    Returns:
        (N,) errors in [0, 2 / (H·W)].
    """
    student, teacher = same_size(student, teacher)
    return (attention(student, power) - attention(teacher, power)).square().mean(1)
