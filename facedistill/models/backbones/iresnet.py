"""insightface's IResNet (arcface_torch), in the key layout of its published `backbone.pth`."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from facedistill.errors import ConfigError
from facedistill.models.backbones.base import Backbone

Layers = Literal[18, 34, 50, 100, 200]
BLOCKS: dict[Layers, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    200: (6, 26, 60, 6),
}
"""Residual blocks of the four stages, by the network's number."""
WIDTHS = (64, 128, 256, 512)


class IResNet(Backbone):
    """IResNet-18/34/50/100/200: conv1 bn1 prelu, layer1..4, bn2, fc, features, as in the checkpoints.

    Used by teachers and students. Each stage halves the map: 112, 56, 28, 14, 7; then (N, 512, 7, 7) →
    Linear → BatchNorm1d. Differs from the released code in two ways: there is no dropout before `fc` (the
    released recipes set it to 0), and the scale of `features`, frozen at 1 as released, is trained, since losses on
    raw embeddings need the teacher's scale.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, layers: Layers, embedding_dim: int = 512, epsilon: float = 1e-5) -> None:
        """Builds the network; convolutions are drawn from N(0, 0.1²), as released.

        Args:
            layers: 18, 34, 50, 100 or 200.
            embedding_dim: D.
            epsilon: Of every batch norm: 1e-5 in arcface_torch, 2e-5 in MagFace and in MXNet conversions (nizhib).

        Raises:
            ConfigError: If there is no such network.
        """
        super().__init__(layers=layers, embedding_dim=embedding_dim, epsilon=epsilon)
        if layers not in BLOCKS:
            raise ConfigError(
                f"backbone.layers: IResNet has no size {layers!r}; choose one of {', '.join(map(str, BLOCKS))}"
            )
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64, epsilon)
        self.prelu = nn.PReLU(64)
        in_width = 64
        for number, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS[layers], strict=True), start=1):
            stage = [_Block(in_width, width, 2, epsilon)]
            stage += [_Block(width, width, 1, epsilon) for _ in range(blocks - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*stage))
            in_width = width
        self.bn2 = nn.BatchNorm2d(512, epsilon)
        self.fc = nn.Linear(512 * 7 * 7, embedding_dim)
        self.features = nn.BatchNorm1d(embedding_dim, epsilon)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.1)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) faces in [-1, 1] as (N, D) un-normalized embeddings."""
        maps = self.prelu(self.bn1(self.conv1(images)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            maps = stage(maps)
        return self.features(self.fc(self.bn2(maps).flatten(1)))


class _Block(nn.Module):
    """bn1 conv1 bn2 prelu conv2 bn3, plus the input; the stride is the second convolution's."""

    def __init__(self, in_width: int, width: int, stride: int, epsilon: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_width, epsilon)
        self.conv1 = nn.Conv2d(in_width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width, epsilon)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width, epsilon)
        self.downsample = (
            nn.Sequential(nn.Conv2d(in_width, width, 1, stride, bias=False), nn.BatchNorm2d(width, epsilon))
            if stride != 1
            else None
        )

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(maps)))))
        return self.bn3(inner) + (maps if self.downsample is None else self.downsample(maps))
