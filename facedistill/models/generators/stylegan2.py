"""StyleGAN2's generator (Karras et al. 2020, arXiv:1912.04958, configuration F) in plain torch.

Legend: N images, L latent width, I and O input and output channels, R resolution of a layer.

All constant gains of the authors' code (equalized learning rates, 1 / sqrt(fan-in)) are folded into the weights by the
conversion. Modulation and demodulation scale the activations before and after one convolution that all images share;
this equals the authors' per-image kernels without grouped convolutions. All layers share one style.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.models.generators.mobilestylegan import SLOPE
from facedistill.models.generators.white_noise import white_noise

GAIN = 2**0.5  # of every leaky ReLU
EPSILON = 1e-8


class ModulatedConvolution(nn.Module):
    """Equations 1 and 3: w'_oik = s_i w_oik, and w''_oik = w'_oik / sqrt(sum over i, k of w'_oik² + 1e-8)."""

    def __init__(self, latent_dim: int, inner: int, outer: int, side: int, *, demodulate: bool) -> None:
        super().__init__()
        self.style = nn.Linear(latent_dim, inner)
        self.weight = nn.Parameter(torch.zeros(outer, inner, side, side))
        self.energy: Tensor | None
        self.register_buffer("energy", torch.zeros(outer, inner) if demodulate else None, persistent=False)

    def prepare(self) -> None:
        """Computes what demodulation needs of the weights, (O, I) in float32."""
        if self.energy is not None:
            self.energy = self.weight.detach().float().square().sum((2, 3))

    def scales(self, w: Tensor) -> tuple[Tensor, Tensor | None]:
        """Factors of the input channels (N, I, 1, 1) and, demodulated, of the output channels (N, O, 1, 1)."""
        style = self.style(w)
        if self.energy is None:
            return style[:, :, None, None], None
        # A style's common factor cancels; at one its squares stay where bf16 and the epsilon do no harm.
        style = style * (style.square().mean(1, keepdim=True) + EPSILON).rsqrt()
        return style[:, :, None, None], (style.square() @ self.energy.T + EPSILON).rsqrt()[:, :, None, None]


class StyledLayer(ModulatedConvolution):
    """Modulated 3x3 convolution, twice as large where `up`; then noise, bias, leaky ReLU and its gain."""

    def __init__(self, latent_dim: int, inner: int, outer: int, size: int, *, up: bool) -> None:
        super().__init__(latent_dim, inner, outer, 3, demodulate=True)
        self.up = up
        self.size = size
        self.bias = nn.Parameter(torch.zeros(1, outer, 1, 1))
        self.strength = nn.Parameter(torch.zeros(()))
        self.noise: Tensor
        self.register_buffer("noise", torch.zeros(1, 1, size, size))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None, blur: Tensor) -> Tensor:
        """Convolves.

        Args:
            x: (N, I, R, R), or R / 2 where `up`.
            w: (N, L) float32.
            noise: (1 or N, 1, R, R) with its strength, or None.
            blur: (4, 4) low-pass filter with a sum of 4.

        Returns:
            (N, O, R, R).
        """
        before, after = self.scales(w)
        assert after is not None
        x = x * before.to(x.dtype)
        if self.up:
            x = F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)
            x = F.conv2d(x, _per_channel(blur, x), padding=1, groups=x.shape[1])
        else:
            x = F.conv2d(x, self.weight, padding=1)
        x = x * after.to(x.dtype)
        x = x + (self.bias if noise is None else noise.to(x.dtype) + self.bias)
        return F.leaky_relu(x, SLOPE) * GAIN


class ToImage(ModulatedConvolution):
    """Modulated 1x1 convolution without demodulation to (N, 3, R, R), and a bias."""

    def __init__(self, latent_dim: int, inner: int) -> None:
        super().__init__(latent_dim, inner, 3, 1, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """(N, I, R, R) features to (N, 3, R, R)."""
        return F.conv2d(x * self.scales(w)[0].to(x.dtype), self.weight) + self.bias


class StyleGAN2(nn.Module):
    """Styles to images: a constant 4x4, then per resolution two layers and an image that is added up ("skip")."""

    def __init__(self, latent_dim: int, widths: list[int]) -> None:
        """Builds the network with empty weights.

        Args:
            latent_dim: L.
            widths: Channels at 4, 8, 16, … pixels.
        """
        super().__init__()
        self.constant = nn.Parameter(torch.zeros(1, widths[0], 4, 4))
        self.layers = nn.ModuleList([StyledLayer(latent_dim, widths[0], widths[0], 4, up=False)])
        for level, (inner, outer) in enumerate(pairwise(widths), start=1):
            self.layers.append(StyledLayer(latent_dim, inner, outer, 4 * 2**level, up=True))
            self.layers.append(StyledLayer(latent_dim, outer, outer, 4 * 2**level, up=False))
        self.images = nn.ModuleList(ToImage(latent_dim, width) for width in widths)
        self.blur: Tensor
        self.clamp: Tensor
        self.register_buffer("blur", torch.zeros(4, 4))  # its sum 4 makes up for the inserted zeros
        self.register_buffer(
            "clamp", torch.zeros(())
        )  # of features, for fp16 training; infinite where there is none
        self.size = 4 * 2 ** (len(widths) - 1)

    def prepare(self, dtype: torch.dtype) -> None:
        """After loading: what demodulation needs, and features and kernels in `dtype`; styles stay in float32."""
        self._limit = float(self.clamp)
        for layer in [*self.layers, *self.images]:
            assert isinstance(layer, StyledLayer | ToImage)
            layer.prepare()
            for tensor in (layer.weight, layer.bias):
                tensor.data = tensor.data.to(dtype, memory_format=torch.channels_last)
        self.constant.data = self.constant.data.to(dtype)

    def forward(self, w: Tensor, noise: str) -> Tensor:
        """Renders.

        Args:
            w: (N, L) float32.
            noise: "const" for the file's own, "random" for white noise that depends on w, "none".

        Returns:
            (N, 3, size, size) float32, not clamped.
        """
        x = self.constant.expand(len(w), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        image = None
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, StyledLayer)
            x = self._clamped(layer(x, w, self._noise(layer, number, w, noise), self.blur))
            if number % 2 == 0:  # the last layer at its resolution
                image = None if image is None else _doubled(image, self.blur)
                added = self._clamped(self.images[number // 2](x, w)).float()
                image = added if image is None else image + added
        assert image is not None
        return image

    def _noise(self, layer: StyledLayer, number: int, w: Tensor, noise: str) -> Tensor | None:
        if noise == "none":
            return None
        drawn = layer.noise if noise == "const" else white_noise(w, layer.size, stream=number)
        return drawn * layer.strength

    def _clamped(self, x: Tensor) -> Tensor:
        return x if self._limit == float("inf") else x.clamp(-self._limit, self._limit)


def _per_channel(kernel: Tensor, x: Tensor) -> Tensor:
    """The filter repeated for every channel of `x`, flipped for a convolution."""
    return kernel.flip(0, 1).to(x.dtype).expand(x.shape[1], 1, -1, -1)


def _doubled(image: Tensor, blur: Tensor) -> Tensor:
    """(N, 3, R, R) to (N, 3, 2R, 2R): zeros between pixels, then the filter."""
    return F.conv_transpose2d(image, blur.expand(3, 1, -1, -1).to(image.dtype), stride=2, padding=1, groups=3)
