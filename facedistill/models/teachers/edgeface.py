"""EdgeFace (George et al., 2023): timm's EdgeNeXt with low-rank linear layers, from its published ONNX graphs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import onnx
import timm
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from facedistill.errors import AssetError, ConfigError
from facedistill.models.weights import load_state

Size = Literal["xs", "s"]
SIZES: dict[str, tuple[str, float]] = {"xs": ("edgenext_x_small", 0.6), "s": ("edgenext_small", 0.5)}
"""timm's name, and the rank as a share (gamma) of the narrower side."""
# The exporter folded the positional encoding of -S into this constant (1, 14·14, 96).
_POSITIONS = "/model/stages/stages.1/blocks/blocks.2/Transpose_1_output_0"


class EdgeFace(nn.Module):
    """EdgeFace-XS (γ = 0.6) or EdgeFace-S (γ = 0.5), 512-D.

    Every linear layer is a pair: W ≈ W₂ W₁ with rank max(2, ⌊γ · min(in, out)⌋), the bias on the second.

    Attributes:
        embedding_dim: 512.
    """

    embedding_dim = 512

    def __init__(self, size: Size) -> None:
        """Builds the network; its weights come from `convert`.

        Args:
            size: "xs" or "s".

        Raises:
            ConfigError: If it is neither.
        """
        super().__init__()
        if size not in SIZES:
            raise ConfigError(f"teacher.network.size: expected xs or s, got {size!r}")
        name, share = SIZES[size]
        self.model = timm.create_model(name, num_classes=self.embedding_dim)
        for key, layer in list(self.model.named_modules()):
            if isinstance(layer, nn.Linear):
                self.model.set_submodule(key, _LowRank(layer.in_features, layer.out_features, share))
        if size == "s":
            self.model.stages[1].blocks[2].pos_embd = _FixedPositions(96, 14)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) RGB faces in [-1, 1] as (N, 512) un-normalized embeddings."""
        return self.model(images)


class _LowRank(nn.Module):
    def __init__(self, in_features: int, out_features: int, share: float) -> None:
        super().__init__()
        rank = max(2, int(min(in_features, out_features) * share))
        self.linear1 = nn.Linear(in_features, rank, bias=False)
        self.linear2 = nn.Linear(rank, out_features)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear2(self.linear1(features))


class _FixedPositions(nn.Module):
    """EdgeNeXt's positional encoding as the numbers that it comes to at 112 px."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.register_buffer("positions", torch.zeros(1, width, side, side))

    def forward(self, shape: tuple[int, int, int]) -> Tensor:
        """(N, width, side, side) for `shape` (N, side, side)."""
        return self.get_buffer("positions").expand(shape[0], -1, -1, -1)


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """Reads a published EdgeFace graph into the state of `EdgeFace`.

    Most weights keep their names in the graph; those of the low-rank pairs became anonymous transposed matrices,
    which follow each other in the order of the layers. All shapes are checked.

    Args:
        members: One ONNX file and its path.

    Returns:
        The state of an `EdgeFace`, of the size that the file has.

    Raises:
        AssetError: If the file is neither network.
    """
    ((name, path),) = members.items()
    try:
        graph = onnx.load(path).graph
    except Exception as error:  # protobuf's own error classes differ between its implementations
        raise AssetError(
            f"{name} is truncated or not an ONNX file ({type(error).__name__}); fetch it again"
        ) from error
    values = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
    state = {key: value for key, value in values.items() if key.startswith("model.")}
    if "model.stages.1.blocks.2.gamma_xca" not in state:
        raise AssetError(f"{name} is no EdgeFace graph with named weights; give the published file")
    size: Size = "xs" if "model.stages.1.blocks.2.pos_embd.token_projection.weight" in state else "s"
    network = EdgeFace(size)
    if size == "s" and _POSITIONS in values:
        state["model.stages.1.blocks.2.pos_embd.positions"] = values[_POSITIONS].mT.reshape(1, 96, 14, 14)
    pairs = _products(graph, values)
    for key, layer in network.named_modules():
        if isinstance(layer, _LowRank):
            for part in ("linear1", "linear2"):
                if f"{key}.{part}.weight" not in state:
                    state[f"{key}.{part}.weight"] = next(pairs, torch.empty(0))
    load_state(network, state, name)
    return network.state_dict()


def _products(graph: onnx.GraphProto, values: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """(out, in) of every matrix product with a constant, in the graph's order."""
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in values:
            yield values[node.input[1]].T.contiguous()
