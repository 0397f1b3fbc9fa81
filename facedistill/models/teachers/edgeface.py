"""Reads EdgeFace (George et al., 2023) from its published ONNX graphs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from facedistill.errors import AssetError
from facedistill.models.backbones import edgeface
from facedistill.models.backbones.edgeface import LowRank, Size
from facedistill.models.teachers.checkpoint import fitted
from facedistill.models.teachers.onnx_file import initializers, read_onnx

if TYPE_CHECKING:
    import onnx

# The exporter folded the positional encoding of -S into this constant (1, 14·14, 96).
_POSITIONS = "/model/stages/stages.1/blocks/blocks.2/Transpose_1_output_0"


class EdgeFace(edgeface.EdgeFace):
    """`facedistill.models.backbones.EdgeFace` as published: in -S the positional encoding is a constant."""

    def __init__(self, size: Size) -> None:
        """Builds the network; its weights come from `convert`.

        Args:
            size: "xs" or "s" are published as graphs.

        Raises:
            ConfigError: If there is no such size.
        """
        super().__init__(size)
        if size == "s":
            self.model.stages[1].blocks[2].pos_embd = _FixedPositions(96, 14)


class _FixedPositions(nn.Module):
    """EdgeNeXt's positional encoding, evaluated at 112 px."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.register_buffer("positions", torch.zeros(1, width, side, side))

    def forward(self, shape: tuple[int, int, int]) -> Tensor:
        """(N, width, side, side) for `shape` (N, side, side)."""
        return self.get_buffer("positions").expand(shape[0], -1, -1, -1)


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """Reads a published EdgeFace graph into the state of `EdgeFace`.

    Most weights keep their names in the graph; those of the low-rank pairs are unnamed transposed matrices in the
    order of the layers. All shapes are checked.

    Args:
        members: One ONNX file and its path.

    Raises:
        AssetError: If the file is neither EdgeFace-XS nor -S.
    """
    ((name, path),) = members.items()
    graph = read_onnx(path).graph
    values = initializers(graph)
    state = {key: value for key, value in values.items() if key.startswith("model.")}
    if "model.stages.1.blocks.2.gamma_xca" not in state:
        raise AssetError(f"{name} is not an EdgeFace graph with named weights; give the published file")
    size: Size = "xs" if "model.stages.1.blocks.2.pos_embd.token_projection.weight" in state else "s"
    network = EdgeFace(size)
    if size == "s" and _POSITIONS in values:
        state["model.stages.1.blocks.2.pos_embd.positions"] = values[_POSITIONS].mT.reshape(1, 96, 14, 14)
    pairs = _products(graph, values)
    for key, layer in network.named_modules():
        if isinstance(layer, LowRank):
            for part in ("linear1", "linear2"):
                if f"{key}.{part}.weight" not in state:
                    state[f"{key}.{part}.weight"] = next(pairs, torch.empty(0))
    return fitted(network, state, name)


def _products(graph: onnx.GraphProto, values: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """(out, in) of every matrix product with a constant, in the graph's order."""
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in values:
            yield values[node.input[1]].T.contiguous()
