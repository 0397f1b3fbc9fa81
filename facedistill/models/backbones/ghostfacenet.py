"""GhostFaceNetV1 (Alansari et al., IEEE Access 2023): GhostNet with PReLU and a global depthwise convolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facedistill.errors import ConfigError
from facedistill.models.backbones.base import Backbone
from facedistill.models.backbones.blocks import (
    SqueezeExcite,
    conv_bn,
    conv_prelu,
    initialize_convolutions,
    rounded_width,
)
from facedistill.models.backbones.embedding import Head, embedding_layers

# GhostNet's bottlenecks: kernel of the depthwise convolutions, inner width, output width, squeeze and excite, stride.
BOTTLENECKS = (
    (3, 16, 16, False, 1),
    (3, 48, 24, False, 2),
    (3, 72, 24, False, 1),
    (5, 72, 40, True, 2),
    (5, 120, 40, True, 1),
    (3, 240, 80, False, 2),
    (3, 200, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 480, 112, True, 1),
    (3, 672, 112, True, 1),
    (5, 672, 160, True, 2),
    (5, 960, 160, False, 1),
    (5, 960, 160, True, 1),
    (5, 960, 160, False, 1),
    (5, 512, 160, True, 1),  # GhostNet has 960 here; the released code 512
)


class GhostFaceNet(Backbone):
    """GhostFaceNetV1-W-S: width factor W, stride S of the stem; the published ones are 1.3-1 and 1.3-2.

    With stride 1 faces of 112 px end in a 7 x 7 map, with stride 2 in 4 x 4. Padding is symmetric, where
    TensorFlow's "same" pads strided convolutions on the right and below; hard sigmoid is relu6(x + 3) / 6 as in
    GhostNet, where Keras has a slope of 1/5. Neither changes params or macs.
    """

    def __init__(
        self, width: float = 1.3, first_stride: int = 1, embedding_dim: int = 512, head: Head = "gdc"
    ) -> None:
        """Builds the network, weights drawn at random.

        Args:
            width: W > 0, factor of all widths.
            first_stride: S, 1 or 2.
            embedding_dim: D, width of the embedding.
            head: From the last map to the embedding; "gdc" is the published one.

        Raises:
            ConfigError: If an argument has no such value.
        """
        super().__init__(width=width, first_stride=first_stride, embedding_dim=embedding_dim, head=head)
        if width <= 0:
            raise ConfigError(f"backbone.width={width}: must be > 0; 1.3 is the published one")
        if first_stride not in (1, 2):
            raise ConfigError(f"backbone.first_stride={first_stride}: GhostFaceNet has stride 1 or 2")
        before = rounded_width(16 * width, 4)
        blocks: list[nn.Module] = [conv_prelu(3, before, 3, first_stride)]
        for kernel, inner, after, squeezes, stride in BOTTLENECKS:
            inner, after = rounded_width(inner * width, 4), rounded_width(after * width, 4)
            blocks.append(GhostBottleneck(before, inner, after, kernel, stride, squeezes))
            before = after
        last = rounded_width(512 * width, 4)
        self.trunk = nn.Sequential(*blocks, conv_prelu(before, last))
        self.head = embedding_layers(head, last, 7 if first_stride == 1 else 4, embedding_dim)
        initialize_convolutions(self.trunk)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) faces in [-1, 1] as (N, D) un-normalized embeddings."""
        return self.head(self.trunk(images))


class GhostModule(nn.Module):
    """Half of the output by a 1x1 convolution, the other half by a depthwise 3x3 on the first."""

    def __init__(self, in_width: int, out_width: int, activated: bool) -> None:
        super().__init__()
        half = out_width // 2
        conv = conv_prelu if activated else conv_bn
        self.primary = conv(in_width, half)
        self.cheap = conv(half, half, 3, groups=half)

    def forward(self, maps: Tensor) -> Tensor:
        primary = self.primary(maps)
        return torch.cat([primary, self.cheap(primary)], dim=1)


class GhostBottleneck(nn.Module):
    """Two ghost modules, between them the stride and the squeeze and excite; adds the input, mapped if its size changes."""

    def __init__(
        self, in_width: int, inner_width: int, out_width: int, kernel: int, stride: int, squeezes: bool
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [GhostModule(in_width, inner_width, activated=True)]
        if stride > 1:
            layers.append(conv_bn(inner_width, inner_width, kernel, stride, groups=inner_width))
        if squeezes:
            narrow = rounded_width(inner_width / 4, 4)
            layers.append(SqueezeExcite(inner_width, narrow, nn.PReLU(narrow), nn.Hardsigmoid()))
        self.layers = nn.Sequential(*layers, GhostModule(inner_width, out_width, activated=False))
        self.shortcut = (
            nn.Identity()
            if in_width == out_width and stride == 1
            else nn.Sequential(
                conv_bn(in_width, in_width, kernel, stride, groups=in_width), conv_bn(in_width, out_width)
            )
        )

    def forward(self, maps: Tensor) -> Tensor:
        return self.layers(maps) + self.shortcut(maps)
