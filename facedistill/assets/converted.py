"""Converts an asset once, and checks later that the cached file is unchanged."""

from __future__ import annotations

import errno
import hashlib
import inspect
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facedistill.assets.archive import sha256_of
from facedistill.assets.card import AssetCard
from facedistill.errors import AssetError, ConfigError
from facedistill.system.trust import is_admitted, load_object

if TYPE_CHECKING:
    from torch import Tensor

_OWN_CONVERTER = re.compile(r"facedistill\.models(\.[a-z_]\w*)+\.convert\w*")


def problem(card: AssetCard, path: Path, *, thorough: bool = False) -> str | None:
    """What is wrong with a cached file, as the end of a sentence; None if it is valid.

    A converted file is checked by its header and length, a raw file by its hash.

    Args:
        card: The asset.
        path: The cached file.
        thorough: Whether to hash every tensor as well.
    """
    if not path.is_file():
        return "is not in the cache"
    if not card.convert:
        return None if sha256_of(path) == card.members[0].sha256 else "no longer has the card's sha256"
    header = _header(path)
    if header is None:
        return "is damaged"
    if header.get("asset") != card.name or header.get("members") != _hashes(card):
        return "was made from other members"
    if thorough:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            found = _digest(load_file(path))
        except SafetensorError:
            return "is damaged"
        if found != header.get("tensors_sha256"):
            return "is damaged: its tensors are not the ones that were converted"
    return None


def _hashes(card: AssetCard) -> dict[str, str]:
    return {member.name: member.sha256 for member in card.members}


def _header(path: Path) -> dict[str, Any] | None:
    """What `convert_members` wrote into a file's header; None if the length does not fit the header."""
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > size:
                return None
            header = json.loads(stream.read(length))
        ours = json.loads(header.pop("__metadata__")["facedistill"])
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return ours if size == 8 + length + end else None


def convert_members(card: AssetCard, members: Mapping[str, Path], target: Path) -> Path:
    """Converts verified members to one safetensors file. Its header names their hashes.

    The same members give the same bytes on every machine.

    Args:
        card: Names the converter.
        members: Base file name to path.
        target: The file to write; the caller renames it afterwards.

    Returns:
        `target`.

    Raises:
        AssetError: If the converter is neither facedistill's nor admitted with `trust=`, or fails.
        OSError: If the file cannot be written.
    """
    function = _converter(card)
    try:
        converted = function(members)
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in converted.items()}
    except (AssetError, OSError):
        raise
    except Exception as error:  # the file is what its hash says, so the converter and the card disagree
        detail = " ".join(str(error).split())[:160]
        raise AssetError(
            f"asset {card.name}: {card.convert} could not convert it ({type(error).__name__}: {detail})"
        ) from error
    # Only a conversion needs torch's safetensors; listing and reading cards must stay quick.
    from safetensors.torch import save_file

    ours = {
        "asset": card.name,
        "members": _hashes(card),
        "licence": card.licence,
        "tensors_sha256": _digest(tensors),
    }
    # One entry: safetensors writes several in an order of its own, and the bytes would differ by run.
    _save(save_file, tensors, target, {"facedistill": json.dumps(ours, sort_keys=True)})
    return target


def _save(
    save: Callable[..., Any], tensors: dict[str, Tensor], target: Path, metadata: dict[str, str]
) -> None:
    try:
        save(tensors, target, metadata=metadata)
    except Exception as error:  # safetensors wraps the system's error in its own type
        if "No space left" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise
    target.chmod(0o644)


def is_converter(path: str) -> bool:
    """Whether a card may name this converter: one of facedistill, or one that the user admits with `trust=`."""
    return is_admitted(path) or bool(_OWN_CONVERTER.fullmatch(path))


def source_of(card: AssetCard) -> str:
    """The source of a converter outside facedistill, which has no version; empty for those of facedistill."""
    if _OWN_CONVERTER.fullmatch(card.convert):
        return ""
    module = inspect.getmodule(_converter(card))
    return inspect.getsource(module) if module else ""


def _converter(card: AssetCard) -> Callable[[Mapping[str, Path]], dict[str, Tensor]]:
    what = f"asset {card.name}: convert names {card.convert}, which"
    if not is_converter(card.convert):
        raise AssetError(
            f"{what} is no converter of facedistill.models; if you trust that code, add "
            f"trust={card.convert.rpartition('.')[0]} to the command line"
        )
    try:
        function = load_object(card.convert)
    except ConfigError as error:
        raise AssetError(f"asset {card.name}: convert names {error}") from error
    own = getattr(function, "__module__", "").startswith("facedistill.")
    if not callable(function) or not (own or is_admitted(card.convert)):
        raise AssetError(f"{what} is no function of facedistill")
    return function


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and values, in the order of the names."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
