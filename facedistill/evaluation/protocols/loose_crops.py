"""Loosely cropped faces with five landmarks, aligned when they are read: IJB's images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facedistill.errors import DataError
from facedistill.evaluation.protocols.archives import read_bytes
from facedistill.evaluation.protocols.images import DecodedImages
from facedistill.images import decode_face
from facedistill.models.detectors.similarity import align_face


class LooseCrops(DecodedImages):
    """Images of any size in one folder, each aligned to the ArcFace template by its landmarks.

    The similarity is Umeyama's, as in insightface's evaluator; the warp is antialiased, where insightface's is
    plain bilinear.

    Args:
        folder: Contains the images.
        names: (M,) file names.
        landmarks: (M, 5, 2) eyes, nose, mouth corners in pixels of each image.
    """

    def __init__(self, folder: Path, names: Sequence[str], landmarks: np.ndarray) -> None:
        super().__init__(names)
        self.folder = folder
        self.landmarks = landmarks

    def _decode(self, index: int) -> Tensor:
        path = self.folder / self.names[index]
        if not path.is_file():
            raise DataError(f"{path}: is missing, and the meta files name it; unpack the images again")
        data = read_bytes(path)
        photograph = Image.fromarray(decode_face(data, str(path), size_px=None))
        try:
            face = align_face(photograph, self.landmarks[index])
        except ValueError as error:
            raise DataError(f"{path} cannot be aligned: {error}; fix its landmarks") from error
        return torch.from_numpy(np.array(face)).permute(2, 0, 1).contiguous()
