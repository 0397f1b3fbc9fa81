"""dlib's face recognition network (`dlib_face_recognition_resnet_model_v1.dat`, Davis King, 2017), applied to 112 px crops."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.errors import AssetError
from facedistill.models.teachers.checkpoint import fitted
from facedistill.models.teachers.dlib_file import Layer, read_dlib

# (width, whether the block halves the map) of the 14 residual blocks
BLOCKS = (
    *((32, False),) * 3, (64, True), *((64, False),) * 3, (128, True), *((128, False),) * 2,
    (256, True), *((256, False),) * 2, (256, True),
)  # fmt: skip
MEANS = (122.782, 117.001, 104.298)  # of red, green and blue, as in the file
CHIP_PX = 150
# From the ArcFace template's 112 px to dlib's 150 px chip: x150 = SCALE x112 + SHIFT_X, and y likewise.
SCALE, SHIFT_X, SHIFT_Y = 1.5187, -9.543, -32.660


class DlibResNet(nn.Module):
    """29 convolutions in residual blocks, 128-D; 5.6 M params.

    A fixed similarity maps the package's 112 px crops to dlib's chip. The chip's lowest 8 % (the chin) are outside
    the crop and repeat its border. Embeddings share a large common offset: their norm is about 1.4,
    impostor cosines are about 0.84, and dlib compares them by L2 distance.

    Attributes:
        embedding_dim: 128.
    """

    embedding_dim = 128

    def __init__(self) -> None:
        """Builds the network; its weights come from `convert`."""
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, 2)
        widths = (32, *(width for width, _ in BLOCKS))
        self.blocks = nn.Sequential(
            *(_Block(before, width, halves) for before, (width, halves) in zip(widths, BLOCKS, strict=False))
        )
        self.linear = nn.Linear(256, self.embedding_dim, bias=False)
        self.register_buffer("grid", _grid(), persistent=False)
        self.register_buffer("means", torch.tensor(MEANS).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) RGB faces in 0..255 as (N, 128) embeddings."""
        grid = self.get_buffer("grid").expand(len(images), -1, -1, -1)
        chips = F.grid_sample(images.float(), grid, "bilinear", "border", align_corners=True)
        maps = F.max_pool2d(self.stem((chips - self.get_buffer("means")) / 256).relu(), 3, 2)
        return self.linear(self.blocks(maps).mean((2, 3)))


class _Block(nn.Module):
    """Two 3x3 convolutions; the smaller of result and input is zero-padded before the sum."""

    def __init__(self, in_width: int, width: int, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        self.first = nn.Conv2d(in_width, width, 3, 2 if halves else 1, 0 if halves else 1)
        self.second = nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.second(self.first(maps).relu())
        shortcut = F.avg_pool2d(maps, 2) if self.halves else maps
        size = [max(a, b) for a, b in zip(inner.shape[1:], shortcut.shape[1:], strict=True)]
        return (_padded(inner, size) + _padded(shortcut, size)).relu()


def _padded(maps: Tensor, size: list[int]) -> Tensor:
    """Pads with zeros at the end of each dimension up to `size` (C, H, W)."""
    channels, height, width = (wanted - side for wanted, side in zip(size, maps.shape[1:], strict=True))
    return F.pad(maps, (0, width, 0, height, 0, channels)) if channels or height or width else maps


def _grid() -> Tensor:
    """(1, 150, 150, 2) positions in the 112 px crop, x then y; -1 and 1 are the centers of the outermost pixels."""
    chip = torch.arange(CHIP_PX, dtype=torch.float64)
    x, y = (2 * ((chip - shift) / SCALE) / 111 - 1 for shift in (SHIFT_X, SHIFT_Y))
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows], dim=2)[None].float()


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """Reads dlib's `.dat` into the state of a `DlibResNet`; affine layers are folded in float64.

    Args:
        members: `dlib_face_recognition_resnet_model_v1.dat` and its path.

    Raises:
        AssetError: If the file is damaged or holds another network.
    """
    ((name, path),) = members.items()
    content = read_dlib(path)
    same_input = all(abs(a - b) < 1e-3 for a, b in zip(content.means, MEANS, strict=True))
    kinds = [layer.kind for layer in content.layers if layer.kind in ("con", "affine", "fc")]
    expected = ["con", "affine"] * (1 + 2 * len(BLOCKS)) + ["fc"]
    if content.size_px != CHIP_PX or not same_input or kinds != expected:
        raise AssetError(f"{name} is another dlib network; give dlib_face_recognition_resnet_model_v1.dat")
    network = DlibResNet()
    convolutions = [layer for layer in content.layers if layer.kind == "con"]
    affines = [layer for layer in content.layers if layer.kind == "affine"]
    names = [key for key, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    state: dict[str, Tensor] = {}
    for key, convolution, affine in zip(names, convolutions, affines, strict=True):
        state[f"{key}.weight"], state[f"{key}.bias"] = _fold(convolution, affine.values.double())
    outputs, inputs = content.layers[-1].numbers
    state["linear.weight"] = content.layers[-1].values.view(inputs, outputs).T.contiguous()
    return fitted(network, state, name)


def _fold(convolution: Layer, affine: Tensor) -> tuple[Tensor, Tensor]:
    """gain · (W x + b) + offset as one convolution."""
    width, rows, columns = convolution.numbers[:3]
    values = convolution.values.double()
    weight, bias = values[:-width].view(width, -1, rows, columns), values[-width:]
    gain, offset = affine.view(2, width)
    return (gain.view(-1, 1, 1, 1) * weight).float(), (gain * bias + offset).float()
