"""From stored files to the faces that networks are shown."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from facedistill.data.face_set import FaceSet
from facedistill.decode import SIZE_PX, decode_face


def read_faces(faces: FaceSet, indices: np.ndarray) -> np.ndarray:
    """Decoded faces, (n, 112, 112, 3) uint8 RGB, of `indices` (n,).

    Raises:
        DataError: If an image cannot be decoded or has another size.
    """
    images = np.empty((len(indices), SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    for row, index in zip(images, indices.tolist(), strict=True):
        row[:] = decode_face(faces.encoded(index), faces.where(index))
    return images


def to_faces(images: Tensor) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) RGB in [-1, 1]."""
    return images.permute(0, 3, 1, 2).to(torch.float32, copy=True).sub_(127.5).div_(127.5)
