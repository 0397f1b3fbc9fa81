"""Reads third-party checkpoints as data: tensors by name, without running code that a pickle may contain."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facedistill.assets.pickle.convert import NESTED
from facedistill.errors import AssetError, reason
from facedistill.models.weights import check_state, read_weights
from facedistill.system.messages import print_message

_WRAPPERS = ("module.", "_orig_mod.")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pth` / `.pt` / `.ckpt` or `.safetensors` file, by name.

    A pickle is read by torch's `weights_only` reader, which accepts only tensors and plain containers. A state dict
    nested under `state_dict` or another key of `NESTED` is unwrapped; prefixes `module.` (DataParallel) and `_orig_mod.`
    (torch.compile) of all names are dropped.

    Args:
        path: The file.

    Raises:
        AssetError: If the file is a web page or a Git LFS pointer, is damaged, would run code, or holds anything
            but tensors.
    """
    start = refuse_web_page(path)
    if len(start) > 8 and start[8:9] == b"{":
        return without_wrappers(read_weights(path)[0])
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        is_pickle = start.startswith((b"PK", b"\x80"))
        if is_pickle and ("GLOBAL" in str(error) or "unsupported" in str(error).lower()):
            raise AssetError(
                f"{path.name} holds Python objects besides tensors, which could run code when read; extract the "
                f"tensors without running it: `facedistill teacher convert {path.name} --out {path.stem}.safetensors`"
            ) from error
        raise _damaged(path, error) from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError, OSError) as error:
        raise _damaged(path, error) from error
    return _tensors(loaded, path.name)


def _damaged(path: Path, error: Exception) -> AssetError:
    return AssetError(
        f"{path.name} is truncated or not a torch checkpoint ({type(error).__name__}); fetch it again"
    )


def refuse_web_page(path: Path) -> bytes:
    """Returns the first 512 bytes of a file.

    Raises:
        AssetError: If it is a web page or a Git LFS pointer, or cannot be read.
    """
    start = read_bytes(path, 512)
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise AssetError(f"{path.name} is a web page, not a checkpoint; download the file itself")
    if start.startswith(b"version https://git-lfs"):
        raise AssetError(
            f"{path.name} is a Git LFS pointer, not a checkpoint; run `git lfs pull` in its folder"
        )
    return start


def read_bytes(path: Path, count: int = -1) -> bytes:
    """The first `count` bytes of a file, or all.

    Raises:
        AssetError: If it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(count)
    except OSError as error:
        raise AssetError(f"{path} cannot be read ({reason(error)}); give a readable file") from error


def _tensors(loaded: Any, name: str) -> dict[str, Tensor]:
    for key in NESTED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            others = [
                str(other) for other, value in loaded.items() if other != key and isinstance(value, Mapping)
            ]
            loaded = loaded[key]
            if averaged := [other for other in others if "ema" in other.lower()]:
                print_message(
                    f"{name}: the weights under {key!r} are taken, not those under {', '.join(averaged)}"
                )
    if not isinstance(loaded, Mapping) or not loaded:
        raise AssetError(
            f"{name} holds a {type(loaded).__name__}, not a state dict; give a file of tensors by name"
        )
    other = next((key for key, value in loaded.items() if not isinstance(value, Tensor)), None)
    if other is not None:
        kind = type(loaded[other]).__name__
        raise AssetError(f"{name} holds a {kind} under {other!r}; give a file of tensors by name")
    state = {str(key): value for key, value in loaded.items()}
    return without_wrappers(state)


def without_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` without the prefixes that DataParallel and torch.compile give to all names."""
    while state and (prefix := next((p for p in _WRAPPERS if all(key.startswith(p) for key in state)), None)):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return dict(state)


def unknown_network(name: str, kind: str, state: Mapping[str, Tensor], fix: str) -> AssetError:
    """The error for a file whose tensors are not those of a network; `kind` comes with its article."""
    return AssetError(f"{name} is not {kind}: its first keys are {', '.join(list(state)[:3])}; give {fix}")


def completed(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` in float32, with the `num_batches_tracked` of `wanted` that older files lack (inference ignores them)."""
    counters = {
        key: torch.zeros((), dtype=torch.long) for key in wanted if key.endswith("num_batches_tracked")
    }
    return counters | {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def fitted(network: nn.Module, state: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """The completed `state` after a check that it has exactly the keys and shapes of `network`.

    Args:
        network: May be on the meta device.
        state: Tensors by the network's names.
        origin: Of `state`, for the message.

    Raises:
        AssetError: If a key is missing or unknown, or a shape differs.
    """
    wanted = network.state_dict()
    found = completed(state, wanted)
    check_state(wanted, found, origin, type(network).__name__)
    return {key: found[key] for key in wanted}


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """The tensors of a checkpoint under its own names; float16 becomes float32.

    Args:
        members: One checkpoint and its path.

    Raises:
        AssetError: If the file cannot be read safely.
    """
    (path,) = members.values()
    return completed(read_state_dict(path), {})
