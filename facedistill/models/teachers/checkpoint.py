"""Reads checkpoints of others as data: tensors by name, and never the code that a pickle may carry."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facedistill.assets.pickle.convert import NESTED
from facedistill.errors import AssetError
from facedistill.models.weights import read_weights


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pth` / `.pt` / `.ckpt` or `.safetensors` file, by name.

    A pickle is read by torch's `weights_only` reader, which knows tensors and plain containers; anything else
    in it is refused before it is built. A state dict inside `state_dict` or another of
    `facedistill.assets.pickle.convert.NESTED` is taken out; a prefix `module.` that all names share (DataParallel) is dropped.

    Args:
        path: The file.

    Raises:
        AssetError: If the file is a web page or a Git LFS pointer, is damaged, would run code, or holds anything
            but tensors.
    """
    start = demand_no_page(path)
    if len(start) > 8 and start[8:9] == b"{":
        return read_weights(path)[0]
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error) or "unsupported" in str(error).lower():
            raise AssetError(
                f"{path.name} holds Python objects beside its tensors, which could run code when read; take the "
                f"tensors out without running it: `facedistill teacher convert {path.name} --out {path.stem}.safetensors`"
            ) from error
        raise _damaged(path, error) from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError, OSError) as error:
        raise _damaged(path, error) from error
    return _tensors(loaded, path.name)


def _damaged(path: Path, error: Exception) -> AssetError:
    return AssetError(
        f"{path.name} is truncated or no torch checkpoint ({type(error).__name__}); fetch it again"
    )


def demand_no_page(path: Path) -> bytes:
    """The first 512 bytes of a file that is no web page and no pointer to a file.

    Raises:
        AssetError: If it is one of these, or cannot be read.
    """
    start = _start(path)
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise AssetError(f"{path.name} is a web page and no checkpoint; download the file itself")
    if start.startswith(b"version https://git-lfs"):
        raise AssetError(
            f"{path.name} is a Git LFS pointer and no checkpoint; run `git lfs pull` where it lies"
        )
    return start


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(512)
    except OSError as error:
        raise AssetError(
            f"{path} cannot be read ({error.strerror or error}); give a readable file"
        ) from error


def _tensors(loaded: Any, name: str) -> dict[str, Tensor]:
    for key in NESTED:
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


def completed(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` in float32, with the batch norms' counters where an older file lacks them; inference does not use them.

    Args:
        state: Of a file.
        wanted: The state of the network, by the file's names.
    """
    counters = {
        key: torch.zeros((), dtype=torch.long) for key in wanted if key.endswith("num_batches_tracked")
    }
    return counters | {
        key: value.float() if value.is_floating_point() else value for key, value in state.items()
    }


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """The tensors of a checkpoint under its own names, for a network that has those: float16 becomes float32.

    Args:
        members: One checkpoint and its path.

    Raises:
        AssetError: If the file cannot be read safely.
    """
    (path,) = members.values()
    return completed(read_checkpoint(path), {})
