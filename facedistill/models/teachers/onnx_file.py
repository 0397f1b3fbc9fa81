"""Reads ONNX files; the onnx package is imported when a file is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from facedistill.errors import AssetError

if TYPE_CHECKING:
    import onnx


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model of a file.

    Raises:
        AssetError: If it is truncated or not ONNX.
    """
    import onnx

    try:
        return onnx.load(path)
    except Exception as error:  # protobuf's error classes differ between its implementations
        raise AssetError(
            f"{path.name} is truncated or not an ONNX file ({type(error).__name__}); fetch it again"
        ) from error


def initializers(graph: onnx.GraphProto) -> dict[str, Tensor]:
    """The weights of a graph by name."""
    from onnx import numpy_helper

    return {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
