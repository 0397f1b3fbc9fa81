"""FaceLiVTv2 (Setyawan et al., "FaceLiVTv2: An Improved Hybrid Architecture for Efficient Mobile Face Recognition", 2026).

After the released description of widths, depths and layers. The weights are not public, so only the sizes are compared.
The released size "l" is left out: its published params are not those of its published widths (8.52 and 8.85 M).
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from facedistill.errors import ConfigError
from facedistill.models.backbones.base import Backbone
from facedistill.models.backbones.blocks import conv_bn

Size = Literal["xs", "s", "m"]
WIDTHS: dict[str, tuple[int, int, int, int]] = {
    "xs": (32, 64, 128, 256),
    "s": (48, 96, 192, 320),
    "m": (56, 112, 224, 448),
}
"""Of the four stages. The released table says 384 for the last of "s"; its params and the released code say 320."""
_DEPTHS = (3, 3, 9, 3)
_SIDES = (28, 14, 7, 4)  # of the maps
_FIRST_GLOBAL = 2  # the stages from here on also mix all positions
_LAST_WIDTH = 1284
_NUM_HEADS = 4
_SMALL = 1e-5  # start of the scales


class FaceLiVTv2(Backbone):
    """Convolutions in two stages, then convolutions with linear maps over all positions (Lite MHLA) in two.

    >>> FaceLiVTv2("xs", embedding_dim=64).eval()(torch.zeros(2, 3, 112, 112)).shape
    torch.Size([2, 64])
    """

    def __init__(self, size: Size, embedding_dim: int = 512) -> None:
        """Builds the network, weights drawn at random as in the released code.

        Args:
            size: "xs", "s" or "m".
            embedding_dim: D; the published networks have 512.

        Raises:
            ConfigError: If there is no such size.
        """
        super().__init__(size=size, embedding_dim=embedding_dim)
        if size not in WIDTHS:
            raise ConfigError(f"backbone.size: FaceLiVTv2 has no size {size!r}; choose {', '.join(WIDTHS)}")
        widths = WIDTHS[size]
        self.stem = nn.Sequential(
            TwoKernels(3, widths[0] // 2, stride=2),
            nn.GELU(),
            TwoKernels(widths[0] // 2, widths[0], stride=2),
        )
        stages: list[nn.Module] = []
        for index, (width, depth, side) in enumerate(zip(widths, _DEPTHS, _SIDES, strict=True)):
            layers: list[nn.Module] = [_downsample(widths[index - 1], width)] if index else []
            layers += [_block(width, side, index >= _FIRST_GLOBAL) for _ in range(depth)]
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(
            conv_bn(widths[-1], _LAST_WIDTH),
            nn.Conv2d(_LAST_WIDTH, _LAST_WIDTH, _SIDES[-1], groups=_LAST_WIDTH, bias=False),
            nn.BatchNorm2d(_LAST_WIDTH),
            nn.Flatten(),
            nn.BatchNorm1d(_LAST_WIDTH),
            nn.Linear(_LAST_WIDTH, embedding_dim),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) RGB faces in [-1, 1] as (N, D) un-normalized embeddings."""
        return self.head(self.stages(self.stem(images)))

    def merge_branches(self) -> None:
        """See `Backbone.merge_branches`: each `TwoKernels` becomes one convolution."""
        from timm.utils import reparameterize_model

        reparameterize_model(self, inplace=True)


class TwoKernels(nn.Module):
    """Batch norm of the sum of a 3x3 and a 1x1 convolution, plus the input if `residual` (RepMix).

    In eval mode this is one 3x3 convolution, see `fuse`.
    """

    def __init__(
        self, in_width: int, out_width: int, stride: int = 1, groups: int = 1, residual: bool = False
    ) -> None:
        super().__init__()
        self.wide = nn.Conv2d(in_width, out_width, 3, stride, 1, groups=groups)
        self.narrow = nn.Conv2d(in_width, out_width, 1, stride, groups=groups)
        self.norm = nn.BatchNorm2d(out_width)
        self.residual = residual

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C', H / stride, W / stride)."""
        mixed = self.norm(self.wide(maps) + self.narrow(maps))
        return maps + mixed if self.residual else mixed

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """The convolution that this is in eval mode."""
        wide, norm = self.wide, self.norm
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        kernel = wide.weight + nn.functional.pad(self.narrow.weight, [1, 1, 1, 1])
        bias = wide.get_parameter("bias") + self.narrow.get_parameter("bias")
        kernel, bias = fuse_conv_bn_weights(kernel, bias, mean, variance, norm.eps, norm.weight, norm.bias)
        if self.residual:  # one input channel per output channel
            kernel[:, :, 1, 1] += 1
        merged = copy.deepcopy(wide)
        merged.weight, merged.bias = kernel, bias
        return merged


class LinearAttention(nn.Module):
    """Lite MHLA: x + γ₂ ⊙ (γ₁ ⊙ x + β) Wᵀ over the positions, W of a quarter of the channels each.

    The weights are learned and do not depend on the face, so no softmax and no products of positions are needed.
    """

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.input_gamma = nn.Parameter(torch.full((width, 1), _SMALL))
        self.input_beta = nn.Parameter(torch.zeros(width, 1))
        self.heads = nn.ModuleList(nn.Linear(side**2, side**2) for _ in range(_NUM_HEADS))
        self.gamma = nn.Parameter(torch.full((width, 1, 1), _SMALL))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, C, S, S) to the same shape."""
        rows = (self.input_gamma * maps.flatten(2) + self.input_beta).chunk(_NUM_HEADS, dim=1)
        mixed = torch.cat([head(part) for head, part in zip(self.heads, rows, strict=True)], dim=1)
        return maps + self.gamma * mixed.view_as(maps)


class FeedForward(nn.Module):
    """x plus two 1x1 convolutions, twice as wide in between; adds nothing at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        wide, narrow = conv_bn(width, 2 * width, activation=nn.GELU()), conv_bn(2 * width, width)
        nn.init.zeros_(narrow.get_parameter("1.weight"))
        self.layers = nn.Sequential(wide, narrow)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W) to the same shape."""
        return maps + self.layers(maps)


def _block(width: int, side: int, is_global: bool) -> nn.Sequential:
    mixers: list[nn.Module] = [TwoKernels(width, width, groups=width, residual=True)]
    if is_global:
        mixers.append(LinearAttention(width, side))
    return nn.Sequential(*mixers, FeedForward(width))


def _downsample(in_width: int, out_width: int) -> nn.Sequential:
    """Halves the map, rounded up."""
    return nn.Sequential(
        TwoKernels(in_width, in_width, stride=2, groups=in_width),
        conv_bn(in_width, out_width),
        FeedForward(out_width),
    )
