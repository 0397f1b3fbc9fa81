"""Comparisons of losses and heads with straightforward implementations, growing in size."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import ekd_loss, gkd_loss
from benchmarks.gpu.bench import Bench, measured


def ekd(bench: Bench) -> None:
    """EKD's loss and gradient next to the straightforward one, growing with the batch."""
    sizes = [32, 64] if bench.miniature else [512, 1024, 2048, 4096, 8192]
    for size in sizes:
        data = tuple(part.to(bench.device) for part in ekd_loss.batch(size, 512, 0))
        for case, loss in (("straightforward", ekd_loss.Plain()), ("facedistill", ekd_loss.Ours())):
            loss.to(bench.device)
            measured(bench, case, size, lambda loss=loss, data=data: ekd_loss.step(loss, data))


def gkd(bench: Bench) -> None:
    """GKD's loss and gradient next to the straightforward one, growing with the identities."""
    for size in [50, 100] if bench.miniature else [10_000, 31_600, 100_000, 316_000, 1_000_000]:
        images = 8 if bench.miniature else 512
        student, teacher, labels = (part.to(bench.device) for part in gkd_loss.logits(images, size))
        student.requires_grad_()
        for case, loss in (("straightforward", gkd_loss.straightforward), ("facedistill", gkd_loss.ours)):

            def work(loss: Any = loss, given: Any = (student, teacher, labels), size: int = size) -> None:
                torch.autograd.grad(loss(*given, size // 8), given[0])

            measured(bench, case, size, work)


def margin_softmax(bench: Bench) -> None:
    """ArcFace's loss and gradients next to the straightforward one, growing with the identities."""
    from facedistill.models.heads.arcface import ArcFaceHead

    for size in [50, 100] if bench.miniature else [10_000, 31_600, 100_000, 316_000, 1_000_000]:
        images, width = (8, 16) if bench.miniature else (512, 512)
        head = ArcFaceHead(num_identities=size, embedding_dim=width, beyond_pi="wrap").to(bench.device)
        embeddings = torch.randn(images, width, device=bench.device, requires_grad=True)
        labels = torch.randint(size, (images,), device=bench.device)
        ours = lambda head=head, e=embeddings, y=labels: head(e, y).mean()  # noqa: E731
        plain = lambda head=head, e=embeddings, y=labels: plain_arcface(head.weight, e, y)  # noqa: E731
        for case, loss in (("straightforward", plain), ("facedistill", ours)):
            wanted = (embeddings, head.weight)
            measured(bench, case, size, lambda loss=loss, wanted=wanted: torch.autograd.grad(loss(), wanted))


def plain_arcface(weight: Tensor, embeddings: Tensor, labels: Tensor) -> Tensor:
    """() ArcFace by its formula: angles of all centers, a one-hot margin, cross entropy."""
    cosines = F.normalize(embeddings) @ F.normalize(weight).T
    margin = 0.5 * F.one_hot(labels, len(weight))
    return F.cross_entropy(64 * (cosines.clamp(-1 + 1e-7, 1 - 1e-7).acos() + margin).cos(), labels)
