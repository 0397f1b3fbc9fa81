"""Early exit: remaps the last levels of a synthesis network, without training, to a coarser grid.

Levels above 128 or 256 px change 112x112 crops little, so they run on the exit's grid: the wavelet is replaced by its
low-pass band (LL / 2, the mean of each 2x2 block), every 3x3 kernel K by T K Tᵀ, which acts equally on fields that are
constant within each coarse pixel, and the noise constants by their block means.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.errors import ConfigError
from facedistill.models.generators.mobilestylegan import LevelSpec


def describe(state: Mapping[str, Tensor], exit_size: int | None) -> list[LevelSpec]:
    """Reads the levels from the state of a full synthesis network.

    Args:
        state: The full network's tensors.
        exit_size: Grid size that no level may exceed; None for the full network.

    Returns:
        One spec per level, coarsest first.

    Raises:
        ConfigError: If the network has no level of this size.
    """
    count = sum(key.endswith("second.weight") for key in state)
    sizes = [state[f"levels.{level}.second.noise"].shape[-1] for level in range(count)]
    if exit_size is not None and exit_size not in sizes[1:]:
        offered = ", ".join(str(size) for size in sizes[1:])
        raise ConfigError(
            f"generator.network.exit: this generator has no exit {exit_size}; try full, {offered}"
        )
    limit = exit_size or sizes[-1]
    specs = []
    for level, size in enumerate(sizes):
        outer = state[f"levels.{level}.second.weight"].shape[0]
        feeds_shrunk = level + 1 < count and size >= limit
        inner = state[f"levels.{level}.first.weight"].shape[1]
        specs.append(
            LevelSpec(inner, outer, outer // 4 if feeds_shrunk else outer, min(size, limit), size > limit)
        )
    return specs


def shrink(state: Mapping[str, Tensor], specs: list[LevelSpec], full_image: bool) -> dict[str, Tensor]:
    """Remaps the tensors of the full network to those of the network that `specs` describe.

    Args:
        state: The full network's tensors.
        specs: From `describe`.
        full_image: True keeps the image head's wavelet bands (the full exit), False only the low-pass band.

    Returns:
        Tensors for `SynthesisNetwork.load_state_dict`.
    """
    shrunk = dict(state)
    for level, spec in enumerate(specs):
        name = f"levels.{level}"
        for tensor in ("weight", "noise", "bias"):
            shrunk[f"{name}.second.{tensor}"] = _first_channels(
                shrunk[f"{name}.second.{tensor}"], tensor, spec.kept
            )
        if not spec.shrunk:
            before = f"levels.{level - 1}.second" if level else "first"
            _group_bands(shrunk, f"{before}.weight", f"{before}.bias", f"{name}.up.weight", f"{name}.up.bias")
            continue
        for tensor in ("up.weight", "up.bias"):
            shrunk[f"{name}.{tensor}"] = shrunk[f"{name}.{tensor}"][: spec.inner]
        for half in ("first", "second"):
            noise = shrunk[f"{name}.{half}.noise"]
            factor = noise.shape[-1] // spec.size
            shrunk[f"{name}.{half}.noise"] = F.avg_pool2d(noise, factor)
            shrunk[f"{name}.{half}.depthwise"] = coarse_kernel(shrunk[f"{name}.{half}.depthwise"], factor)
    if full_image:
        _group_bands(shrunk, "head_weight", "head_bias")
    else:
        shrunk["head_weight"], shrunk["head_bias"] = shrunk["head_weight"][:3], shrunk["head_bias"][:, :3]
    return {key: tensor.clone() for key, tensor in shrunk.items()}


def _group_bands(state: dict[str, Tensor], *names: str) -> None:
    """Sorts the channels of a wavelet's bands: the file has all LL, then V, H and D of each channel in turn."""
    for name in names:
        axis = 1 if state[name].shape[0] == 1 else 0  # biases are (1, C, 1, 1)
        count = state[name].shape[axis] // 4
        details = torch.arange(count, 4 * count).view(count, 3).T.flatten()
        state[name] = state[name].index_select(axis, torch.cat([torch.arange(count), details]))


def coarse_kernel(kernel: Tensor, factor: int) -> Tensor:
    """Remaps 3x3 kernels to a grid `factor` times coarser: T K Tᵀ.

    On a field that is constant within each coarse pixel, a step of one fine pixel leaves the coarse pixel in
    1 / factor of its area: a tap at -1 becomes 1 / factor at -1 and 1 - 1 / factor at 0.

    Args:
        kernel: (C, 1, 3, 3).
        factor: Coarse over fine pixel size, >= 1.

    Returns:
        (C, 1, 3, 3) whose result is the block mean of the fine result on such a field.
    """
    step = 1 / factor
    spread = torch.tensor([[step, 0, 0], [1 - step, 1, 1 - step], [0, 0, step]], dtype=kernel.dtype)
    return spread @ kernel @ spread.T


def _first_channels(tensor: Tensor, name: str, kept: int) -> Tensor:
    """Keeps the first `kept` output channels; the noise has none."""
    return tensor if name == "noise" else (tensor[:kept] if name == "weight" else tensor[:, :kept])
