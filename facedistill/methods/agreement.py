"""Agreement of student and teacher per image, which dynamic resampling follows."""

from __future__ import annotations

import torch
from torch import Tensor

from facedistill.losses.precision import at_least_float32


@torch.no_grad()
def agreement(student: Tensor, teacher: Tensor) -> Tensor | None:
    """Cosine (N,) of student and teacher per image, in [-1, 1]; None where their widths differ."""
    if student.shape != teacher.shape:
        return None
    return torch.cosine_similarity(at_least_float32(student), at_least_float32(teacher))
