"""TinyFaR, the students of SynthDistill: a timm TinyNet and one linear layer."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

from facedistill.errors import ConfigError
from facedistill.models.backbones.any_timm import timm_network
from facedistill.models.backbones.base import Backbone

Variant = Literal["a", "b", "c"]


class TinyFaR(Backbone):
    """TinyNet-A, -B or -C without its classifier, then Linear(1280, D): no batch norm after it, no dropout.

    With D = 512 on 112 px: A 5.563 M params and 126.8 MMACs, B 3.105 M and 75.5, C 1.832 M and 38.2.

    >>> TinyFaR("c", embedding_dim=64).eval()(torch.zeros(2, 3, 112, 112)).shape
    torch.Size([2, 64])
    """

    def __init__(self, variant: Variant, embedding_dim: int = 512, pretrained: bool = False) -> None:
        """Builds the network.

        Args:
            variant: Which TinyNet: "a" (largest), "b" or "c".
            embedding_dim: D, width of the embedding.
            pretrained: Start from timm's ImageNet weights (SynthDistill's released code does), which timm
                downloads; the linear layer starts at random either way.

        Raises:
            ConfigError: If there is no such variant.
            AssetError: If the ImageNet weights cannot be downloaded.
        """
        super().__init__(variant=variant, embedding_dim=embedding_dim)
        if variant not in get_args(Variant):
            raise ConfigError(f"backbone.variant: TinyFaR has no variant {variant!r}; choose a, b or c")
        self.trunk = timm_network(f"tinynet_{variant}", pretrained, num_classes=0)
        self.linear = nn.Linear(1280, embedding_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) faces in [-1, 1] as (N, D) un-normalized embeddings."""
        return self.linear(self.trunk(images))
