"""White noise as a function of the style, so a face gets the same noise whenever it is rendered."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF


def white_noise(w: Tensor, size: int, stream: int) -> Tensor:
    """Draws a standard normal image for each style.

    Each pixel hashes (bits of the style's row, stream, position); the batch, the device and random states have
    no effect, so a resumed run sees the same faces. Styles that differ in one bit get unrelated noise.

    Args:
        w: (N, L) float32.
        size: R.
        stream: Number of the noise input; streams are independent.

    Returns:
        (N, 1, R, R) float32.
    """
    bits = w.float().contiguous().view(torch.int32).long() & _WORD
    place = torch.arange(w.shape[1], device=w.device)
    keys = [_mixed((_mixed(bits ^ salt) + _mixed(place + salt)) & _WORD).sum(1) & _WORD for salt in (17, 71)]
    pixel = torch.arange(size * size, device=w.device) + (stream << 24)
    draws = [
        _mixed(_mixed(pixel + salt) ^ _mixed(key[:, None] + salt))
        for key, salt in zip(keys, (3, 5), strict=True)
    ]
    first, second = ((draw.float() + 0.5) / (_WORD + 1) for draw in draws)
    normal = (-2 * first.log()).sqrt() * (2 * math.pi * second).cos()  # Box and Muller
    return normal.view(len(w), 1, size, size)


def _mixed(word: Tensor) -> Tensor:
    """Wellons' 32-bit integer hash "lowbias32", in int64 arithmetic."""
    word = word & _WORD
    word = ((word ^ (word >> 16)) * 0x7FEB352D) & _WORD
    word = ((word ^ (word >> 15)) * 0x846CA68B) & _WORD
    return word ^ (word >> 16)
