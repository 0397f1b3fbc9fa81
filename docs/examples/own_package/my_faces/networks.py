"""A student, a teacher and a converter that know nothing of facedistill."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn


class Thin(nn.Module):
    """Two strided convolutions, the mean over the positions, and a linear layer.

    Args:
        channels: Of the first convolution; the second has twice as many.
        width: Dimensions of the embedding.
    """

    def __init__(self, channels: int = 8, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, channels, 3, stride=4, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=4, padding=1),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * channels, width),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) faces in [-1, 1] as (N, width)."""
        return self.layers(images)


class Wide(Thin):
    """The teacher."""

    def __init__(self) -> None:
        super().__init__(channels=16)


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """The tensors of a checkpoint {"network": state dict} by the names of `Wide`."""
    (path,) = members.values()
    return torch.load(path, map_location="cpu", weights_only=True)["network"]
