"""Reads the networks that dlib serializes (`*.dat`): numbers, names and raw tensors, in the order of the layers.

dlib's stream has no index. An integer is a control byte (low four bits: how many bytes follow; bit 7: negative) and
little-endian bytes; a real number is an integer mantissa and an integer exponent of 2; a text is its length and its
bytes; a truth value is the digit 0 or 1; a tensor is the integer 2, four sides, and float32 values. All versions of
the nested layers come first, then the input layer, then each layer's own content, the innermost first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from facedistill.errors import AssetError
from facedistill.models.teachers.checkpoint import read_bytes

_INPUT = b"input_rgb_image_sized"
_MOST_VERSIONS = 1000
_ALIAS = 5  # a version and four sides: a view of the parameters, redundant with the layer's numbers
_MULTIPLIERS = 4  # learning rates and weight decays


@dataclass(frozen=True)
class Layer:
    """One layer of the stream.

    Attributes:
        kind: "con", "affine", "relu", "max_pool", "avg_pool", "add_prev" or "fc".
        numbers: con: filters, rows, columns, strides y x, padding y x; pools: rows, columns, strides, padding;
            fc: outputs, inputs.
        values: (n,) float32 parameters; empty where the layer has none.
    """

    kind: str
    numbers: tuple[int, ...] = ()
    values: Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass(frozen=True)
class DlibNetwork:
    """A stream: side of the input image, means of red, green and blue on 0..255, and the layers from input to output."""

    size_px: int
    means: tuple[float, float, float]
    layers: tuple[Layer, ...]


def read_dlib(path: Path) -> DlibNetwork:
    """Reads a metric network (`loss_metric`) with an RGB input; nothing of the file is executed.

    Raises:
        AssetError: If the file cannot be read, is truncated, or has an unknown layer.
    """
    reader = _Reader(read_bytes(path), path.name)
    reader.require(reader.integer() == 1 and reader.text() == "loss_metric_2")
    reader.reals(2)  # margin and distance threshold of the loss
    for _ in range(_MOST_VERSIONS):
        if reader.integer() == len(_INPUT) and reader.peek(len(_INPUT)) == _INPUT:
            break
    else:
        reader.require(False)
    reader.skip(len(_INPUT))
    red, green, blue = reader.reals(3)
    rows, columns = reader.integers(2)
    reader.require(rows == columns)
    return DlibNetwork(rows, (red, green, blue), tuple(_layers(reader)))


def _layers(reader: _Reader) -> Iterator[Layer]:
    first = True
    while not reader.at_end():
        yield _layer(reader)
        reader.truths(3)  # set up, stale, gradients off
        for _ in range(3):  # gradients and outputs of the last training step
            reader.tensor()
        if first:
            reader.integer()  # input layer: samples per input
        first = False


def _layer(reader: _Reader) -> Layer:
    kind = reader.text()
    if kind == "con_4":
        values, numbers = reader.tensor(), reader.integers(7)
        reader.integers(2 * _ALIAS)
        reader.reals(_MULTIPLIERS)
        return Layer("con", numbers, values)
    if kind == "affine_":
        values = reader.tensor()
        reader.integers(2 * _ALIAS + 1)
        return Layer("affine", (), values)
    if kind in ("max_pool_2", "avg_pool_2"):
        return Layer(kind.removesuffix("_2"), reader.integers(6))
    if kind == "fc_2":
        numbers, values = reader.integers(2), reader.tensor()
        reader.integers(2 * _ALIAS + 1)
        reader.reals(_MULTIPLIERS)
        return Layer("fc", numbers, values)
    reader.require(kind in ("relu_", "add_prev_"))
    return Layer(kind.removesuffix("_"))


class _Reader:
    """A position in the stream; every step is checked against its end."""

    def __init__(self, content: bytes, name: str) -> None:
        self._content, self._name, self._at = content, name, 0

    def at_end(self) -> bool:
        return self._at == len(self._content)

    def require(self, holds: bool) -> None:
        if not holds:
            raise AssetError(
                f"{self._name} is damaged or not dlib's face recognition network (at byte {self._at}); "
                "give dlib_face_recognition_resnet_model_v1.dat"
            )

    def peek(self, count: int) -> bytes:
        return self._content[self._at : self._at + count]

    def skip(self, count: int) -> bytes:
        self.require(0 <= count <= len(self._content) - self._at)
        self._at += count
        return self._content[self._at - count : self._at]

    def integer(self) -> int:
        control = self.skip(1)[0]
        self.require(control & 0x7F <= 8)
        size = int.from_bytes(self.skip(control & 0x0F), "little")
        return -size if control & 0x80 else size

    def integers(self, count: int) -> tuple[int, ...]:
        return tuple(self.integer() for _ in range(count))

    def reals(self, count: int) -> tuple[float, ...]:
        pairs = [self.integers(2) for _ in range(count)]
        self.require(all(abs(exponent) < 1000 for _, exponent in pairs))
        return tuple(mantissa * 2.0**exponent for mantissa, exponent in pairs)

    def text(self) -> str:
        return self.skip(self.integer()).decode("ascii", "replace")

    def truths(self, count: int) -> None:
        self.require(set(self.skip(count)) <= set(b"01"))

    def tensor(self) -> Tensor:
        self.require(self.integer() == 2)
        raw = self.skip(4 * math.prod(self.integers(4)))
        return torch.frombuffer(bytearray(raw), dtype=torch.float32) if raw else torch.empty(0)
