"""What cameras, light and storage do to a face: each function changes (n, 3, H, W) images in [-1, 1].

Random numbers come in as arguments, one row per image, so that every effect is a function of them alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.data.augmentation.geometry import axes

_TEXTURE_PX = 256


def relight(images: Tensor, gamma: Tensor, contrast: Tensor, brightness: Tensor, color: Tensor) -> Tensor:
    """Gamma on [0, 1], then contrast around middle gray, then brightness, then a brightness per channel.

    Args:
        images: (n, 3, H, W).
        gamma: (n,) exponent.
        contrast: (n,) factor.
        brightness: (n,) added, in units of the [-1, 1] range.
        color: (n, 3) added per channel.
    """
    log_light = (
        images.add(1).clamp_min_(2e-4).log_()
    )  # of twice the value in [0, 1]; a fifth of the time of pow
    log_factor = contrast.log() + (1 - gamma) * math.log(2)
    light = log_light.mul_(gamma.view(-1, 1, 1, 1)).add_(log_factor.view(-1, 1, 1, 1)).exp_()
    added = (brightness - contrast)[:, None] + color
    return light.add_(added[:, :, None, None])


def side_light(images: Tensor, angle: Tensor, strength: Tensor) -> Tensor:
    """Light that grows linearly across the face: a factor of 1 +- strength at opposite edges.

    Args:
        images: (n, 3, H, W).
        angle: (n,) direction the light comes from, radians.
        strength: (n,) in [0, 1].
    """
    x, y = axes(images)
    slope = angle.cos().view(-1, 1, 1) * x + angle.sin().view(-1, 1, 1) * y[:, None]
    change = (strength.view(-1, 1, 1) * slope)[:, None]
    return torch.addcmul(change, images, 1 + change)


def gray(images: Tensor) -> Tensor:
    """Luma (ITU-R BT.601) in all three channels."""
    weights = _kept(_luma_weights, images)[:, None, None]
    return (images * weights).sum(1, keepdim=True).expand_as(images)


def cover(images: Tensor, boxes: Tensor, color: Tensor, offsets: Tensor, noise: float = 0.3) -> Tensor:
    """Covers a rectangle with a color and noise.

    Args:
        images: (n, 3, H, W).
        boxes: (n, 4) left, top, right, bottom in [-1, 1].
        color: (n, 3) in [-1, 1].
        offsets: (n, 2) in [0, 1), where the noise is read from the fixed texture.
        noise: Standard deviation of the noise.
    """
    x, y = axes(images)
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    columns, rows = ((x > left) & (x < right)).to(images), ((y > top) & (y < bottom)).to(images)
    inside = (rows[:, :, None] * columns[:, None, :])[:, None]
    covering = texture(images, offsets).mul_(noise).add_(color[:, :, None, None])
    return torch.lerp(images, covering, inside)  # `where` takes ten times as long on a CPU


def soften(images: Tensor, sigma: Tensor, resolution: Tensor) -> Tensor:
    """Gaussian blur, then area averaging to fewer pixels and back; both are one linear map per axis.

    Args:
        images: (n, 3, S, S).
        sigma: (n,) pixels; 0 does not blur.
        resolution: (n,) int64 pixels in [1, S]; S keeps all.
    """
    n, channels, size, _ = images.shape
    maps = _kept(_resampling, images, size)[resolution - 1] @ _gaussians(sigma, size)
    softened = torch.empty_like(images)
    rows = (images.reshape(n, channels * size, size) @ maps.transpose(1, 2)).view(images.shape)
    for channel in range(channels):
        torch.bmm(maps, rows[:, channel], out=softened[:, channel])
    return softened


def sensor_noise(images: Tensor, strength: Tensor, offsets: Tensor) -> Tensor:
    """Adds Gaussian noise of standard deviation `strength` (n,), read at `offsets` (n, 2) of a fixed texture."""
    return torch.addcmul(images, strength.view(-1, 1, 1, 1), texture(images, offsets))


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """What JPEG with 4:2:0 chroma keeps: 8 x 8 DCT, the standard's example tables scaled as libjpeg does.

    Args:
        images: (n, 3, H, W), H and W multiples of 16.
        quality: (n,) in [1, 100].
    """
    planes = (_kept(_to_ycbcr, images) @ images.clamp(-1, 1).flatten(2)).view(images.shape)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    luma = _quantized(planes[:, :1], _kept(_dct, images, 8), _kept(_luma_table, images), scale)
    chroma = _quantized(planes[:, 1:], _kept(_dct, images, 16), _kept(_chroma_table, images), scale)
    return (_kept(_to_rgb, images) @ torch.cat([luma, chroma], 1).flatten(2)).view(images.shape)


def texture(images: Tensor, offsets: Tensor) -> Tensor:
    """(n, 3, H, W) standard normal noise: windows of one fixed texture, so that it costs a copy and no drawing."""
    height, width = images.shape[-2:]
    noise = _kept(_texture, images)
    top, left = (
        (part * (_TEXTURE_PX - edge + 1)).long()
        for part, edge in zip(offsets.unbind(-1), (height, width), strict=True)
    )
    windows = noise.unfold(1, height, 1).unfold(2, width, 1)  # (3, rows, columns, H, W), a view
    return windows[:, top, left].transpose(0, 1)


def _kept(make: Callable[..., Tensor], like: Tensor, *arguments: int) -> Tensor:
    """`make(*arguments)` on the device and in the dtype of `like`, copied there once: a copy would wait for the device."""
    return _made(make, like.device, like.dtype, *arguments)


@lru_cache(maxsize=32)
def _made(make: Callable[..., Tensor], device: torch.device, dtype: torch.dtype, *arguments: int) -> Tensor:
    return make(*arguments).to(device, dtype)


def _texture() -> Tensor:
    drawn = torch.Generator().manual_seed(0)
    return torch.randn(3, _TEXTURE_PX, _TEXTURE_PX, generator=drawn)


def _resampling(size: int) -> Tensor:
    """(size, size, size): matrix s - 1 averages `size` pixels to s and interpolates them linearly back."""
    eye = torch.eye(size)[None]
    resized = [
        F.interpolate(F.adaptive_avg_pool1d(eye, n), size=size, mode="linear") for n in range(1, size + 1)
    ]
    return torch.cat(resized).transpose(1, 2)


def _gaussians(sigma: Tensor, size: int) -> Tensor:
    """(n, size, size) rows of normalized Gaussian weights; the identity where sigma is 0."""
    place = torch.arange(size, device=sigma.device, dtype=sigma.dtype)
    distance = (place[:, None] - place).square()
    exponents = -distance / (2 * sigma.clamp_min(1e-2).square())[:, None, None]
    weights = exponents.clamp_min_(
        -20
    ).exp_()  # e^-20 = 2e-9; smaller weights are subnormal, which CPUs multiply slowly
    return weights / weights.sum(-1, keepdim=True)


def _quantized(planes: Tensor, basis: Tensor, table: Tensor, scale: Tensor) -> Tensor:
    """Planes (n, c, H, W) after quantizing the coefficients of their blocks by `table` (8, 8) times `scale` (n,).

    The blocks have as many pixels as `basis` (64, pixels), of `_dct`, has columns.
    """
    n, c, height, width = planes.shape
    edge = math.isqrt(basis.shape[1])
    blocks = (
        planes.reshape(n, c, height // edge, edge, width // edge, edge)
        .transpose(3, 4)
        .reshape(n, -1, edge**2)
    )
    steps = (table.flatten() * scale[:, None]).clamp(1, 255).floor()[:, None]
    kept = (blocks @ basis.T).div_(steps).round_().mul_(steps) @ (basis * (edge / 8) ** 2)
    return (
        kept.view(n, c, height // edge, width // edge, edge, edge)
        .transpose(3, 4)
        .reshape(n, c, height, width)
    )


def _dct(edge: int) -> Tensor:
    """(64, edge²) orthonormal DCT-II of blocks averaged to 8 x 8 pixels, both axes as one."""
    n = torch.arange(8, dtype=torch.float64)
    basis = (math.pi / 8 * (n + 0.5) * n[:, None]).cos() * math.sqrt(2 / 8)
    basis[0] /= math.sqrt(2)
    basis = basis.repeat_interleave(edge // 8, 1) / (edge // 8)
    return torch.kron(basis, basis).float()


def _to_ycbcr() -> Tensor:
    """(3, 3): luma, Cb and Cr in 1/255 of the range, of red, green and blue in [-1, 1]."""
    weights = _luma_weights().double()
    blue, red = torch.eye(3, dtype=torch.float64)[[2, 0]]
    return (127.5 * torch.stack([weights, (blue - weights) / 1.772, (red - weights) / 1.402])).float()


def _to_rgb() -> Tensor:
    return _to_ycbcr().double().inverse().float()


def _luma_weights() -> Tensor:
    return torch.tensor([0.299, 0.587, 0.114])


def _luma_table() -> Tensor:
    return torch.tensor(_LUMA_TABLE)


def _chroma_table() -> Tensor:
    return torch.tensor(_CHROMA_TABLE)


# ITU-T T.81, tables K.1 and K.2.
_LUMA_TABLE = [
    [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55], [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62], [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99],
]  # fmt: skip
_CHROMA_TABLE = [
    [17, 18, 24, 47, 99, 99, 99, 99], [18, 21, 26, 66, 99, 99, 99, 99], [24, 26, 56, 99, 99, 99, 99, 99],
    [47, 66, 99, 99, 99, 99, 99, 99], *[[99] * 8] * 4,
]  # fmt: skip
