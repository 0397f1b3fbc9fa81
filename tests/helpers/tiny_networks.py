"""Small networks in place of a generator, a teacher and a student: a training run takes milliseconds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facedistill.models.heads.base import MarginHead


class TinyGenerator(nn.Module):
    """A frozen linear map from latents to 3 x 112 x 112 faces, with a real generator's interface."""

    latent_dim = 8

    def __init__(self) -> None:
        super().__init__()
        seeded = torch.Generator().manual_seed(0)
        self.register_buffer("cholesky_w", torch.randn(8, 8, generator=seeded).tril() / 3)
        self.register_buffer("mean_w", torch.zeros(8))
        self.register_buffer("to_image", torch.randn(8, 3 * 16, generator=seeded) / 3)

    def map(self, z: Tensor) -> Tensor:
        return 0.5 * z

    def render(self, w: Tensor) -> Tensor:
        coarse = (w @ self.to_image).view(-1, 3, 4, 4)
        return nn.functional.interpolate(coarse, size=112, mode="nearest").clamp(-1, 1)


class TinyBackbone(nn.Module):
    """Pools to 4 x 4, one hidden layer with batch norm, D = 6."""

    embedding_dim = 6

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(48, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Linear(16, 6),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class TinyTeacher(nn.Module):
    """Frozen, always in eval mode, without state of its own, as `FrozenTeacher` promises."""

    embedding_dim = 6

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(48, 6, generator=torch.Generator().manual_seed(1)) / 3
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images, 4).flatten(1) @ self.weight


class PlainStudent(nn.Module):
    """One linear layer without batch norm, so that two processes can equal one exactly."""

    def __init__(self, embedding_dim: int = 6) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, embedding_dim))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class PlainHead(MarginHead):
    """Softmax over cosines, without a margin."""

    def with_margin(self, cosines: Tensor, labels: Tensor, embeddings: Tensor) -> Tensor:
        return cosines
