"""FaceNet's InceptionResnetV1 (David Sandberg, 2018), under facenet-pytorch's names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from facedistill.errors import AssetError
from facedistill.models.teachers.checkpoint import fitted, read_state_dict
from facedistill.models.teachers.graph_def import read_constants

_ROOT = "InceptionResnetV1/"
_EPSILON = 1e-3


class FaceNet(nn.Module):
    """512-D, 23.5 M params; trained on loose, unaligned crops of 160 px.

    Attributes:
        embedding_dim: 512.
    """

    embedding_dim = 512

    def __init__(self) -> None:
        """Builds the network; its weights come from `convert`."""
        super().__init__()
        self.conv2d_1a = _Conv(3, 32, 3, 2)
        self.conv2d_2a = _Conv(32, 32, 3)
        self.conv2d_2b = _Conv(32, 64, 3, padding=1)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = _Conv(64, 80, 1)
        self.conv2d_4a = _Conv(80, 192, 3)
        self.conv2d_4b = _Conv(192, 256, 3, 2)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = _Mixed(
            _Conv(256, 384, 3, 2),
            nn.Sequential(_Conv(256, 192, 1), _Conv(192, 192, 3, padding=1), _Conv(192, 256, 3, 2)),
            nn.MaxPool2d(3, 2),
        )
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = _Mixed(
            nn.Sequential(_Conv(896, 256, 1), _Conv(256, 384, 3, 2)),
            nn.Sequential(_Conv(896, 256, 1), _Conv(256, 256, 3, 2)),
            nn.Sequential(_Conv(896, 256, 1), _Conv(256, 256, 3, padding=1), _Conv(256, 256, 3, 2)),
            nn.MaxPool2d(3, 2),
        )
        self.repeat_3 = nn.Sequential(*(_block8(0.2) for _ in range(5)))
        self.block8 = _block8(1.0, last=True)
        self.last_linear = nn.Linear(1792, self.embedding_dim, bias=False)
        self.last_bn = nn.BatchNorm1d(self.embedding_dim, _EPSILON)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 160, 160) RGB faces, (x - 127.5) / 128, as (N, 512) un-normalized embeddings."""
        maps = images
        for layer in list(self.children())[:-2]:
            maps = layer(maps)
        return self.last_bn(self.last_linear(maps.mean((2, 3))))


class _Conv(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self,
        in_width: int,
        width: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_width, width, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, _EPSILON)

    def forward(self, maps: Tensor) -> Tensor:
        return self.bn(self.conv(maps)).relu()


class _Mixed(nn.Module):
    """Parallel branches, concatenated along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        for number, branch in enumerate(branches):
            self.add_module(f"branch{number}", branch)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([child(maps) for name, child in self.named_children() if name != "conv2d"], 1)


class _Residual(_Mixed):
    """maps + scale · (1x1 convolution of the concatenated branches), then ReLU except in the network's last block."""

    def __init__(self, scale: float, joined: int, width: int, last: bool, *branches: nn.Module) -> None:
        super().__init__(*branches)
        self.scale, self.last = scale, last
        self.conv2d = nn.Conv2d(joined, width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        summed = maps + self.scale * self.conv2d(super().forward(maps))
        return summed if self.last else summed.relu()


def _block35() -> _Residual:
    return _Residual(
        0.17, 96, 256, False,
        _Conv(256, 32, 1),
        nn.Sequential(_Conv(256, 32, 1), _Conv(32, 32, 3, padding=1)),
        nn.Sequential(_Conv(256, 32, 1), _Conv(32, 32, 3, padding=1), _Conv(32, 32, 3, padding=1)),
    )  # fmt: skip


def _block17() -> _Residual:
    wide, high = _Conv(128, 128, (1, 7), padding=(0, 3)), _Conv(128, 128, (7, 1), padding=(3, 0))
    return _Residual(0.1, 256, 896, False, _Conv(896, 128, 1), nn.Sequential(_Conv(896, 128, 1), wide, high))


def _block8(scale: float, last: bool = False) -> _Residual:
    wide, high = _Conv(192, 192, (1, 3), padding=(0, 1)), _Conv(192, 192, (3, 1), padding=(1, 0))
    return _Residual(
        scale, 384, 1792, last, _Conv(1792, 192, 1), nn.Sequential(_Conv(1792, 192, 1), wide, high)
    )


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """Reads facenet's frozen graph (`20180402-114759.pb`) or a facenet-pytorch state dict into the state of a `FaceNet`.

    facenet-pytorch's classifier `logits` is dropped. TensorFlow's batch norms have no gain; it is 1 here.

    Args:
        members: One `.pb` or `.pt` and its path.

    Raises:
        AssetError: If the file cannot be read safely, or has not exactly this network's layers and shapes.
    """
    ((name, path),) = members.items()
    network = FaceNet()
    if path.suffix == ".pb":
        state = dict(_from_graph(network, read_constants(path), name))
    else:
        state = {key: value for key, value in read_state_dict(path).items() if not key.startswith("logits.")}
    return fitted(network, state, name)


def _from_graph(network: FaceNet, constants: Mapping[str, Tensor], name: str) -> Iterator[tuple[str, Tensor]]:
    """The graph's tensors by our names; its layers are in the order of ours."""
    scopes = [
        key.removesuffix("/weights")
        for key in constants
        if key.startswith(_ROOT) and key.endswith("/weights")
    ]
    layers = [key for key, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    if len(scopes) != len(layers):
        raise AssetError(
            f"{name} has {len(scopes)} layers of {_ROOT[:-1]} where FaceNet has {len(layers)}; give 20180402-114759.pb"
        )
    for scope, layer in zip(scopes, layers, strict=True):
        weight = constants[f"{scope}/weights"]
        yield f"{layer}.weight", (weight.permute(3, 2, 0, 1) if weight.ndim == 4 else weight.T).contiguous()
        if f"{scope}/biases" in constants:
            yield f"{layer}.bias", constants[f"{scope}/biases"]
            continue
        norm = "last_bn" if layer == "last_linear" else layer.removesuffix("conv") + "bn"
        for ours, theirs in (
            ("bias", "beta"),
            ("running_mean", "moving_mean"),
            ("running_var", "moving_variance"),
        ):
            if f"{scope}/BatchNorm/{theirs}" in constants:
                yield f"{norm}.{ours}", constants[f"{scope}/BatchNorm/{theirs}"]
        yield f"{norm}.weight", torch.ones(weight.shape[-1])
