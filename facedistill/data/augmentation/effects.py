"""What cameras, light and storage do to a face: each function changes (n, 3, H, W) images in [-1, 1].

The other arguments are those that `values` makes, shaped to be broadcast, so that every effect is a function of them alone.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.data.augmentation.constants import kept
from facedistill.data.augmentation.geometry import axes
from facedistill.data.augmentation.values import TEXTURE_PX

_COVER_NOISE = 0.3  # standard deviation


def relight(images: Tensor, gamma: Tensor, log_factor: Tensor, added: Tensor) -> Tensor:
    """Gamma, contrast and brightness: exp(gamma · log(1 + image) + log_factor) + added, in [-1, 1]."""
    log_light = images.add(1).clamp_min_(2e-4).log_()  # exp and log take a fifth of the time of pow
    light = log_light.mul_(gamma).add_(log_factor).exp_()
    return light.add_(added).clamp_(-1, 1)


def side_light(images: Tensor, cos: Tensor, sin: Tensor, strength: Tensor) -> Tensor:
    """Light that grows linearly across the face, from the direction (cos, sin)."""
    x, y = axes(images)
    change = strength * (cos * x + sin * y)
    return torch.addcmul(change, images, 1 + change)


def gray(images: Tensor) -> Tensor:
    """Luma (ITU-R BT.601) in all three channels."""
    weights = kept(_luma_weights, images)[:, None, None]
    return (images * weights).sum(1, keepdim=True).expand_as(images)


def cover(images: Tensor, columns: Tensor, rows: Tensor, color: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Covers the pixels where `columns` and `rows` are 1 with a color and the noise at `top` and `left` of the texture."""
    covering = texture(images, top, left).mul_(_COVER_NOISE).add_(color)
    return torch.lerp(images, covering, rows * columns)  # `where` takes ten times as long on a CPU


def soften(images: Tensor, spread: Tensor, resolution: Tensor) -> Tensor:
    """Blur and resampling of square images, one linear map per axis.

    Args:
        images: (n, 3, S, S).
        spread: (n, 1, 1) twice the variance of the blur, square pixels.
        resolution: (n,) int64 in [-1, S): pixels - 1; -1 keeps all.
    """
    n, channels, size, _ = images.shape
    maps = kept(_resampling, images, size)[resolution] @ _gaussians(spread, size)
    softened = torch.empty_like(images)
    rows = (images.reshape(n, channels * size, size) @ maps.transpose(1, 2)).view(images.shape)
    for channel in range(channels):
        torch.bmm(maps, rows[:, channel], out=softened[:, channel])
    return softened


def sensor_noise(images: Tensor, strength: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Adds the texture's window at `top` and `left` (n,), times `strength`."""
    return torch.addcmul(images, strength, texture(images, top, left))


def jpeg(images: Tensor, luma_steps: Tensor, chroma_steps: Tensor) -> Tensor:
    """What JPEG with 4:2:0 chroma keeps: 8 x 8 DCT, its coefficients rounded to multiples of the steps (n, 1, 64).

    H and W of the images (n, 3, H, W) are multiples of 16.
    """
    planes = (kept(_to_ycbcr, images) @ images.clamp(-1, 1).flatten(2)).view(images.shape)
    luma, chroma = _quantized(planes[:, :1], 8, luma_steps), _quantized(planes[:, 1:], 16, chroma_steps)
    return (kept(_to_rgb, images) @ torch.cat([luma, chroma], 1).flatten(2)).view(images.shape)


def texture(images: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """(n, 3, H, W) standard normal noise: windows of one fixed texture, so that it costs a copy and no drawing."""
    height, width = images.shape[-2:]
    noise = kept(_texture, images)
    windows = noise.unfold(1, height, 1).unfold(2, width, 1)  # (3, rows, columns, H, W), a view
    return windows[:, top, left].transpose(0, 1)


def _texture() -> Tensor:
    drawn = torch.Generator().manual_seed(0)
    return torch.randn(3, TEXTURE_PX, TEXTURE_PX, generator=drawn)


def _resampling(size: int) -> Tensor:
    """(size, size, size): matrix s - 1 averages `size` pixels to s and interpolates them linearly back."""
    eye = torch.eye(size)[None]
    resized = [
        F.interpolate(F.adaptive_avg_pool1d(eye, n), size=size, mode="linear") for n in range(1, size + 1)
    ]
    return torch.cat(resized).transpose(1, 2)


def _gaussians(spread: Tensor, size: int) -> Tensor:
    """(n, size, size) rows of normalized Gaussian weights of variance `spread` / 2; the identity where it is small."""
    exponents = kept(_minus_square_distances, spread, size) / spread
    weights = exponents.clamp_min_(-20).exp_()  # smaller weights are subnormal, which CPUs multiply slowly
    return weights / weights.sum(-1, keepdim=True)


def _minus_square_distances(size: int) -> Tensor:
    place = torch.arange(size, dtype=torch.float32)
    return -(place[:, None] - place).square()


def _quantized(planes: Tensor, edge: int, steps: Tensor) -> Tensor:
    """Planes (n, c, H, W) after rounding the coefficients of their `edge` x `edge` blocks to multiples of `steps` (n, 1, 64)."""
    n, c, height, width = planes.shape
    blocks = planes.reshape(n, c, height // edge, edge, width // edge, edge).transpose(3, 4)
    coefficients = blocks.reshape(n, -1, edge**2) @ kept(_dct, planes, edge).T
    rounded = coefficients.div_(steps).round_().mul_(steps) @ kept(_inverse_dct, planes, edge)
    blocks = rounded.view(n, c, height // edge, width // edge, edge, edge)
    return blocks.transpose(3, 4).reshape(n, c, height, width)


def _dct(edge: int) -> Tensor:
    """(64, edge²) orthonormal DCT-II of blocks averaged to 8 x 8 pixels, both axes as one."""
    n = torch.arange(8, dtype=torch.float64)
    basis = (math.pi / 8 * (n + 0.5) * n[:, None]).cos() * math.sqrt(2 / 8)
    basis[0] /= math.sqrt(2)
    basis = basis.repeat_interleave(edge // 8, 1) / (edge // 8)
    return torch.kron(basis, basis).float()


def _inverse_dct(edge: int) -> Tensor:
    return _dct(edge) * (edge / 8) ** 2


def _to_ycbcr() -> Tensor:
    """(3, 3): luma, Cb and Cr in 1/255 of the range, of red, green and blue in [-1, 1]."""
    weights = _luma_weights().double()
    blue, red = torch.eye(3, dtype=torch.float64)[[2, 0]]
    return (127.5 * torch.stack([weights, (blue - weights) / 1.772, (red - weights) / 1.402])).float()


def _to_rgb() -> Tensor:
    return _to_ycbcr().double().inverse().float()


def _luma_weights() -> Tensor:
    return torch.tensor([0.299, 0.587, 0.114])
