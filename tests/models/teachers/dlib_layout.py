"""Writes a network as dlib serializes it, with random weights and independently of facedistill's reader."""

from __future__ import annotations

import math
import struct

import torch
from torch import Tensor

BLOCKS = [(32, 1)] * 3 + [(64, 2)] + [(64, 1)] * 3 + [(128, 2)] + [(128, 1)] * 2
BLOCKS += [(256, 2)] + [(256, 1)] * 2 + [(256, 2)]
MEANS = (122.782, 117.001, 104.298)
Weights = list[tuple[Tensor, Tensor, Tensor, Tensor]]  # of each convolution: weight, bias, gain, offset


def integer(value: int) -> bytes:
    digits = abs(value).to_bytes(max(1, (abs(value).bit_length() + 7) // 8), "little")
    return bytes([len(digits) | (0x80 if value < 0 else 0)]) + digits


def text(value: str) -> bytes:
    return integer(len(value)) + value.encode()


def real(value: float) -> bytes:
    mantissa, exponent = math.frexp(value)
    return integer(int(mantissa * 2**24)) + integer(exponent - 24)


def tensor(values: Tensor) -> bytes:
    sides = [*values.shape, 1, 1, 1, 1][:4] if values.numel() else [0] * 4
    raw = struct.pack(f"<{values.numel()}f", *values.flatten().tolist())
    return b"".join(map(integer, (2, *sides))) + raw


def tail(first: bool = False) -> bytes:
    return b"110" + 3 * tensor(torch.empty(0)) + (integer(1) if first else b"")


def alias(*sides: int) -> bytes:
    return b"".join(map(integer, (1, *sides)))


def random_weights(seed: int = 0) -> tuple[Weights, Tensor]:
    """Of the 29 convolutions' 28 in blocks and one stem, and the (128, 256) linear layer."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def layer(width: int, before: int, side: int) -> tuple[Tensor, ...]:
        scale = (2 / (before * side * side)) ** 0.5
        return (
            draw(width, before, side, side) * scale,
            0.1 * draw(width),
            1 + 0.1 * draw(width),
            0.1 * draw(width),
        )

    layers, before = [layer(32, 3, 7)], 32
    for width, _ in BLOCKS:
        layers += [layer(width, before, 3), layer(width, width, 3)]
        before = width
    return layers, draw(128, 256) / 16


def dlib_bytes(weights: Weights, linear: Tensor) -> bytes:
    """The stream of the published network with these weights."""

    def convolution(number: int, stride: int, padding: int) -> bytes:
        weight, bias, gain, offset = weights[number]
        width, before, side, _ = weight.shape
        numbers = (width, side, side, stride, stride, padding, padding)
        return (
            text("con_4") + tensor(torch.cat([weight.flatten(), bias])) + b"".join(map(integer, numbers))
            + alias(width, before, side, side) + alias(1, width, 1, 1) + 3 * real(1.0) + real(0.0) + tail(number == 0)
            + text("affine_") + tensor(torch.cat([gain, offset])) + 2 * alias(1, width, 1, 1) + integer(0) + tail()
        )  # fmt: skip

    def pool(kind: str, *numbers: int) -> bytes:
        return text(kind) + b"".join(map(integer, (*numbers, 0, 0))) + tail()

    relu, add = text("relu_") + tail(), text("add_prev_") + tail()
    parts = [integer(1), text("loss_metric_2"), real(0.04), real(0.6), *map(integer, [2, 1] * 60 + [3])]
    parts += [text("input_rgb_image_sized"), *map(real, MEANS), integer(150), integer(150)]
    parts += [convolution(0, 2, 0), relu, pool("max_pool_2", 3, 3, 2, 2)]
    for number, (_, stride) in enumerate(BLOCKS):
        parts += [convolution(1 + 2 * number, stride, 2 - stride), relu, convolution(2 + 2 * number, 1, 1)]
        parts += [pool("avg_pool_2", 2, 2, 2, 2)] if stride == 2 else []
        parts += [add, relu]
    parts += [pool("avg_pool_2", 0, 0, 1, 1), text("fc_2"), integer(128), integer(256), tensor(linear.T)]
    parts += [alias(256, 128, 1, 1), alias(0, 0, 0, 0), integer(1), 3 * real(1.0) + real(0.0), tail()]
    return b"".join(parts)
