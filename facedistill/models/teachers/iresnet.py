"""Reads checkpoints of insightface's IResNet (arcface_torch) and its relatives into one key layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from facedistill.models.backbones.iresnet import BLOCKS, IResNet, Layers
from facedistill.models.teachers.checkpoint import fitted, read_state_dict, unknown_network

_PREFIXES = ("features.module.", "backbone.")


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """Reads a `backbone.pth` (arcface_torch, nizhib) or a MagFace checkpoint into the state of an `IResNet`.

    The number of blocks in the third stage gives the depth. The file must have exactly the keys of that depth, except
    for `num_batches_tracked`, which older files lack. MagFace's classifier `fc.weight` is dropped. float16 becomes
    float32.

    Args:
        members: One checkpoint and its path.

    Raises:
        AssetError: If the file cannot be read safely, or has not exactly these keys and shapes.
    """
    ((name, path),) = members.items()
    state = network_state(read_state_dict(path))
    layers = depth_of(state)
    if layers is None:
        raise unknown_network(name, "an IResNet", state, "an arcface_torch backbone.pth")
    with torch.device("meta"):
        network = IResNet(layers, embedding_dim=len(state["fc.weight"]))
    return fitted(network, state, f"{name}, read as IResNet-{layers},")


def depth_of(state: Mapping[str, Tensor]) -> Layers | None:
    """18, 34, 50, 100 or 200, whichever is nearest by the third stage; None if it is not an IResNet."""
    if not {"conv1.weight", "layer1.0.bn1.weight", "fc.weight"} <= state.keys():
        return None
    found = {int(key.split(".")[1]) for key in state if key.startswith("layer3.")}
    return min(BLOCKS, key=lambda layers: abs(BLOCKS[layers][2] - len(found)))


def network_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's keys, without a full checkpoint's prefix and classifier."""
    for prefix in _PREFIXES:
        if f"{prefix}conv1.weight" in state:
            return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return dict(state)
