"""The IR and IR-SE networks of AdaFace, CVLface, TFace and InsightFace_Pytorch, in their common key layout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facedistill.errors import ConfigError
from facedistill.models.backbones.iresnet import BLOCKS, WIDTHS, Layers
from facedistill.models.teachers.checkpoint import fitted, read_state_dict, unknown_network

UNITS = {layers: units for layers, units in BLOCKS.items() if layers != 200}
"""Residual units of the four stages; the authors call the network of 100 IR-101."""
PREFIXES = ("model.net.", "net.", "model.")
"""Of the network in full checkpoints: CVLface on the hub, CVLface, AdaFace (Lightning)."""
_CLASSIFIERS = ("head.", "classifier.", "margin_loss.")


class IR(nn.Module):
    """input_layer, body, output_layer, as in the checkpoints; (N, 3, 112, 112) to (N, D).

    An IResNet except for the first unit, whose shortcut takes every second pixel instead of a convolution. The
    released dropout has no parameters and is the identity in a teacher.

    Attributes:
        embedding_dim: D.
    """

    def __init__(
        self,
        layers: Layers,
        squeeze: bool = False,
        embedding_dim: int = 512,
        middle_norm: bool = True,
        affine: bool = False,
    ) -> None:
        """Builds the network.

        Args:
            layers: 18, 34, 50 or 100.
            squeeze: IR-SE: squeeze and excitation ends every unit.
            embedding_dim: D.
            middle_norm: Batch norm between a unit's first convolution and its PReLU; InsightFace_Pytorch has none.
            affine: Whether the last batch norm has a gain and an offset, as in InsightFace_Pytorch.

        Raises:
            ConfigError: If there is no such depth.
        """
        super().__init__()
        if layers not in UNITS:
            known = ", ".join(map(str, UNITS))
            raise ConfigError(f"teacher.network.layers: expected one of {known}, got {layers!r}")
        self.embedding_dim = embedding_dim
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)
        )
        units: list[nn.Module] = []
        before = 64
        for width, count in zip(WIDTHS, UNITS[layers], strict=True):
            units.append(_Unit(before, width, 2, squeeze, middle_norm))
            units += [_Unit(width, width, 1, squeeze, middle_norm) for _ in range(count - 1)]
            before = width
        self.body = nn.Sequential(*units)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Identity(),  # the dropout
            nn.Flatten(),
            nn.Linear(512 * 7 * 7, embedding_dim),
            nn.BatchNorm1d(embedding_dim, affine=affine),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) faces as (N, D) un-normalized embeddings."""
        return self.output_layer(self.body(self.input_layer(images)))


class _Unit(nn.Module):
    """shortcut_layer plus res_layer; the stride is the second convolution's."""

    def __init__(self, in_width: int, width: int, stride: int, squeeze: bool, middle_norm: bool) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if in_width != width:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_width, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_width),
            nn.Conv2d(in_width, width, 3, 1, 1, bias=False),
            *([nn.BatchNorm2d(width)] if middle_norm else []),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        if squeeze:
            self.res_layer.add_module("se_block" if middle_norm else "5", _Squeeze(width))

    def forward(self, maps: Tensor) -> Tensor:
        return self.res_layer(maps) + self.shortcut_layer(maps)


class _Squeeze(nn.Module):
    """Squeeze and excitation with a sixteenth of the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, width // 16, 1, bias=False)
        self.fc2 = nn.Conv2d(width // 16, width, 1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        means = maps.mean((2, 3), keepdim=True)
        return maps * self.fc2(self.fc1(means).relu()).sigmoid()


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """Reads an AdaFace `.ckpt`, a CVLface `model.pt` / `model.safetensors` or a bare state dict into the state of an `IR`.

    The file must have exactly the network's keys, except for `num_batches_tracked`, which inference does not use.
    The prefix of a full checkpoint and the classifier (AdaFace's `head.*`) are dropped. float16 becomes float32.

    Args:
        members: One checkpoint and its path.

    Raises:
        AssetError: If the file cannot be read safely, or has not exactly these keys and shapes.
    """
    ((name, path),) = members.items()
    state = network_state(read_state_dict(path))
    arguments = describe(state)
    if arguments is None:
        raise unknown_network(name, "an IR network", state, "an AdaFace, CVLface or TFace checkpoint")
    with torch.device("meta"):
        network = IR(**arguments)
    return fitted(network, state, f"{name}, read as {title(arguments)},")


def network_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's keys, without a full checkpoint's prefix and classifier."""
    for prefix in PREFIXES:
        if f"{prefix}input_layer.0.weight" in state:
            network = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            unknown = {k: v for k, v in state.items() if not k.startswith((prefix, *_CLASSIFIERS))}
            return network | unknown  # the check of the keys names the unknown ones
    return dict(state)


def describe(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """The arguments of the `IR` with these keys, of the nearest depth if keys are missing; None if it is not an IR."""
    if not {"input_layer.0.weight", "body.0.res_layer.0.weight", "output_layer.3.weight"} <= state.keys():
        return None
    count = 1 + max(int(found[1]) for key in state if (found := re.match(r"body\.(\d+)\.", key)))
    middle_norm = "body.0.res_layer.2.running_mean" in state
    arguments: dict[str, Any] = {"layers": min(UNITS, key=lambda layers: abs(sum(UNITS[layers]) - count))}
    if any(".fc1." in key for key in state):
        arguments["squeeze"] = True
    if len(state["output_layer.3.weight"]) != 512:
        arguments["embedding_dim"] = len(state["output_layer.3.weight"])
    if not middle_norm:
        arguments["middle_norm"] = False
    if "output_layer.4.weight" in state:
        arguments["affine"] = True
    return arguments


def title(arguments: Mapping[str, Any]) -> str:
    """IR-50, IR-101 or IR-SE-50, as the authors write it."""
    layers = 101 if arguments["layers"] == 100 else arguments["layers"]
    return f"IR{'-SE' if arguments.get('squeeze') else ''}-{layers}"
