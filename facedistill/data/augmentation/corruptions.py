"""One corruption at a time, at a fixed strength: what a network is tested under, next to faces as they are."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from facedistill.data.augmentation import effects, values
from facedistill.data.augmentation.geometry import black_frame
from facedistill.models.counter_random import uniform

VERSION = 1
"""Changes with the strength of any corruption; part of the keys of cached scores."""
_NUM_DRAWS = 8


def corrupt(images: Tensor, name: str, *, seed: int, indices: Tensor) -> Tensor:
    """Changes faces by one corruption.

    Args:
        images: (N, 3, 112, 112) in [-1, 1]; they stay as they are.
        name: One of `CORRUPTIONS`.
        seed: Seed of places, sides and colors.
        indices: (N,) position of each face in its set; a face is changed in the same way in every batch.

    Returns:
        (N, 3, 112, 112) in [-1, 1].

    >>> corrupt(torch.ones(1, 3, 112, 112), "dark", seed=0, indices=torch.tensor([7])).max().item() < 0
    True
    """
    draws = uniform(seed, f"corruption/{name}", indices.cpu(), _NUM_DRAWS).to(images.device)
    return CORRUPTIONS[name](images, draws).clamp(-1, 1)


def _dark(images: Tensor, draws: Tensor) -> Tensor:
    one, no_color = torch.ones_like(draws[:, 0]), torch.zeros_like(draws[:, :3])
    return effects.relight(
        images, *values.relight(1.5 * one, 0.35 * one, -0.65 * one, no_color)
    )  # black stays black


def _gray(images: Tensor, draws: Tensor) -> Tensor:
    return effects.gray(images)


def _blurred(images: Tensor, draws: Tensor) -> Tensor:
    return effects.blur(images, *values.blur(torch.full_like(draws[:, 0], 2.5)))


def _low_resolution(images: Tensor, draws: Tensor) -> Tensor:
    pixels = torch.full_like(draws[:, 0], 20, dtype=torch.int64)
    return effects.low_resolution(images, *values.low_resolution(pixels))


def _jpeg(images: Tensor, draws: Tensor) -> Tensor:
    return effects.jpeg(images, *values.jpeg(torch.full_like(draws[:, 0], 10)))


def _covered(images: Tensor, draws: Tensor) -> Tensor:
    center, half = 1.4 * draws[:, :2] - 0.7, math.sqrt(0.15)  # 15 % of the image, mostly on the face
    boxes = torch.cat([center - half, center + half], 1)
    size = (images.shape[-2], images.shape[-1])
    return effects.cover(images, *values.cover(boxes, 2 * draws[:, 2:5] - 1, draws[:, 5:7], size))


def _framed(images: Tensor, draws: Tensor) -> Tensor:
    angle = torch.where(draws[:, 0] < 0.5, -1.0, 1.0) * math.radians(12)
    cuts = draws.new_tensor([0.2, 0.05, 0.12, 0.12]).expand(len(draws), 4)
    return images + black_frame(images, *values.black_frame(angle, cuts))


CORRUPTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "dark": _dark,
    "gray": _gray,
    "blurred": _blurred,
    "low_resolution": _low_resolution,
    "jpeg": _jpeg,
    "covered": _covered,
    "framed": _framed,
}
"""By name; each changes (n, 3, H, W) images by (n, 8) numbers in [0, 1).

dark: 35 % of the light at gamma 1.5. blurred: Gaussian, 2.5 px. low_resolution: 20 px. jpeg: quality 10. covered: a square
of 15 % of the image at a random place, in a random color with noise. framed: a black frame at 12°, as in CFP's crops.
"""
