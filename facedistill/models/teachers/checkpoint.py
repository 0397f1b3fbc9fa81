"""Reads checkpoints of others as data: tensors by name, and never the code that a pickle may carry."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facedistill.errors import AssetError
from facedistill.models.weights import read_weights

_NESTED = ("state_dict", "model_state_dict", "backbone")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pth` / `.pt` / `.ckpt` or `.safetensors` file, by name.

    A pickle is read by torch's `weights_only` reader, which knows tensors and plain containers; anything else
    in it is refused before it is built. A state dict inside `state_dict`, `model_state_dict` or `backbone` is
    taken out; a prefix `module.` that all names share (DataParallel) is dropped.

    Args:
        path: The file.

    Raises:
        AssetError: If the file is a web page or a Git LFS pointer, is damaged, would run code, or holds anything
            but tensors.
    """
    start = _start(path)
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise AssetError(f"{path.name} is a web page and no checkpoint; download the file itself")
    if start.startswith(b"version https://git-lfs"):
        raise AssetError(
            f"{path.name} is a Git LFS pointer and no checkpoint; run `git lfs pull` where it lies"
        )
    if len(start) > 8 and start[8:9] == b"{":
        return read_weights(path)[0]
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error) or "unsupported" in str(error).lower():
            raise AssetError(
                f"{path.name} holds Python objects beside its tensors, which could run code when read; save its "
                "state_dict() alone, where you trust it, and give that file"
            ) from error
        raise _damaged(path, error) from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError, OSError) as error:
        raise _damaged(path, error) from error
    return _tensors(loaded, path.name)


def _damaged(path: Path, error: Exception) -> AssetError:
    return AssetError(
        f"{path.name} is truncated or no torch checkpoint ({type(error).__name__}); fetch it again"
    )


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(512)
    except OSError as error:
        raise AssetError(
            f"{path} cannot be read ({error.strerror or error}); give a readable file"
        ) from error


def _tensors(loaded: Any, name: str) -> dict[str, Tensor]:
    for key in _NESTED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded:
        raise AssetError(
            f"{name} holds a {type(loaded).__name__} and no state dict; give a file of tensors by name"
        )
    strange = next((key for key, value in loaded.items() if not isinstance(value, Tensor)), None)
    if strange is not None:
        kind = type(loaded[strange]).__name__
        raise AssetError(f"{name} holds a {kind} under {strange!r}; give a file of tensors by name")
    state = {str(key): value for key, value in loaded.items()}
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state
