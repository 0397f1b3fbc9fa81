"""MixFaceNet (Boutros et al., IJCB 2021): MixNet, whose depthwise convolutions mix kernel sizes, for faces."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from facedistill.errors import ConfigError
from facedistill.models.backbones.base import Backbone
from facedistill.models.backbones.blocks import SqueezeExcite, conv_prelu, rounded_width

Size = Literal["xs", "s", "m"]


class Unit(NamedTuple):
    """One unit of MixNet, at width 1.

    Attributes:
        width: After the unit.
        expansion: Factor of the width inside.
        expand: Parts of the 1x1 convolution that expands.
        kernels: Parts of the depthwise convolution, of kernels 3, 5, 7, ...
        project: Parts of the 1x1 convolution that projects.
        squeeze: The squeeze and excite has 1 / squeeze of the unit's input width; 0 has none.
        stride: Of the depthwise convolution.
    """

    width: int
    expansion: int
    expand: int
    kernels: int
    project: int
    squeeze: int
    stride: int = 1


SMALL = (
    Unit(24, 6, 2, 1, 2, 0),
    Unit(24, 3, 2, 1, 2, 0),
    Unit(40, 6, 1, 3, 1, 2, 2),
    *(Unit(40, 6, 2, 2, 2, 2),) * 3,
    Unit(80, 6, 1, 3, 2, 4, 2),
    *(Unit(80, 6, 1, 2, 2, 4),) * 2,
    Unit(120, 6, 2, 3, 2, 2),
    *(Unit(120, 3, 2, 4, 2, 2),) * 2,
    Unit(200, 6, 1, 5, 1, 2, 2),
    *(Unit(200, 6, 1, 4, 2, 2),) * 2,
)
MEDIUM = (
    Unit(32, 6, 2, 3, 2, 0),
    Unit(32, 3, 2, 1, 2, 0),
    Unit(40, 6, 1, 4, 1, 2, 2),
    *(Unit(40, 6, 2, 2, 2, 2),) * 3,
    Unit(80, 6, 1, 3, 1, 4, 2),
    *(Unit(80, 6, 2, 4, 2, 4),) * 3,
    Unit(120, 6, 1, 1, 1, 2),
    *(Unit(120, 3, 2, 4, 2, 2),) * 3,
    Unit(200, 6, 1, 4, 1, 2, 2),
    *(Unit(200, 6, 1, 4, 2, 2),) * 3,
)
NUM_PRELU = 2  # units, after the stem, with PReLU; the others have Swish


class Layout(NamedTuple):
    """A published size: its units, the stem's width, the factor of both, the width before the embedding."""

    units: tuple[Unit, ...]
    stem: int
    factor: float
    last: int


LAYOUTS: dict[str, Layout] = {
    "xs": Layout(SMALL, 16, 0.5, 512),
    "s": Layout(SMALL, 16, 1.0, 1024),
    "m": Layout(MEDIUM, 24, 1.0, 1024),
}


class MixFaceNet(Backbone):
    """MixFaceNet-XS, -S and -M; with `shuffle` ShuffleMixFaceNet, equal in params and macs.

    Stem of stride 2 and no stride in the first stage, so that 112 px end in a 7 x 7 map. The released code freezes
    the scale of the last batch norm at 1; here it learns, since raw embedding losses need the teacher's scale.
    """

    def __init__(self, size: Size, embedding_dim: int = 512, shuffle: bool = False) -> None:
        """Builds the network, weights drawn at random.

        Args:
            size: "xs", "s" or "m".
            embedding_dim: D, width of the embedding.
            shuffle: Shuffle the channels of two halves after each unit.

        Raises:
            ConfigError: If there is no such size.
        """
        super().__init__(size=size, embedding_dim=embedding_dim, shuffle=shuffle)
        if size not in get_args(Size):
            raise ConfigError(f"backbone.size: MixFaceNet has no size {size!r}; choose xs, s or m")
        units, stem, factor, last = LAYOUTS[size]
        before = rounded_width(stem * factor, 8)
        layers: list[nn.Module] = [
            conv_prelu(3, before, 3, 2),
            MixUnit(before, Unit(before, 1, 1, 1, 1, 0), "prelu", shuffle),
        ]
        for number, unit in enumerate(units):
            unit = unit._replace(width=rounded_width(unit.width * factor, 8))
            layers.append(MixUnit(before, unit, "prelu" if number < NUM_PRELU else "swish", shuffle))
            before = unit.width
        self.trunk = nn.Sequential(*layers, conv_prelu(before, last))
        self.head = nn.Sequential(
            nn.Conv2d(last, last, 7, groups=last, bias=False),
            nn.BatchNorm2d(last),
            nn.Conv2d(last, embedding_dim, 1, bias=False),
            nn.Flatten(),
            nn.BatchNorm1d(embedding_dim),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) faces in [-1, 1] as (N, D) un-normalized embeddings."""
        return self.head(self.trunk(images))


class MixUnit(nn.Module):
    """Expand, mixed depthwise convolution, squeeze and excite, project; adds an input of the same size."""

    def __init__(
        self, in_width: int, unit: Unit, activation: Literal["prelu", "swish"], shuffle: bool
    ) -> None:
        super().__init__()
        inner = in_width * unit.expansion

        def act(width: int) -> nn.Module:
            return nn.PReLU(width) if activation == "prelu" else nn.SiLU()

        layers: list[nn.Module] = []
        if unit.expansion > 1:
            layers += [MixConv(in_width, inner, (1,) * unit.expand), nn.BatchNorm2d(inner), act(inner)]
        kernels = tuple(3 + 2 * part for part in range(unit.kernels))
        layers += [
            MixConv(inner, inner, kernels, unit.stride, depthwise=True),
            nn.BatchNorm2d(inner),
            act(inner),
        ]
        if unit.squeeze:
            narrow = inner // (unit.expansion * unit.squeeze)
            layers.append(SqueezeExcite(inner, narrow, act(narrow), nn.Sigmoid()))
        layers += [MixConv(inner, unit.width, (1,) * unit.project), nn.BatchNorm2d(unit.width)]
        self.layers = nn.Sequential(*layers)
        self.adds_input = in_width == unit.width and unit.stride == 1
        self.shuffle = nn.ChannelShuffle(unit.width // 2) if shuffle else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        return self.shuffle(maps + self.layers(maps) if self.adds_input else self.layers(maps))


class MixConv(nn.Module):
    """One convolution per part of the channels, each with its own kernel; the first part takes the remainder."""

    def __init__(
        self,
        in_width: int,
        out_width: int,
        kernels: tuple[int, ...],
        stride: int = 1,
        depthwise: bool = False,
    ) -> None:
        super().__init__()
        self.in_widths = _shares(in_width, len(kernels))
        self.parts = nn.ModuleList(
            nn.Conv2d(wide, out, kernel, stride, kernel // 2, groups=wide if depthwise else 1, bias=False)
            for wide, out, kernel in zip(
                self.in_widths, _shares(out_width, len(kernels)), kernels, strict=True
            )
        )

    def forward(self, maps: Tensor) -> Tensor:
        shares = maps.split(self.in_widths, dim=1)
        return torch.cat([part(share) for part, share in zip(self.parts, shares, strict=True)], dim=1)


def _shares(width: int, number: int) -> list[int]:
    """`number` widths that add up to `width`, equal but for the first."""
    share = width // number
    return [width - share * (number - 1), *[share] * (number - 1)]
