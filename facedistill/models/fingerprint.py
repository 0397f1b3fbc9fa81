"""Hashes that identify a network; they are the keys of its caches."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


def state_fingerprint(module: nn.Module) -> str:
    """The sha256 of a module's state: names, shapes, dtypes and bytes; the same on every machine and from every file.

    >>> first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> state_fingerprint(first) == state_fingerprint(second)
    False
    >>> _ = second.load_state_dict(first.state_dict())
    >>> state_fingerprint(first) == state_fingerprint(second)
    True
    """
    return tensors_fingerprint(module.state_dict())


def tensors_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of tensors: names, shapes, dtypes and bytes."""
    digest = hashlib.sha256()
    _update(digest, sorted(tensors.items()))
    return digest.hexdigest()


def network_fingerprint(network: nn.Module) -> str:
    """The sha256 over the layers, the input spec and every parameter and buffer, non-persistent buffers included.

    The network of a frozen teacher is not a submodule; the attribute `fingerprint` covers its weights.
    Code outside the printed layers (a changed `forward`) is not covered.
    """
    structure = re.sub(r" at 0x[0-9a-f]+", "", repr(network))
    declared = [getattr(network, name, None) for name in ("fingerprint", "input_spec")]
    digest = hashlib.sha256(f"{structure}\n{declared}\n{state_fingerprint(network)}".encode())
    saved = network.state_dict().keys()
    _update(digest, ((name, buffer) for name, buffer in network.named_buffers() if name not in saved))
    return digest.hexdigest()


def _update(digest: hashlib._Hash, tensors: Iterable[tuple[str, Tensor]]) -> None:
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
