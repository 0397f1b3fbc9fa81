"""insightface's vision transformers (arcface_torch `vit_t`, `vit_s`, `vit_b`, `vit_l`), in the layout of `backbone.pth`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.errors import ConfigError
from facedistill.models.teachers.checkpoint import fitted, read_state_dict, unknown_network

SIZES = {"t": (256, 12), "s": (512, 12), "b": (512, 24), "l": (768, 24)}
"""Width and number of blocks."""
NUM_HEADS, PATCH_PX, NUM_PATCHES = 8, 9, 12 * 12
_UNUSED = "mask_token"  # replaces masked patches in training only


class ViT(nn.Module):
    """144 patches of 9 px, pre-norm blocks with ReLU6, then two linear layers over all patches.

    The last 4 of the 112 rows and columns are ignored, as in the released code.

    Attributes:
        embedding_dim: D.
    """

    def __init__(self, size: str, embedding_dim: int = 512) -> None:
        """Builds the network; its weights come from `convert`.

        Args:
            size: "t", "s", "b" or "l".
            embedding_dim: D.

        Raises:
            ConfigError: If there is no such size.
        """
        super().__init__()
        if size not in SIZES:
            raise ConfigError(f"teacher.network.size: expected one of {', '.join(SIZES)}, got {size!r}")
        width, depth = SIZES[size]
        self.embedding_dim = embedding_dim
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH_PX, PATCH_PX)})
        self.pos_embed = nn.Parameter(torch.zeros(1, NUM_PATCHES, width))
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.feature = nn.Sequential(
            nn.Linear(width * NUM_PATCHES, width, bias=False),
            nn.BatchNorm1d(width, eps=2e-5),
            nn.Linear(width, embedding_dim, bias=False),
            nn.BatchNorm1d(embedding_dim, eps=2e-5),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) RGB faces in [-1, 1] as (N, D) un-normalized embeddings."""
        tokens = self.patch_embed["proj"](images).flatten(2).mT + self.pos_embed  # (N, 144, width)
        return self.feature(self.norm(self.blocks(tokens)).flatten(1))


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = _Attention(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp["fc2"](F.relu6(self.mlp["fc1"](self.norm2(tokens))))


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T, C); the scale is that of a head's width."""
        query, key, value = self.qkv(tokens).unflatten(2, (3, NUM_HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """Reads a ViT `backbone.pth` into the state of a `ViT`; the mask token, which only training uses, is dropped.

    Args:
        members: One checkpoint and its path.

    Raises:
        AssetError: If the file cannot be read safely, or has not exactly these keys and shapes.
    """
    ((name, path),) = members.items()
    state = read_state_dict(path)
    arguments = describe(state)
    if arguments is None:
        raise unknown_network(name, "a ViT of arcface_torch", state, "its backbone.pth")
    with torch.device("meta"):
        network = ViT(**arguments)
    state = {key: value for key, value in state.items() if key != _UNUSED}
    return fitted(network, state, f"{name}, read as ViT-{arguments['size'].upper()},")


def describe(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """The arguments of the `ViT` with these keys, of the nearest depth if keys are missing; None if it is not a ViT."""
    if not {"patch_embed.proj.weight", "feature.2.weight", "blocks.0.attn.qkv.weight"} <= state.keys():
        return None
    width = len(state["patch_embed.proj.weight"])
    depth = 1 + max(int(found[1]) for key in state if (found := re.match(r"blocks\.(\d+)\.", key)))
    size = min(SIZES, key=lambda size: (abs(SIZES[size][0] - width), abs(SIZES[size][1] - depth)))
    dim = len(state["feature.2.weight"])
    return {"size": size} | ({"embedding_dim": dim} if dim != 512 else {})
