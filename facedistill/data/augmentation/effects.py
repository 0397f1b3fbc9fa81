"""What cameras, light and storage do to a face: each function changes (n, 3, H, W) images in [-1, 1], or says what to add.

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


def side_light(images: Tensor, by_x: Tensor, by_y: Tensor) -> Tensor:
    """Light that grows linearly across the face, in the direction (by_x, by_y)."""
    x, y = axes(images)
    change = by_x * x + by_y * y
    return torch.addcmul(change, images, 1 + change)


def gray(images: Tensor) -> Tensor:
    """Luma (ITU-R BT.601) in all three channels."""
    weights = kept(_luma_weights, images)[:, None, None]
    return (images * weights).sum(1, keepdim=True).expand_as(images)


def cover(images: Tensor, columns: Tensor, rows: Tensor, color: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Covers the pixels where `columns` and `rows` are 1 with a color and the noise at `top` and `left` of the texture."""
    covering = torch.add(color, texture(images, top, left), alpha=_COVER_NOISE)
    return torch.lerp(images, covering, rows * columns)  # `where` takes ten times as long on a CPU


def blur(images: Tensor, falloff: Tensor) -> Tensor:
    """Gaussian blur of square images; `falloff` (n, 1, 1) is 1 / (2 variance), per square pixel."""
    exponents = kept(_minus_square_distances, images, images.shape[-1]) * falloff
    weights = exponents.clamp_min_(-20).exp_()  # smaller weights are subnormal, which CPUs multiply slowly
    return _on_both_axes(images, weights.div_(weights.sum(-1, keepdim=True)))


def low_resolution(images: Tensor, resolution: Tensor) -> Tensor:
    """Square images averaged to fewer pixels and interpolated back; `resolution` (n,) int64 is pixels - 1."""
    return _on_both_axes(images, kept(_resampling, images, images.shape[-1]).index_select(0, resolution))


def sensor_noise(images: Tensor, strength: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """What to add (n, 3, H, W): the texture's window at `top` and `left` (n,), times `strength`."""
    return texture(images, top, left).mul_(strength)


def jpeg(images: Tensor, luma_steps: Tensor, chroma_steps: Tensor) -> Tensor:
    """What JPEG with 4:2:0 chroma keeps: 8 x 8 DCT, its coefficients rounded to multiples of the steps (n, 1, 8, 8).

    H and W of the images (n, 3, H, W) are multiples of 16.
    """
    n, width = len(images), images.shape[-1]
    to_ycbcr, to_rgb, rgb = kept(_to_ycbcr, images), kept(_to_rgb, images), images.clamp(-1, 1)
    luma = _quantized(_on_each(to_ycbcr[:1], rgb.flatten(2)), 1, width, luma_steps)
    even, odd = rgb.unflatten(2, (-1, 2)).unbind(3)
    chroma = _quantized(_on_each(to_ycbcr[1:], (even + odd).flatten(2)), 2, width, chroma_steps)
    colors = _on_each(to_rgb[:, 1:], chroma).view(n, 3, -1, 1, width)
    return torch.add(colors, luma.view(n, 1, -1, 2, width), alpha=1 / 127.5).flatten(2, 3)


def texture(images: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """(n, 3, H, W) standard normal noise: windows of one fixed texture, so that it costs a copy and no drawing."""
    height, width = images.shape[-2:]
    noise = kept(_texture, images)
    starts = (TEXTURE_PX - height) * TEXTURE_PX + TEXTURE_PX - width + 1
    windows = noise.as_strided((starts, 3, height, width), (1, TEXTURE_PX**2, TEXTURE_PX, 1))
    return windows.index_select(0, top * TEXTURE_PX + left)


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


def _on_both_axes(images: Tensor, maps: Tensor) -> Tensor:
    """Rows and columns of images (n, 3, S, S) times `maps` (n, S, S)."""
    rows = torch.bmm(images.flatten(1, 2), maps.transpose(1, 2)).view(images.shape)
    both = torch.empty_like(images)
    for once, twice in zip(rows.unbind(1), both.unbind(1), strict=True):
        torch.bmm(maps, once, out=twice)
    return both


def _minus_square_distances(size: int) -> Tensor:
    place = torch.arange(size, dtype=torch.float32)
    return -(place[:, None] - place).square()


def _quantized(planes: Tensor, pixels: int, width: int, steps: Tensor) -> Tensor:
    """Planes after rounding the coefficients of their 8 x 8 blocks.

    Args:
        planes: (n, c, h · width); each row is the sum of `pixels` rows of the image.
        pixels: In each direction that one value of a block averages.
        width: Of the image.
        steps: (n, 1, 8, 8); coefficients are rounded to multiples of them.
    """
    down, across = kept(_dct, planes, 1), kept(_dct, planes, pixels)
    averaged = (planes.view(-1, 8 * pixels) @ across.T).view(-1, 8, width // pixels)
    coefficients = _on_each(down, averaged).view(len(planes), -1, 8, width // pixels)
    steps = steps.repeat(1, 1, 1, width // pixels // 8)
    rounded = coefficients.div_(steps).round_().mul_(steps).view(averaged.shape)
    return (_on_each(down.T, rounded).view(-1, 8) @ kept(_inverse_dct, planes, pixels)).view(planes.shape)


def _on_each(matrix: Tensor, columns: Tensor) -> Tensor:
    """`matrix` (k, m) times each of `columns` (n, m, w)."""
    return torch.bmm(matrix.expand(len(columns), -1, -1), columns)  # `@` makes four times as many views


def _dct(pixels: int) -> Tensor:
    """(8, 8 · pixels) orthonormal DCT-II of 8 values, each the mean of `pixels` sums of `pixels`."""
    n = torch.arange(8, dtype=torch.float64)
    basis = (math.pi / 8 * (n + 0.5) * n[:, None]).cos() * math.sqrt(2 / 8)
    basis[0] /= math.sqrt(2)
    return (basis.repeat_interleave(pixels, 1) / pixels**2).float()


def _inverse_dct(pixels: int) -> Tensor:
    return _dct(pixels) * pixels**2


def _to_ycbcr() -> Tensor:
    """(3, 3): luma, Cb and Cr in 1/255 of the range, of red, green and blue in [-1, 1]."""
    weights = _luma_weights().double()
    blue, red = torch.eye(3, dtype=torch.float64)[[2, 0]]
    return (127.5 * torch.stack([weights, (blue - weights) / 1.772, (red - weights) / 1.402])).float()


def _to_rgb() -> Tensor:
    return _to_ycbcr().double().inverse().float()


def _luma_weights() -> Tensor:
    return torch.tensor([0.299, 0.587, 0.114])
