"""Reads checkpoints of insightface's IResNet (arcface_torch) and its relatives into one key layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from facedistill.errors import AssetError
from facedistill.models.backbones.iresnet import BLOCKS, IResNet, Layers
from facedistill.models.teachers.checkpoint import read_checkpoint
from facedistill.models.weights import load_state

_PREFIXES = ("features.module.", "backbone.")


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


def depth_of(state: Mapping[str, Tensor]) -> Layers | None:
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
