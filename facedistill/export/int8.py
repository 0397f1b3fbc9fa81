"""An ONNX student with 8-bit weights and activations."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from facedistill.errors import UserError

if TYPE_CHECKING:
    import onnx

MAX_COSINE_LOSS = 0.01


def quantize(model: onnx.ModelProto, faces: torch.Tensor, held_out: torch.Tensor) -> onnx.ModelProto:
    """Quantizes a float graph after training, with the NNCF library.

    Weights have a scale per output channel. Activations have the range that they reach on `faces`, and the biases are
    corrected for the mean error. Layers that cost the most accuracy return to float32 until the mean cosine to the float
    embeddings, on `held_out`, is at least 1 - `MAX_COSINE_LOSS`.

    Args:
        model: Of `facedistill.export.onnx.onnx_model`.
        faces: (N, ...) calibration images as the graph takes them.
        held_out: (M, ...) further images, for the measurement.

    Returns:
        The same graph with QuantizeLinear and DequantizeLinear nodes (QDQ).

    Raises:
        UserError: If NNCF is not installed.
    """
    try:
        import nncf
        import nncf.onnx
    except ImportError as error:
        raise UserError(
            "onnx-int8 needs the NNCF library; install it with pip install 'facedistill[int8]'"
        ) from error
    nncf.set_log_level(logging.ERROR)
    name = model.graph.input[0].name
    calibration = nncf.Dataset([{name: face.numpy()} for face in faces.split(1)])
    quantized = nncf.quantize(model, calibration, subset_size=len(faces))
    items = [(batch.numpy(), _embed(model, batch.numpy())) for batch in held_out.split(16)]
    if _mean_cosine(quantized, items) >= 1 - MAX_COSINE_LOSS:
        return quantized
    return nncf.quantize_with_accuracy_control(
        model,
        calibration,
        nncf.Dataset(items, lambda item: {name: item[0]}),
        lambda candidate, some: (_mean_cosine(candidate, some), None),
        max_drop=MAX_COSINE_LOSS,
        subset_size=len(faces),
    )


def _mean_cosine(model: onnx.ModelProto, items: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean over pairs of images and their float embeddings."""
    cosines = [
        F.cosine_similarity(torch.from_numpy(_embed(model, images)), torch.from_numpy(expected))
        for images, expected in items
    ]
    return float(torch.cat(cosines).mean())


def _embed(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {model.graph.input[0].name: images})[0]
