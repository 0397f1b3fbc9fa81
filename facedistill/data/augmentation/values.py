"""The arithmetic of each effect that needs no image: from what was drawn to the tensors that the effect takes.

It is done on the host, for few numbers per image, so that the device is given the work on pixels only. The functions have the
names of those in `effects` and `geometry`, and return their arguments: `effects.jpeg(images, *values.jpeg(quality))`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from facedistill.data.augmentation.constants import centers, kept

TEXTURE_PX = 256


def warp(homographies: Tensor) -> list[Tensor]:
    """What x, y and 1 add to the position and to the depth, of homographies (n, 3, 3) of `geometry.homography`."""
    return list(homographies[..., None, None].unbind(2))


def relight(gamma: Tensor, contrast: Tensor, brightness: Tensor, color: Tensor) -> list[Tensor]:
    """Gamma on [0, 1], then contrast around middle gray, then brightness, then a brightness per channel.

    Args:
        gamma: (n,) exponent.
        contrast: (n,) factor.
        brightness: (n,) added, in units of the [-1, 1] range.
        color: (n, 3) added per channel.
    """
    log_factor, added = contrast.log() + (1 - gamma) * math.log(2), (brightness - contrast)[:, None] + color
    return [_per_image(gamma), _per_image(log_factor), added[..., None, None]]


def side_light(angle: Tensor, strength: Tensor) -> list[Tensor]:
    """Light that grows linearly across the face: a factor of 1 +- strength at opposite edges.

    Args:
        angle: (n,) direction the light comes from, radians.
        strength: (n,) in [0, 1].
    """
    return [_per_image(strength * angle.cos()), _per_image(strength * angle.sin())]


def cover(boxes: Tensor, color: Tensor, offsets: Tensor, size: tuple[int, int]) -> list[Tensor]:
    """A rectangle with a color and noise.

    Args:
        boxes: (n, 4) left, top, right, bottom in [-1, 1].
        color: (n, 3) in [-1, 1].
        offsets: (n, 2) in [0, 1), where the noise is read from the fixed texture.
        size: Height and width of the images.
    """
    x, y = kept(centers, boxes, size[1]), kept(centers, boxes, size[0])
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    columns, rows = ((x > left) & (x < right)).to(boxes), ((y > top) & (y < bottom)).to(boxes)
    return [
        columns[:, None, None],
        rows[:, None, :, None],
        color[..., None, None],
        *_corners(offsets, size),
    ]


def blur(sigma: Tensor) -> list[Tensor]:
    """Gaussian blur of standard deviation `sigma` (n,), pixels."""
    return [(0.5 / sigma.clamp_min(1e-2).square())[:, None, None]]


def low_resolution(pixels: Tensor) -> list[Tensor]:
    """Area averaging to `pixels` (n,) int64 in [1, S], and back."""
    return [pixels - 1]


def sensor_noise(strength: Tensor, offsets: Tensor, size: tuple[int, int]) -> list[Tensor]:
    """Noise of standard deviation `strength` (n,), read at `offsets` (n, 2) in [0, 1) of a fixed texture."""
    return [_per_image(strength), *_corners(offsets, size)]


def jpeg(quality: Tensor) -> list[Tensor]:
    """The standard's example tables, scaled as libjpeg does for `quality` (n,) in [1, 100]."""
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)[:, None, None, None]
    tables = kept(_luma_table, scale), kept(_chroma_table, scale)
    return [(table * scale).clamp(1, 255).floor() for table in tables]


def black_frame(angle: Tensor, cuts: Tensor) -> list[Tensor]:
    """The edges of a photograph that ends next to a face.

    Args:
        angle: (n,) rotation of the photograph, radians.
        cuts: (n, 4) fractions of height and width cut off at the top, the bottom, the left and the right.
    """
    cos, sin = angle.cos(), angle.sin()
    top, bottom, left, right = cuts.unbind(1)
    by_x, by_y = torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)
    center = torch.stack([left - right, top - bottom], 1)
    half = torch.stack([1 - left - right, 1 - top - bottom], 1)
    return [(one / half)[..., None, None] for one in (by_x, by_y, -center)]


def _per_image(numbers: Tensor) -> Tensor:
    return numbers.view(-1, 1, 1, 1)


def _corners(offsets: Tensor, size: tuple[int, int]) -> list[Tensor]:
    """Top and left (n,) int64 of windows of the texture."""
    return [
        (part * (TEXTURE_PX - edge + 1)).long() for part, edge in zip(offsets.unbind(-1), size, strict=True)
    ]


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
