"""MobileNetV2 with ImageNet weights that come as data, so that a student need not start from nothing."""

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
from facedistill.types import InputSpec


class MobileNetV2(Backbone):
    """torchvision's MobileNetV2 (width 1.0) without its classifier, then Linear(1280, D).

    SynthDistill's students start from ImageNet weights; this is the one network whose ImageNet weights are to be
    had from a package index, so it is the student of choice for short runs. 2.880 M params, 81.6 MMACs at D = 512.
    """

    def __init__(self, embedding_dim: int = 512, asset: str | None = None) -> None:
        """Builds the network.

        Args:
            embedding_dim: D, width of the embedding.
            asset: Card of the trunk's initial weights; None starts at random. The linear layer always does.

        Raises:
            AssetError: If the weights cannot be had or are not this network's.
        """
        super().__init__()
        self.embedding_dim = embedding_dim
        self.input_spec = InputSpec()
        self.arguments = {"embedding_dim": embedding_dim}
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
            f"{path.name} is not torchvision's MobileNetV2 state dict; obtain it again"
        ) from error
