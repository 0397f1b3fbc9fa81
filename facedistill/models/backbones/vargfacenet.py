"""VarGFaceNet (Yan et al., ICCV workshops 2019): variable group convolutions, eight channels to a group."""

from __future__ import annotations

from torch import Tensor, nn

from facedistill.models.backbones.base import Backbone
from facedistill.models.backbones.blocks import SqueezeExcite, conv_bn, conv_prelu, initialize_convolutions

GROUP = 8  # channels to a group
STAGES = ((80, 3), (160, 7), (320, 4))  # width (1.25 x 64, 128, 256), blocks
LAST = 1024


class VarGFaceNet(Backbone):
    """The released VarGFaceNet: stem of stride 1, so that 112 px end in a 7 x 7 map; embedding over 1024 channels.

    The released code normalizes by (x - 127.5) / 128 inside the network; here the faces are in [-1, 1].
    """

    def __init__(self, embedding_dim: int = 512) -> None:
        """Builds the network, weights drawn at random.

        Args:
            embedding_dim: D, width of the embedding.
        """
        super().__init__(embedding_dim=embedding_dim)
        width = 40
        blocks: list[nn.Module] = [
            conv_prelu(3, width, 3),
            Block(width, width, stride=2, factor=1),
        ]
        for stage_width, num_blocks in STAGES:
            blocks.append(MergeBlock(width, stage_width))
            blocks += [Block(stage_width, stage_width) for _ in range(num_blocks - 1)]
            width = stage_width
        self.trunk = nn.Sequential(*blocks, conv_prelu(width, LAST))
        self.head = nn.Sequential(
            nn.Conv2d(LAST, LAST, 7, groups=LAST // GROUP, bias=False),
            nn.BatchNorm2d(LAST),
            conv_prelu(LAST, LAST // 2),
            nn.Flatten(),
            nn.Linear(LAST // 2, embedding_dim),
            nn.BatchNorm1d(embedding_dim),
        )
        initialize_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) faces in [-1, 1] as (N, D) un-normalized embeddings."""
        return self.head(self.trunk(images))


class Block(nn.Module):
    """Two separable convolutions and squeeze and excite; adds the input, mapped where its size changes."""

    def __init__(self, in_width: int, out_width: int, stride: int = 1, factor: int = 2) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            separable(in_width, out_width, stride, factor, nn.PReLU(out_width)),
            separable(out_width, out_width, 1, factor),
            SqueezeExcite(out_width, out_width // 4, nn.PReLU(out_width // 4), nn.Sigmoid()),
        )
        self.shortcut = separable(in_width, out_width, stride, factor) if stride > 1 else nn.Identity()
        self.activation = nn.PReLU(out_width)

    def forward(self, maps: Tensor) -> Tensor:
        return self.activation(self.layers(maps) + self.shortcut(maps))


class MergeBlock(nn.Module):
    """Halves the map: two strided branches are added, mapped once more, and added to a strided shortcut."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.left = separable(in_width, out_width, 2)
        self.right = separable(in_width, out_width, 2)
        self.merged = nn.Sequential(nn.PReLU(out_width), separable(out_width, out_width, 1))
        self.shortcut = separable(in_width, out_width, 2)
        self.activation = nn.PReLU(out_width)

    def forward(self, maps: Tensor) -> Tensor:
        return self.activation(self.merged(self.left(maps) + self.right(maps)) + self.shortcut(maps))


def separable(
    in_width: int, out_width: int, stride: int, factor: int = 2, activation: nn.Module | None = None
) -> nn.Sequential:
    """Grouped 3x3 convolution to `factor` times the width with PReLU, then 1x1 to the output."""
    inner = in_width * factor
    return nn.Sequential(
        conv_prelu(in_width, inner, 3, stride, in_width // GROUP),
        conv_bn(inner, out_width, activation=activation),
    )
