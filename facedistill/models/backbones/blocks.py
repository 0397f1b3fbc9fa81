"""Layers that several students share."""

from __future__ import annotations

from torch import Tensor, nn


def conv_bn(
    in_width: int,
    out_width: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: nn.Module | None = None,
) -> nn.Sequential:
    """Convolution without bias and with padding `kernel // 2`, batch norm, and an optional activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_width, out_width, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_width),
    ]
    return nn.Sequential(*layers, *([activation] if activation is not None else []))


def conv_prelu(
    in_width: int, out_width: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """`conv_bn` with one PReLU slope per channel."""
    return conv_bn(in_width, out_width, kernel, stride, groups, nn.PReLU(out_width))


def initialize_convolutions(network: nn.Module) -> None:
    """Draws convolutions from N(0, 2 / fan_out), as He et al. (2015)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate in [0, 1] that is computed from all channels' means."""

    def __init__(self, width: int, inner_width: int, activation: nn.Module, gate: nn.Module) -> None:
        """Builds the gate.

        Args:
            width: C.
            inner_width: Channels between the two 1x1 convolutions, which have biases.
            activation: Between them.
            gate: Maps the second's output to [0, 1].
        """
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, inner_width, 1),
            activation,
            nn.Conv2d(inner_width, width, 1),
            gate,
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C, H, W)."""
        return maps * self.layers(maps)


def rounded_width(width: float, divisor: int) -> int:
    """The nearest multiple of `divisor`, never more than a tenth below `width` (MobileNetV2's rule)."""
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded
