"""Methods on networks of a few hundred parameters, alone and in two processes."""

from __future__ import annotations

import copy
import functools
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.models.heads.base import MarginHead
from facedistill.types import FaceBatch, InputSpec
from tests.distributed.processes import in_processes

NUM_IMAGES, IDENTITIES, D = 20, 5, 6


class SmallHead(MarginHead):
    """Logits of scale 4 with 0.1 taken from the cosine of an image's own identity."""

    def __init__(self) -> None:
        super().__init__(num_identities=IDENTITIES, embedding_dim=D, scale=4.0)

    def with_margin(self, cosines: Tensor, labels: Tensor, embeddings: Tensor) -> Tensor:
        return cosines - 0.1 * F.one_hot(labels, cosines.shape[1])


class SmallStudent(nn.Module):
    """Two convolutions and a linear layer, no batch norm; its last 4 x 4 map is that of `second`."""

    embedding_dim = D
    input_spec = InputSpec(size_px=8)

    def __init__(self, width: int = 4, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first = nn.Conv2d(3, width, 3, stride=2, padding=1)
            self.second = nn.Sequential(nn.Conv2d(width, width + 1, 3, padding=1), nn.Softplus())
            self.pool = nn.AdaptiveAvgPool2d(2)
            self.last = nn.Linear((width + 1) * 4, D)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.pool(self.second(self.first(images))).flatten(1))


class SmallTeacher(nn.Module):
    """What `FrozenTeacher` offers, around a network of another width."""

    embedding_dim = D
    input_spec = InputSpec(size_px=8)
    precision = "fp32"
    network: nn.Module

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "network", SmallStudent(width=6, seed=9).eval().requires_grad_(False))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.float())


def small(method: type, **arguments):
    """A method in train mode on small parts, the same whenever and wherever it is made."""
    arguments = copy.deepcopy(arguments)  # a peer or a loss with parameters is not shared between methods
    parts = {"student": SmallStudent(), "teacher": SmallTeacher()}
    with torch.random.fork_rng():
        torch.manual_seed(4)
        if "head" in arguments and arguments["head"] is True:
            arguments["head"] = SmallHead()
        optimizer = functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-2)
        return method(**parts, optimizer=optimizer, **arguments).train()


def faces(images: int = 8, seed: int = 0) -> FaceBatch:
    """Faces of 8 x 8, with labels and indices, one index twice."""
    seeded = torch.Generator().manual_seed(seed)
    indices = torch.randperm(NUM_IMAGES, generator=seeded)[:images]
    indices[-1] = indices[0]
    labels = torch.randint(0, IDENTITIES, (images,), generator=seeded)
    return FaceBatch(images=torch.randn(images, 3, 8, 8, generator=seeded), labels=labels, indices=indices)


def share(batch: FaceBatch, rank: int, world_size: int) -> FaceBatch:
    """What one process of several gets of a global batch: every `world_size`-th image, as `StoredFaces` deals them."""
    own = slice(rank, None, world_size)
    return FaceBatch(images=batch.images[own], labels=batch.labels[own], indices=batch.indices[own])


def two_steps(rank: int, world_size: int, method: type, arguments: dict):
    """Losses, gradients and buffers of two steps on this process's share, gradients averaged as DDP does."""
    instance = small(method, **arguments)
    losses = []
    for number in range(2):
        output = instance.distill(share(faces(seed=number), rank, world_size))
        output.loss.backward()
        losses.append({"loss": output.loss.item(), **{k: v.item() for k, v in output.terms.items()}})
        instance.images_seen += 8
    gradients = {n: p.grad for n, p in instance.named_parameters() if p.grad is not None}
    if world_size > 1:
        for gradient in gradients.values():
            torch.distributed.all_reduce(gradient)
            gradient /= world_size
    return losses, gradients, dict(instance.named_buffers())


def _shares_of_two(rank: int, cases: list):
    return [two_steps(rank, 2, method, arguments) for method, arguments in cases]


def assert_two_processes_are_one(cases: list[tuple[type, dict]]) -> None:
    """Same terms, same averaged gradients, same buffers on the same global batches, for each (method, arguments)."""
    alone = [two_steps(0, 1, method, arguments) for method, arguments in cases]
    for answers in in_processes(_shares_of_two, cases):
        for (method, _), one, other in zip(cases, alone, answers, strict=True):
            _assert_same(method.__name__, one, other)


def _assert_same(case: str, one, other) -> None:
    for ours, theirs in zip(one[0], other[0], strict=True):
        assert ours.keys() == theirs.keys(), case
        for name in ours:
            assert abs(ours[name] - theirs[name]) < 1e-5 * max(1, abs(ours[name])), (case, name)
    assert one[1].keys() == other[1].keys(), case
    for name, gradient in one[1].items():
        bound = 1e-5 * max(1.0, float(gradient.abs().max()))
        assert torch.allclose(gradient, other[1][name], atol=bound, rtol=1e-4), (case, name)
    for name, buffer in one[2].items():
        assert torch.allclose(buffer, other[2][name], atol=1e-6), (case, name)


def at_progress(method, fraction: float):
    """Pretends that this fraction of the budget is done."""
    method._trainer = SimpleNamespace(datamodule=SimpleNamespace(num_steps=1, batch_size=1000))
    method.images_seen = int(1000 * fraction)
    return method


def overfit(method, steps: int, batch: FaceBatch, lr: float = 1e-2) -> tuple[float, float]:
    """First and last loss of training on one batch."""
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=lr)
    losses = []
    for _ in range(steps):
        loss = method.distill(batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]
