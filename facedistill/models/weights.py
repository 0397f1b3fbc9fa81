"""Reads and writes weights: safetensors only, every key and shape checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from facedistill.errors import AssetError, UserError, reason
from facedistill.system.files import write_atomically


def load_strictly(module: nn.Module, path: Path) -> None:
    """Fills every parameter and buffer of `module` from a safetensors file, or changes nothing.

    Args:
        module: Receives the weights, converted to its own dtypes.
        path: A safetensors file with exactly the module's keys and shapes.

    Raises:
        AssetError: If the file is missing, truncated, or does not fit the module.
    """
    load_state(module, read_weights(path)[0], str(path))


def load_state(module: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Fills every parameter and buffer of `module` from `state`, or changes nothing.

    Args:
        module: Receives the weights.
        state: Tensors by the module's own names.
        origin: Where they came from, for the message.

    Raises:
        AssetError: If a key is missing or unknown, or a shape differs.
    """
    check_state(module.state_dict(), state, origin, type(module).__name__)
    module.load_state_dict(dict(state), strict=True)


def check_state(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], origin: str, network: str) -> None:
    """Demands exactly the wanted keys, shapes and kinds of numbers, and finite values.

    Args:
        wanted: Of the network.
        state: What a file holds, by the same names.
        origin: Where it came from, for the message.
        network: What it should fit, for the message.

    Raises:
        AssetError: If a key is missing or unknown, a shape or the kind of number differs, or a value is not finite.
    """
    problems = [f"lacks {_some(wanted.keys() - state.keys())}"] if wanted.keys() - state.keys() else []
    if state.keys() - wanted.keys():
        problems.append(f"has unknown {_some(state.keys() - wanted.keys())}")
    shapes = [
        f"{key} of shape {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in sorted(wanted.keys() & state.keys())
        if state[key].shape != wanted[key].shape
    ]
    if shapes:
        problems.append(f"holds {shapes[0]}" + (f" and {len(shapes) - 1} more such" if shapes[1:] else ""))
    if not problems and (damaged := _damaged(wanted, state)):
        problems.append(damaged)
    if problems:
        raise AssetError(
            f"{origin} does not fit {network}: it {', '.join(problems)}; give weights of this network"
        )


def _damaged(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """What is wrong with the first tensor of another kind of number or with values that are not finite."""
    for key, tensor in state.items():
        if tensor.is_floating_point() != wanted[key].is_floating_point():
            found, expected = (str(t.dtype).removeprefix("torch.") for t in (tensor, wanted[key]))
            return f"holds {key} of {found} instead of {expected}"
        if tensor.is_floating_point() and not _is_sound(tensor):
            return f"holds values that are not finite in {key}"
    return ""


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads all tensors and the metadata of a safetensors file.

    Raises:
        AssetError: If the file is missing, unreadable, truncated or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except FileNotFoundError as error:
        raise AssetError(f"{path} does not exist; give the path of a safetensors file") from error
    except SafetensorError as error:
        if is_zipfile(path):
            raise AssetError(
                f"{path} is a PyTorch file and not safetensors; `facedistill teacher add` takes it as a teacher, and a "
                "student is the student.safetensors of a run"
            ) from error
        raise AssetError(
            f"{path} is truncated or not a safetensors file ({error}); fetch it again"
        ) from error
    except OSError as error:
        raise AssetError(
            f"{path} cannot be read ({reason(error)}); give a readable safetensors file"
        ) from error


def write_weights(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file atomically.

    Raises:
        UserError: If it cannot be written (read-only folder, disk full).
    """
    tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in state.items()}
    try:
        write_atomically(path, lambda unfinished: save_file(tensors, unfinished, metadata=dict(metadata)))
    except SafetensorError as error:  # its own type for a full disk
        raise UserError(
            f"{path} cannot be written ({reason(error)}); free space or choose another folder"
        ) from error


def _some(keys: set[str]) -> str:
    first, *others = sorted(keys)
    return first + (f" and {len(others)} more keys" if others else "")


def _is_sound(tensor: Tensor) -> bool:
    """Whether all values are finite; a single number, as StyleGAN2's clamp, may be infinite."""
    return bool((torch.isfinite(tensor) if tensor.numel() > 1 else ~torch.isnan(tensor)).all())
