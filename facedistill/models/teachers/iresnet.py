"""insightface's IResNet (arcface_torch), in the key layout of its published `backbone.pth`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from facedistill.errors import AssetError, ConfigError
from facedistill.models.teachers.checkpoint import read_checkpoint
from facedistill.models.weights import load_state

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 200: (6, 26, 60, 6)}
"""Residual blocks of the four stages, by the network's number."""
WIDTHS = (64, 128, 256, 512)
_PREFIXES = ("features.module.", "backbone.")


class IResNet(nn.Module):
    """IResNet-18/34/50/100/200: conv1 bn1 prelu, layer1..4, bn2, fc, features, as the checkpoints name them.

    Each stage halves the map: 112, 56, 28, 14, 7; then (N, 512, 7, 7) → Linear → BatchNorm1d. The released
    dropout before `fc` has no parameters and is the identity in a teacher.

    Attributes:
        embedding_dim: D.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, layers: int, embedding_dim: int = 512, epsilon: float = 1e-5) -> None:
        """Builds the network.

        Args:
            layers: 18, 34, 50, 100 or 200.
            embedding_dim: D.
            epsilon: Of every batch norm: 1e-5 in arcface_torch, 2e-5 in what was converted from MXNet (nizhib)
                and in MagFace.

        Raises:
            ConfigError: If there is no such network.
        """
        super().__init__()
        if layers not in BLOCKS:
            known = ", ".join(map(str, BLOCKS))
            raise ConfigError(f"teacher.network.layers: expected one of {known}, got {layers!r}")
        self.embedding_dim = embedding_dim
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64, epsilon)
        self.prelu = nn.PReLU(64)
        in_width = 64
        for number, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS[layers], strict=True), start=1):
            stage = [_Block(in_width, width, 2, epsilon)]
            stage += [_Block(width, width, 1, epsilon) for _ in range(blocks - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*stage))
            in_width = width
        self.bn2 = nn.BatchNorm2d(512, epsilon)
        self.fc = nn.Linear(512 * 7 * 7, embedding_dim)
        self.features = nn.BatchNorm1d(embedding_dim, epsilon)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) faces as (N, D) un-normalized embeddings."""
        maps = self.prelu(self.bn1(self.conv1(images)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            maps = stage(maps)
        return self.features(self.fc(self.bn2(maps).flatten(1)))


class _Block(nn.Module):
    """bn1 conv1 bn2 prelu conv2 bn3, plus the input; the stride is the second convolution's."""

    def __init__(self, in_width: int, width: int, stride: int, epsilon: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_width, epsilon)
        self.conv1 = nn.Conv2d(in_width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width, epsilon)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width, epsilon)
        self.downsample = (
            nn.Sequential(nn.Conv2d(in_width, width, 1, stride, bias=False), nn.BatchNorm2d(width, epsilon))
            if stride != 1
            else None
        )

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(maps)))))
        kept = maps if self.downsample is None else self.downsample(maps)
        return self.bn3(inner) + kept


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """Reads a `backbone.pth` (arcface_torch, nizhib) or a MagFace checkpoint into the state of an `IResNet`.

    The depth is read off the third stage; every key of that depth must be there and no other, but for batch norms'
    `num_batches_tracked`, which inference does not use and older files lack. MagFace's `fc.weight` beside
    `features.module.*` is its classifier, and is dropped. float16 files become float32.

    Args:
        members: One checkpoint and its path.

    Raises:
        AssetError: If the file cannot be read safely, or has not exactly these keys and shapes.
    """
    ((name, path),) = members.items()
    state = unprefixed(read_checkpoint(path))
    layers = depth_of(state)
    if layers is None:
        raise AssetError(
            f"{name} is no IResNet: its first keys are {', '.join(list(state)[:3])}; give an arcface_torch backbone.pth"
        )
    with torch.device("meta"):
        network = IResNet(layers, embedding_dim=len(state["fc.weight"]))
    wanted = network.state_dict()
    counters = {
        key: torch.zeros((), dtype=torch.long) for key in wanted if key.endswith("num_batches_tracked")
    }
    state = {
        key: value.float() if value.is_floating_point() else value
        for key, value in (counters | state).items()
    }
    network.to_empty(device="cpu")
    load_state(network, state, f"{name}, read as IResNet-{layers},")
    return network.state_dict()


def depth_of(state: Mapping[str, Tensor]) -> int | None:
    """18, 34, 50, 100 or 200, whichever is nearest by the third stage; None where this is no IResNet."""
    if not {"conv1.weight", "layer1.0.bn1.weight", "fc.weight"} <= state.keys():
        return None
    found = {int(key.split(".")[1]) for key in state if key.startswith("layer3.")}
    return min(BLOCKS, key=lambda layers: abs(BLOCKS[layers][2] - len(found)))


def unprefixed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's own keys, where a checkpoint keeps them under a prefix beside a classifier."""
    for prefix in _PREFIXES:
        if f"{prefix}conv1.weight" in state:
            return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return dict(state)
