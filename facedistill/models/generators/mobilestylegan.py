"""MobileStyleGAN (Belousov 2021, arXiv:2104.04767) as plain torch modules.

Legend: N images, L = 512 latent width, C channels, H x W height and width of the level.
A level of nominal size R may run on a coarser grid ("shrunk", see `coarse`) and on a window of its frame
(see `region`): then the arithmetic is the same and only the stored constants differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.models.generators.region import Window
from facedistill.models.generators.wavelet import doubled_inverse_haar

SLOPE = 0.2  # of every leaky ReLU


@dataclass(frozen=True)
class LevelSpec:
    """Widths and size of one level.

    Attributes:
        inner: Channels after the wavelet, a quarter of the previous level's.
        outer: Channels of the first convolution's result.
        kept: Channels of the second convolution's result: `outer`, or a quarter of it (the low-pass band)
            where the next level is shrunk.
        size: Height and width of the grid that it runs on.
        shrunk: True where the grid is not twice the previous level's: the low-pass band is taken, not the
            wavelet.
    """

    inner: int
    outer: int
    kept: int
    size: int
    shrunk: bool = False


class MappingNetwork(nn.Module):
    """z to w: pixel norm, then linear, leaky ReLU and a gain of sqrt(2), `depth` times. Always in float32."""

    def __init__(self, width: int = 512, depth: int = 8) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, z: Tensor) -> Tensor:
        """Maps (N, L) standard normal latents to (N, L) styles."""
        with torch.autocast(z.device.type, enabled=False):
            w = z.float()
            w = w * torch.rsqrt(w.square().mean(1, keepdim=True) + 1e-8)
            for layer in self.layers:
                w = F.leaky_relu(layer(w), SLOPE) * 2**0.5
        return w


class StyledConvolution(nn.Module):
    """Convolve, add noise and bias, leaky ReLU. `SynthesisNetwork.prepare` has what multiplies the channels before it.

    Demodulation does not depend on the style in this network and is folded into the stored weights.
    """

    def __init__(self, latent_dim: int, inner: int, outer: int, size: int, separable: bool = True) -> None:
        super().__init__()
        self.style = nn.Linear(latent_dim, inner)
        self.depthwise = nn.Parameter(torch.zeros(inner, 1, 3, 3)) if separable else None
        self.weight = nn.Parameter(torch.zeros(outer, inner, *((1, 1) if separable else (3, 3))))
        self.bias = nn.Parameter(torch.zeros(1, outer, 1, 1))
        self.register_buffer("noise", torch.zeros(1, 1, size, size))
        self.noise: Tensor

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Maps (N, inner, H, W) and (1 or N, 1, H, W) noise to (N, outer, H, W)."""
        return self.activate(self.convolve(x), noise)

    def convolve(self, x: Tensor) -> Tensor:
        """The convolution alone."""
        if self.depthwise is None:
            return F.conv2d(x, self.weight, padding=1)
        return pointwise(F.conv2d(x, self.depthwise, padding=1, groups=x.shape[1]), self.weight)

    def activate(self, x: Tensor, noise: Tensor) -> Tensor:
        """What follows it."""
        return F.leaky_relu(x + (noise + self.bias), SLOPE)


class Level(nn.Module):
    """One resolution: double (or, where shrunk, stay), then two depthwise-separable styled convolutions."""

    def __init__(self, latent_dim: int, spec: LevelSpec) -> None:
        super().__init__()
        self.shrunk = spec.shrunk
        self.up = nn.Linear(latent_dim, spec.inner if spec.shrunk else 4 * spec.inner)
        self.first = StyledConvolution(latent_dim, spec.inner, spec.outer, spec.size)
        self.second = StyledConvolution(latent_dim, spec.outer, spec.kept, spec.size)

    def scales(self, w: Tensor) -> list[Tensor]:
        """What multiplies the channels before the wavelet, and before the second convolution.

        The first convolution's style is the same for all bands of a channel. The half is the wavelet's, or, where shrunk,
        LL / 2, the mean of the 2x2 pixels that the wavelet would give.
        """
        first = 0.5 * self.first.style(w)
        return [self.up(w) * (first if self.shrunk else first.repeat(1, 4)), self.second.style(w)]

    def forward(self, x: Tensor, scales: Sequence[Tensor], noise: Sequence[Tensor]) -> Tensor:
        """Maps (N, 4 inner, H/2, W/2), or (N, inner, H, W) where shrunk, to (N, kept, H, W)."""
        x = x * scales[0]
        if not self.shrunk:
            x = doubled_inverse_haar(x)
        return self.second(self.first(x, noise[0]) * scales[1], noise[1])


class SynthesisNetwork(nn.Module):
    """w to image; every level works on its window only."""

    def __init__(
        self, latent_dim: int, specs: Sequence[LevelSpec], bands: int, windows: Sequence[Window]
    ) -> None:
        """Builds the network with empty weights.

        Args:
            latent_dim: L.
            specs: One per level, coarsest first.
            bands: Channels of the image head: 12 (wavelet bands), or 3 (their low-pass part).
            windows: What each level computes, in its own pixels; see `region.plan_windows`.
        """
        super().__init__()
        base, width = specs[0].size // 2, specs[0].inner * 4
        self.constant = nn.Parameter(torch.zeros(1, width, base, base))
        self.first = StyledConvolution(latent_dim, width, width, base, separable=False)
        self.levels: Any = nn.ModuleList(Level(latent_dim, spec) for spec in specs)
        self.head_style = nn.Linear(latent_dim, specs[-1].kept)
        self.head_weight = nn.Parameter(torch.zeros(bands, specs[-1].kept, 1, 1))
        self.head_bias = nn.Parameter(torch.zeros(1, bands, 1, 1))
        self.specs, self.windows, self.wavelet_head = tuple(specs), tuple(windows), bands == 12
        levels = [n for spec in specs for n in (spec.inner if spec.shrunk else 4 * spec.inner, spec.outer)]
        self._widths = [width * base**2, *levels, specs[-1].kept]

    def published_noise(self) -> list[Tensor]:
        """The constants, one (1, 1, size, size) per convolution, in the order of computation."""
        return [module.noise for module in self.modules() if isinstance(module, StyledConvolution)]

    def to_precision(self, dtype: torch.dtype) -> None:
        """Puts features and kernels into `dtype`, channels last; styles stay in float32."""
        styles = {id(p) for m in self.modules() if isinstance(m, nn.Linear) for p in m.parameters()}
        for tensor in [*self.parameters(), *self.buffers()]:
            if id(tensor) not in styles:
                tensor.data = tensor.data.to(dtype, memory_format=torch.channels_last)

    def prepare(self, w: Tensor) -> Tensor:
        """What is best computed for a whole batch, since it reads many weights for few results, from (N, L) float32 styles.

        Returns:
            (N, sum of the widths), in the type of the weights: the first convolution's result, channels last, and what
            multiplies the channels before each other convolution, computed in float32.
        """
        scales = [scale for level in self.levels for scale in level.scales(w)]
        x = self.constant * self.first.style(w)[:, :, None, None].to(self.constant.dtype)
        x = self.first.convolve(x.contiguous(memory_format=torch.channels_last))
        others = torch.cat([*scales, self.head_style(w)], 1).to(x.dtype)
        return torch.cat([x.permute(0, 2, 3, 1).flatten(1), others], 1)

    def forward(
        self, prepared: Tensor, noise: Sequence[Tensor] | None = None, windows: Sequence[Window] | None = None
    ) -> Tensor:
        """Renders the window.

        Args:
            prepared: From `prepare`, of N images.
            noise: One (1 or N, 1, size, size) per convolution as in `published_noise`; None for those.
            windows: What each level computes instead of the planned windows.

        Returns:
            (N, 3, H, W) of the last window, not clamped (about [-1.4, 1.4]), in the type of the weights.
        """
        noise = self.published_noise() if noise is None else noise
        start, *pairs, head = prepared[:, :, None, None].split(self._widths, 1)
        side = self.constant.shape[-1]
        x = self.first.activate(
            start.reshape(-1, side, side, self.constant.shape[1]).permute(0, 3, 1, 2), noise[0]
        )
        before = Window.frame(self.constant.shape[-1])
        for index, (level, window) in enumerate(zip(self.levels, windows or self.windows, strict=True)):
            x = (window if level.shrunk else window.halved()).cut(x, before)
            two = slice(2 * index, 2 * index + 2)
            frame = Window.frame(self.specs[index].size)
            x = level(x, pairs[two], [window.cut(constant, frame) for constant in noise[1:][two]])
            before = window
        x = pointwise(x * head, self.head_weight) + self.head_bias
        return (doubled_inverse_haar(x) if self.wavelet_head else x) * 0.5


def pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """A 1x1 convolution of (N, C, H, W) as the matrix product that it is, which is faster on a CPU than `conv2d`."""
    return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1)).permute(0, 3, 1, 2)
