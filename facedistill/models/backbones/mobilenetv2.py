"""MobileNetV2, optionally from ImageNet weights."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from facedistill.assets import obtain
from facedistill.errors import AssetError
from facedistill.models.backbones.base import Backbone
from facedistill.models.weights import load_strictly


class MobileNetV2(Backbone):
    """torchvision's MobileNetV2 (width 1.0) without its classifier, then Linear(1280, D).

    SynthDistill's students start from ImageNet weights; this network's ImageNet weights are
    available from a package index, which makes it the student for short runs. 2.880 M params, 81.6 MMACs at D = 512.
    """

    def __init__(self, embedding_dim: int = 512, asset: str | None = None) -> None:
        """Builds the network.

        Args:
            embedding_dim: D, width of the embedding.
            asset: Card of the trunk's initial weights; None starts at random. The linear layer always does.

        Raises:
            AssetError: If the weights are unavailable or not this network's.
        """
        super().__init__(embedding_dim=embedding_dim)
        self.trunk = mobilenet_v2().features
        self.linear = nn.Linear(1280, embedding_dim)
        if asset is not None:
            load_strictly(self.trunk, obtain(asset))

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) faces in [-1, 1] as (N, D) un-normalized embeddings."""
        return self.linear(self.trunk(images).mean((2, 3)))


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """Reads torchvision's published state dict, tensors only, and drops the ImageNet classifier.

    Raises:
        AssetError: If the file is not that state dict.
    """
    (path,) = members.values()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
    except (pickle.UnpicklingError, RuntimeError, AttributeError, EOFError) as error:
        raise AssetError(
            f"{path.name} is not torchvision's MobileNetV2 state dict; download it again"
        ) from error
