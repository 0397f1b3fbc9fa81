"""MobileFaceNet, in the two sizes published under this name."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

from facedistill.errors import ConfigError
from facedistill.models.backbones.base import Backbone
from facedistill.models.backbones.blocks import conv_prelu, initialize_convolutions
from facedistill.models.backbones.embedding import embedding_layers

Variant = Literal["tface", "insightface"]
SCALE = {"tface": 1, "insightface": 2}
# Stages after the stem: (output width at scale 1, width inside the entry block, residual blocks after it,
# width inside those). Inner widths do not grow with the scale.
STAGES = ((64, 128, 4, 128), (128, 256, 6, 256), (128, 512, 2, 256))


class MobileFaceNet(Backbone):
    """Inverted residuals with PReLU, then a global depthwise convolution (GDC).

    "tface" is TFace's and AdaDistill's (1.199 M params, 221 MMACs at 512-D); "insightface" is insightface's
    `mbf` (2.060 M, 438 MMACs), whose stage widths are doubled while the widths inside the blocks stay.
    """

    def __init__(self, variant: Variant = "tface", embedding_dim: int = 512) -> None:
        """Builds the network, weights drawn at random.

        Args:
            variant: "tface", or "insightface" for the wider one.
            embedding_dim: D, width of the embedding.

        Raises:
            ConfigError: If there is no such variant.
        """
        super().__init__(variant=variant, embedding_dim=embedding_dim)
        if variant not in get_args(Variant):
            raise ConfigError(
                f"backbone.variant: MobileFaceNet has no variant {variant!r}; choose tface or insightface"
            )
        scale = SCALE[variant]
        stem = 64 * scale
        blocks: list[nn.Module] = [conv_prelu(3, stem, 3, stride=2), conv_prelu(stem, stem, 3, groups=64)]
        width = stem
        for stage_width, entry_width, num_residual, inner_width in STAGES:
            blocks.append(Bottleneck(width, entry_width, stage_width * scale, stride=2))
            width = stage_width * scale
            blocks += [Bottleneck(width, inner_width, width) for _ in range(num_residual)]
        self.trunk = nn.Sequential(*blocks, conv_prelu(width, 512, 1))
        self.head = embedding_layers("gdc", 512, 7, embedding_dim)
        if variant == "tface":
            self.head[-1] = nn.BatchNorm1d(embedding_dim, affine=False)
        initialize_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) faces in [-1, 1] as (N, D) un-normalized embeddings."""
        return self.head(self.trunk(images))


class Bottleneck(nn.Module):
    """1x1 to the inner width, 3x3 depthwise, linear 1x1 to the output; adds the input at stride 1."""

    def __init__(self, in_width: int, inner_width: int, out_width: int, stride: int = 1) -> None:
        super().__init__()
        self.adds_input = stride == 1
        self.layers = nn.Sequential(
            conv_prelu(in_width, inner_width, 1),
            conv_prelu(inner_width, inner_width, 3, stride=stride, groups=inner_width),
            nn.Conv2d(inner_width, out_width, 1, bias=False),
            nn.BatchNorm2d(out_width),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.layers(maps) if self.adds_input else self.layers(maps)
