"""Muon (Jordan et al., 2024): the update of each of the student's matrices is made orthogonal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from facedistill.system.devices import cpu_has_bfloat16

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan's quintic
_ITERATIONS = 5


class Muon(Optimizer):
    """Momentum whose update is made orthogonal for matrices; AdamW for all other parameters.

    A matrix W (m, n) moves by -lr · 0.2 · sqrt(max(m, n)) · U Vᵀ, where U S Vᵀ is the momentum's singular value
    decomposition, found up to the size of its singular values (0.7 to 1.2) by five Newton-Schulz iterations. The factor gives
    the update the size of AdamW's (Liu et al., "Muon is scalable for LLM training", 2025, equation 4), so both share `lr` and
    `weight_decay`. Runs of 16,000 to 200,000 images reached AdamW's cosine with half to two thirds of its images
    (`benchmarks/results/optimizers.md`).

    `timm.optim.Muon` differs in its coefficients and always iterates in bfloat16, which takes seconds a step on a CPU without
    such instructions; here they run in float32 there.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate of both.
        weight_decay: Decoupled weight decay of both, >= 0.
        momentum: Of the matrices, in [0, 1); Nesterov's.
        betas: AdamW's, in [0, 1).
        eps: AdamW's, > 0.
        matrices: Those of `params` whose update is made orthogonal; None takes all of `matrices_of`.

    >>> layer = torch.nn.Linear(8, 4)
    >>> optimizer = Muon(layer.parameters(), lr=0.1, weight_decay=0.0, momentum=0.0)
    >>> before = layer.weight.detach().clone()
    >>> layer(torch.randn(16, 8)).square().sum().backward()
    >>> optimizer.step()
    >>> singular = torch.linalg.svdvals(before - layer.weight.detach()) / (0.1 * 0.2 * 8**0.5)
    >>> bool((singular > 0.5).all() and (singular < 1.3).all())
    True
    """

    whole_matrices = True
    """It cannot update parts of matrices, as FSDP has them."""

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 2e-3,
        weight_decay: float = 0.05,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        matrices: Iterable[nn.Parameter] | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "betas": tuple(betas),
            "eps": eps,
        }
        super().__init__(params, defaults)
        if matrices is None:
            matrices = matrices_of(p for group in self.param_groups for p in group["params"])
        self._matrices = {id(p) for p in matrices}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates all parameters that have a gradient; returns what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            self._move_matrices([p for p in moved if id(p) in self._matrices], group)
            self._move_others([p for p in moved if id(p) not in self._matrices], group)
        return loss

    def _move_matrices(self, matrices: list[nn.Parameter], group: dict[str, Any]) -> None:
        if not matrices:
            return
        for matrix in matrices:
            if "momentum" not in self.state[matrix]:
                self.state[matrix]["momentum"] = torch.zeros_like(matrix)
        gradients = [p.grad for p in matrices if p.grad is not None]
        momenta = [self.state[p]["momentum"] for p in matrices]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        directions = torch._foreach_lerp(gradients, momenta, group["momentum"])
        torch._foreach_mul_(list[Tensor](matrices), 1 - group["lr"] * group["weight_decay"])
        for indices in _of_equal_shape(matrices).values():
            updates = orthogonal(torch.stack([_wide(directions[i]) for i in indices]))
            updates *= -group["lr"] * 0.2 * updates.shape[-1] ** 0.5
            for i, update in zip(indices, updates, strict=True):
                rows = update.T if len(update) != len(matrices[i]) else update
                matrices[i].add_(rows.reshape(matrices[i].shape))

    def _move_others(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if "step" not in self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,  # type: ignore[arg-type]
            [p.grad for p in parameters if p.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def matrices_of(parameters: Iterable[nn.Parameter]) -> Iterator[nn.Parameter]:
    """Linear layers and convolutions, but depthwise ones: (out, in, ...) with out and in above 1."""
    return (p for p in parameters if p.dim() >= 2 and min(p.shape[:2]) > 1)


def _wide(matrix: Tensor) -> Tensor:
    """A layer's weight as (m, n), n >= m."""
    flat = matrix.flatten(1)
    return flat.T if len(flat) > flat.shape[1] else flat


def _of_equal_shape(matrices: list[nn.Parameter]) -> dict[tuple[int, ...], list[int]]:
    """Indices of the matrices of each shape; one shape is orthogonalized at once, with fewer launches on a GPU."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, matrix in enumerate(matrices):
        groups.setdefault(tuple(_wide(matrix).shape), []).append(index)
    return groups


def orthogonal(matrices: Tensor) -> Tensor:
    """U Vᵀ of each U S Vᵀ of `matrices` (k, m, n), n >= m, with singular values in about [0.7, 1.2]; of the same dtype."""
    half = matrices.is_cuda or cpu_has_bfloat16()
    x = matrices.to(torch.bfloat16 if half else torch.float32)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    a, b, c = _NEWTON_SCHULZ
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.to(matrices.dtype)
