"""Checks that an ONNX file embeds as its torch student does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from facedistill.errors import AssetError, UserError
from facedistill.export.onnx import INPUT
from facedistill.models.backbones import Backbone
from facedistill.models.backbones.quantized import QuantizedBackbone
from facedistill.models.onnx_session import cpu_session

if TYPE_CHECKING:
    import onnxruntime

LEAST_COSINE = 0.99999
LEAST_ROUNDED_COSINE = (
    0.995  # in 8 bits, where a difference in the last place of a sum can move a value by a step
)


def check_parity(backbone: Backbone, onnx_path: Path, images: Tensor) -> float:
    """Embeds the same faces with both, one at a time and as one batch.

    Args:
        backbone: The student; compared in eval mode and float32, left as it was.
        onnx_path: What `export_onnx` wrote.
        images: (N, 3, H, W) RGB in [-1, 1], N >= 1.

    Returns:
        Least cosine between the two embeddings of one face, over faces and batch sizes, [-1, 1].

    Raises:
        AssetError: If the ONNX file is missing or damaged.
        UserError: If any face's cosine is below `LEAST_COSINE`, or `LEAST_ROUNDED_COSINE` of a student in 8 bits, or not a
            number.
    """
    session = open_session(onnx_path)
    images = images.detach().cpu().float()
    expected = _embed(backbone, images).double()
    batches = {1: list(images.split(1)), len(images): [images]}
    cosines = []
    for batch in batches.values():
        found = torch.from_numpy(
            np.concatenate([session.run(None, {INPUT: part.numpy()})[0] for part in batch])
        )
        cosines.append(torch.cosine_similarity(found.double(), expected))
    found_least = float(torch.cat(cosines).min())
    least = LEAST_ROUNDED_COSINE if isinstance(backbone, QuantizedBackbone) else LEAST_COSINE
    if not found_least >= least:
        raise UserError(
            f"{onnx_path} does not embed as its student does (least cosine {found_least:.6f}, "
            f"needed {least}); do not use the file, export it again"
        )
    return found_least


def open_session(path: Path, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Opens an ONNX file on the CPU; `threads` of None leaves their number to ONNX Runtime.

    Raises:
        AssetError: If the file is missing or damaged.
    """
    if not path.is_file():
        raise AssetError(f"{path} does not exist; give the path of an ONNX file")
    try:
        return cpu_session(path, threads)
    except Exception as error:  # onnxruntime's error classes share no base but Exception
        raise AssetError(f"{path} is truncated or not an ONNX file; export it again") from error


@torch.no_grad()
def _embed(backbone: Backbone, images: Tensor) -> Tensor:
    modes = {module: module.training for module in backbone.modules()}
    parameter = next(backbone.parameters())
    try:
        return backbone.eval()(images.to(parameter.device, parameter.dtype)).cpu()
    finally:
        for module, training in modes.items():
            module.training = training
