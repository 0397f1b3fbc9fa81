"""What a network is, as one hash: the key of everything that is cached about it."""

from __future__ import annotations

import hashlib
import re

import torch
from torch import nn

from facedistill.models.weights import fingerprint


def network_fingerprint(network: nn.Module) -> str:
    """sha256 over the layers, the input spec and every parameter and buffer, wherever they live.

    A frozen teacher keeps its network out of torch's sight, and says itself what it is (`fingerprint`). Code
    outside the printed layers (a changed `forward`) is not seen.
    """
    structure = re.sub(r" at 0x[0-9a-f]+", "", repr(network))
    said = [getattr(network, name, None) for name in ("fingerprint", "input_spec")]
    digest = hashlib.sha256(f"{structure}\n{said}\n{fingerprint(network)}".encode())
    saved = network.state_dict().keys()
    for name, buffer in network.named_buffers():
        if name not in saved:
            digest.update(f"{name} {buffer.dtype} {tuple(buffer.shape)}\n".encode())
            digest.update(buffer.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
