"""Whether an optimizer can train a student: tried on two small tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from facedistill.config.trust import find_class
from facedistill.errors import reason

_OF_THE_DEVICE = ("fused", "capturable")  # may be for a GPU only


def optimizer_problems(node: Mapping[str, Any]) -> list[str]:
    """A sentence if the optimizer of a checked `optimizer` node refuses its arguments, dense gradients or convolutions, or
    computes the loss more than once a step. Classes of other packages are not tried; they may need a GPU.
    """
    path = str(node.get("_target_"))
    if not path.startswith(("torch.optim.", "facedistill.")):
        return []
    arguments = {k: v for k, v in node.items() if not k.startswith("_") and k not in _OF_THE_DEVICE}
    weights = [torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 2, 3, 3), (2,))]
    calls = 0

    def closure() -> torch.Tensor:
        nonlocal calls
        calls += 1
        loss = torch.stack([weight.square().sum() for weight in weights]).sum()
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.grad = gradient
        return loss

    try:
        find_class(path)(weights, **arguments).step(closure=closure)
    except Exception as error:  # each class has errors of its own
        problem = f"cannot train a student ({reason(error).rstrip('.')})"
    else:
        if calls == 1:
            return []
        problem = f"computes the loss {calls} times a step, and a step here computes it once"
    return [
        f"optimizer._target_={path}: {problem}; use optimizer=adamw, sgd or muon, or change its arguments"
    ]
