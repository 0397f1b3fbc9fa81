"""Makes checkpoints in arcface_torch's key layout, with random weights and independently of facedistill's modules."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 200: (6, 26, 60, 6)}


def arcface_state(layers: int = 18, dim: int = 8, seed: int = 0) -> dict[str, Tensor]:
    """The keys in the order of the released `backbone.pth`."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def conv(key: str, width: int, in_width: int, side: int) -> None:
        scale = (in_width * side * side) ** -0.5
        state[f"{key}.weight"] = torch.randn(width, in_width, side, side, generator=generator) * scale

    def norm(key: str, width: int) -> None:
        state[f"{key}.weight"] = 1 + 0.1 * torch.randn(width, generator=generator)
        state[f"{key}.bias"] = 0.1 * torch.randn(width, generator=generator)
        state[f"{key}.running_mean"] = 0.1 * torch.randn(width, generator=generator)
        state[f"{key}.running_var"] = 0.5 + torch.rand(width, generator=generator)
        state[f"{key}.num_batches_tracked"] = torch.tensor(7)

    def prelu(key: str, width: int) -> None:
        state[f"{key}.weight"] = 0.5 * torch.rand(width, generator=generator)

    conv("conv1", 64, 3, 3)
    norm("bn1", 64)
    prelu("prelu", 64)
    in_width = 64
    for number, (width, blocks) in enumerate(zip((64, 128, 256, 512), BLOCKS[layers], strict=True), start=1):
        for block in range(blocks):
            key = f"layer{number}.{block}"
            norm(f"{key}.bn1", in_width)
            conv(f"{key}.conv1", width, in_width, 3)
            norm(f"{key}.bn2", width)
            prelu(f"{key}.prelu", width)
            conv(f"{key}.conv2", width, width, 3)
            norm(f"{key}.bn3", width)
            if block == 0:
                conv(f"{key}.downsample.0", width, in_width, 1)
                norm(f"{key}.downsample.1", width)
            in_width = width
    norm("bn2", 512)
    state["fc.weight"] = torch.randn(dim, 512 * 49, generator=generator) / 158
    state["fc.bias"] = torch.randn(dim, generator=generator)
    norm("features", dim)
    return state
