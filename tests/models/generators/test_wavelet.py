"""The inverse wavelet against the definition, pixel by pixel, and its laws."""

from __future__ import annotations

import torch

from facedistill.models.generators.wavelet import doubled_inverse_haar


def test_every_pixel_is_the_signed_sum_of_its_four_bands() -> None:
    channels = 2
    bands = torch.randn(1, 4 * channels, 2, 3, generator=torch.Generator().manual_seed(0))
    got = doubled_inverse_haar(bands)
    assert got.shape == (1, channels, 4, 6)
    sign = (1, -1)
    for c in range(channels):
        for i in range(2):
            for j in range(3):
                low = bands[0, c, i, j]
                v, h, d = (bands[0, k * channels + c, i, j] for k in (1, 2, 3))
                for a in (0, 1):
                    for b in (0, 1):
                        wanted = low + sign[a] * v + sign[b] * h + sign[a] * sign[b] * d
                        torch.testing.assert_close(got[0, c, 2 * i + a, 2 * j + b], wanted)


def test_it_is_orthogonal_and_its_low_pass_is_the_block_mean() -> None:
    bands = torch.randn(3, 16, 5, 5, generator=torch.Generator().manual_seed(1))
    image = doubled_inverse_haar(bands) / 2
    torch.testing.assert_close(image.square().sum(), bands.square().sum())
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(image, 2), bands[:, :4] / 2)
