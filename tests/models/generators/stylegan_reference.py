"""What the published layouts mean, evaluated slowly in float64: one image at a time, one step of the definition at a time.

Resampling is zero insertion, padding or cutting, convolution with the filter, and dropping of samples; a kernel is
modulated and demodulated for each image by itself.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.models.generators.stylegan_layout import Persistent


def resampled(x: Tensor, kernel: Tensor, up: int, down: int, low: int, high: int, gain: float) -> Tensor:
    """(C, H, W): zeros inserted, `low` and `high` zeros around (negative: cut), true convolution, every `down`-th."""
    channels, height, width = x.shape
    spread = x.new_zeros(channels, height * up, width * up)
    spread[:, ::up, ::up] = x
    padded = spread.new_zeros(channels, height * up + low + high, width * up + low + high)
    top, bottom = max(low, 0), padded.shape[1] - max(high, 0)
    source = slice(max(-low, 0), spread.shape[1] - max(-high, 0))
    padded[:, top:bottom, top:bottom] = spread[:, source, source]
    kernel = kernel.double() * gain
    kernel = kernel if kernel.ndim == 2 else kernel.outer(kernel) / gain
    out = torch.stack([F.conv2d(one[None, None], kernel.flip(0, 1)[None, None])[0, 0] for one in padded])
    return out[:, ::down, ::down]


def dense(layer: Persistent, x: Tensor) -> Tensor:
    return float(layer.weight_gain) * (layer.weight.double() @ x) + layer.bias.double() * float(
        layer.bias_gain
    )


def leaky(x: Tensor) -> Tensor:
    return torch.where(x >= 0, x, 0.2 * x) * math.sqrt(2)


def mapped(network: Persistent, z: Tensor) -> Tensor:
    """(N, L) to (N, L), without truncation."""
    rows = []
    for row in z.double():
        x = row / (row.square().mean() + 1e-8).sqrt()
        for number in range(network.mapping.num_layers):
            x = leaky(dense(getattr(network.mapping, f"fc{number}"), x))
        rows.append(x)
    return torch.stack(rows)


def kernel_of(layer: Persistent, style: Tensor, demodulate: bool) -> Tensor:
    kernel = layer.weight.double() * style[None, :, None, None]
    if demodulate:
        for number in range(len(kernel)):
            kernel[number] /= (kernel[number].square().sum() + 1e-8).sqrt()
    return kernel


def clamped(x: Tensor, limit: float | None) -> Tensor:
    return x if limit is None else x.clamp(-limit, limit)


def stylegan2_image(network: Persistent, w: Tensor, noise: bool) -> Tensor:
    """(L,) to (3, R, R)."""
    image = x = None
    for side in network.synthesis.block_resolutions:
        block = getattr(network.synthesis, f"b{side}")
        if side == 4:
            x = block.const.double()
        for layer in [block.conv0, block.conv1] if side > 4 else [block.conv1]:
            assert x is not None
            kernel = kernel_of(layer, dense(layer.affine, w), True)
            if layer.up == 2:  # 4 taps and a 3 x 3 kernel: 3 zeros before and 2 behind
                x = resampled(x, layer.resample_filter, 2, 1, 3, 2, 4.0)
                x = F.conv2d(x[None], kernel.flip(2, 3))[0]
            else:
                x = F.conv2d(x[None], kernel, padding=1)[0]
            if noise:
                x = x + layer.noise_const.double() * layer.noise_strength.double()
            x = clamped(leaky(x + layer.bias.double()[:, None, None]), layer.conv_clamp)
        torgb = block.torgb
        kernel = kernel_of(torgb, dense(torgb.affine, w) * float(torgb.weight_gain), False)
        assert x is not None
        added = clamped(F.conv2d(x[None], kernel)[0] + torgb.bias.double()[:, None, None], torgb.conv_clamp)
        image = added if image is None else resampled(image, block.resample_filter, 2, 1, 2, 1, 4.0) + added
    assert image is not None
    return image


def stylegan3_image(network: Persistent, w: Tensor) -> Tensor:
    """(L,) to (3, R, R)."""
    waves = network.synthesis.input
    t = dense(waves.affine, w)
    t = t / math.hypot(float(t[0]), float(t[1]))
    turn, move = np.eye(3), np.eye(3)
    turn[:2, :2] = [[t[0], -t[1]], [t[1], t[0]]]
    move[:2, 2] = [-t[2], -t[3]]
    plane = turn @ move @ waves.transform.double().numpy()
    size, rate = int(waves.size[0]), float(waves.sampling_rate)
    sines = torch.zeros(len(waves.freqs), size, size, dtype=torch.float64)
    for number, (frequency, phase) in enumerate(
        zip(waves.freqs.double().numpy(), waves.phases.double().tolist(), strict=True)
    ):
        turned = frequency @ plane[:2, :2]
        phase = phase + frequency @ plane[:2, 2]
        beyond = (np.hypot(*turned) - waves.bandwidth) / (rate / 2 - waves.bandwidth)
        for row in range(size):
            for column in range(size):
                place = (np.array([column, row]) + 0.5 - size / 2) / rate
                sines[number, row, column] = math.sin(2 * math.pi * (turned @ place + phase))
        sines[number] *= min(max(1 - beyond, 0), 1)
    mixing = waves.weight.double() / math.sqrt(len(waves.freqs))
    x = torch.einsum("oi,ihw->ohw", mixing, sines)
    for name in network.synthesis.layer_names:
        layer = getattr(network.synthesis, name)
        style = dense(layer.affine, w)
        if layer.is_torgb:
            style = style / math.sqrt(len(style))
        kernel = kernel_of(layer, style, not layer.is_torgb) / math.sqrt(float(layer.magnitude_ema))
        x = F.conv2d(x[None], kernel, padding=layer.conv_kernel - 1)[0] + layer.bias.double()[:, None, None]
        low, high = layer.padding[:2]
        identity = torch.ones(1, 1)
        up = identity if layer.up_filter is None else layer.up_filter
        down = identity if layer.down_filter is None else layer.down_filter
        x = resampled(x, up, layer.up_factor, 1, low, high, float(layer.up_factor**2))
        x = clamped(x if layer.is_torgb else leaky(x), layer.conv_clamp)
        x = resampled(x, down, 1, layer.down_factor, 0, 0, 1.0)
    return x * network.synthesis.output_scale
