"""Gradients of depthwise convolutions equal torch's, whichever of them are computed in float32."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from facedistill.models.depthwise import DepthwiseConvolution
from facedistill.models.execution import Execution, as_built


class OtherConv2d(nn.Conv2d):
    """One that computes something else."""

    def forward(self, x):
        return super().forward(x) + 1


def _gradients(run, *tensors):
    tensors = [t.clone().requires_grad_() for t in tensors]
    result = run(*tensors)
    result.backward(torch.randn(result.shape, generator=torch.Generator().manual_seed(2)).to(result))
    return [result.detach(), *(t.grad for t in tensors)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 6e-3)])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "side"), [(3, 2, 1, 9), (5, 1, 2, 6), (5, 2, 0, 8), (3, 1, 1, 4)]
)
def test_result_and_gradients_are_those_of_conv2d_in_float32(kernel, stride, padding, side, dtype, tolerance):
    torch.manual_seed(0)
    given = [torch.randn(s).to(dtype) for s in [(2, 4, side, side), (4, 1, kernel, kernel), (4,)]]
    numbers = (stride, stride), (padding, padding)
    ours = _gradients(lambda x, w, b: DepthwiseConvolution.apply(x, w, b, *numbers), *given)
    theirs = _gradients(
        lambda x, w, b: nn.functional.conv2d(x, w, b, *numbers, groups=4), *(t.float() for t in given)
    )
    for mine, exact in zip(ours, theirs, strict=True):
        assert mine.dtype == dtype
        assert (mine.float() - exact).norm() < tolerance * exact.norm()


@pytest.mark.parametrize("half", [True, False])
def test_bfloat16_uses_them_where_torch_is_slow_and_only_in_training(monkeypatch, half):
    plain = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.Conv2d(4, 4, 3, stride=2, groups=4),  # slow
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 4, 5, padding="same", groups=4),
        OtherConv2d(4, 4, 3, stride=2, groups=4),
        nn.Conv2d(4, 4, 5, padding=3, groups=4, bias=False),  # slow
        nn.Flatten(),
    )
    student = Execution(half=half).prepare(copy.deepcopy(plain))
    applied, apply = [], DepthwiseConvolution.apply
    monkeypatch.setattr(DepthwiseConvolution, "apply", lambda *given: applied.append(1) or apply(*given))
    images = torch.randn(2, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16, enabled=not half):
        student(images).sum().backward()
        assert len(applied) == 2
        with torch.no_grad():
            student(images)
    torch.testing.assert_close(as_built(student)(images), plain(images), rtol=0, atol=0.05)
    assert len(applied) == 2
    assert not [m for m in student.modules() if "forward" in vars(m)]
    with torch.autocast("cpu", torch.bfloat16):
        plain(images).sum().backward()
    if not half:
        for ours, theirs in zip(student.parameters(), plain.parameters(), strict=True):
            assert (ours.grad - theirs.grad).norm() < 0.02 * theirs.grad.norm()
