"""The inverse Haar wavelet, by which MobileStyleGAN doubles the resolution (Belousov 2021, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor


def doubled_inverse_haar(bands: Tensor) -> Tensor:
    """Doubles the resolution: every 2x2 block of pixels from one low-pass value and three details.

    With signs s_0 = +1, s_1 = -1, pixel (2i+a, 2j+b) = (LL + s_a V + s_b H + s_a s_b D)_ij / 2;
    twice that is returned, so that the caller can halve in a product that it computes anyway.

    Args:
        bands: (N, 4C, H, W); channels [0, C) are LL, then C each of V, H and D.

    Returns:
        (N, C, 2H, 2W).
    """
    batch, channels, height, width = bands.shape
    quarter = channels // 4
    low, vertical, horizontal, diagonal = bands.chunk(4, 1)
    even, odd = low + vertical, low - vertical  # rows 2i and 2i + 1
    even_step, odd_step = horizontal + diagonal, horizontal - diagonal
    blocks = torch.stack(
        [
            torch.stack([even + even_step, even - even_step], -1),
            torch.stack([odd + odd_step, odd - odd_step], -1),
        ],
        3,
    )  # (N, C, H, 2, W, 2)
    return blocks.reshape(batch, quarter, 2 * height, 2 * width)
