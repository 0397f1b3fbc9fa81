"""Reads ONNX files; the onnx package is imported when a file is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from facedistill.errors import AssetError

if TYPE_CHECKING:
    import onnx


_FLOATS = (1, 10, 11)  # FLOAT, FLOAT16 and DOUBLE of onnx.TensorProto


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model of a file.

    Raises:
        AssetError: If it is truncated or not ONNX, keeps weights in other files, or holds some that are not numbers.
    """
    import onnx
    from onnx import numpy_helper

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's error classes differ between its implementations
        raise AssetError(
            f"{path.name} is truncated or not an ONNX file ({type(error).__name__}); fetch it again"
        ) from error
    outside = {
        entry.value for i in model.graph.initializer for entry in i.external_data if entry.key == "location"
    }
    if outside:
        raise AssetError(
            f"{path.name} keeps weights outside, in {', '.join(sorted(outside))}; put all into one file: "
            f"onnx.save(onnx.load({path.name!r}), 'one.onnx')"
        )
    for weight in model.graph.initializer:
        if weight.data_type in _FLOATS and np.isnan(numpy_helper.to_array(weight)).any():
            raise AssetError(
                f"{path.name} holds values that are not numbers in {weight.name}; fetch it again"
            )
    return model


def initializers(graph: onnx.GraphProto) -> dict[str, Tensor]:
    """The weights of a graph by name."""
    from onnx import numpy_helper

    return {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
