"""Loosely cropped faces with five landmarks, aligned as they are read: IJB's images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facedistill.errors import DataError
from facedistill.evaluation.protocols.images import decoded_in_threads
from facedistill.images import decode_face
from facedistill.models.detectors.similarity import align_face


class LooseCrops:
    """Images of any size in one folder, each brought to the ArcFace template by its landmarks.

    The similarity is Umeyama's, as in insightface's evaluator; the warp is antialiased, where that one's is
    plain bilinear.

    Args:
        folder: Of the images.
        names: (M,) file names.
        landmarks: (M, 5, 2) eyes, nose, mouth's corners in pixels of each image.
    """

    def __init__(self, folder: Path, names: Sequence[str], landmarks: np.ndarray) -> None:
        self.folder = folder
        self.names = list(names)
        self.landmarks = landmarks

    def __len__(self) -> int:
        return len(self.names)

    def batches(self, batch_size: int, indices: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Each face once; see `ImageSet.batches`.

        Raises:
            DataError: If an image is missing or broken, or its landmarks coincide.
        """
        return decoded_in_threads(self._aligned, range(len(self)) if indices is None else indices, batch_size)

    def fingerprint(self) -> str:
        """sha256 over names, sizes in bytes and landmarks; hundreds of thousands of files are not read for it."""
        digest = hashlib.sha256(np.ascontiguousarray(self.landmarks).tobytes())
        for name in self.names:
            digest.update(f"{name} {(self.folder / name).stat().st_size}\n".encode())
        return digest.hexdigest()

    def _aligned(self, index: int) -> Tensor:
        path = self.folder / self.names[index]
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise DataError(
                f"{path}: is not there, though the meta files name it; unpack the images again"
            ) from None
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror or error}); replace it") from error
        photograph = Image.fromarray(decode_face(data, str(path), size_px=None))
        try:
            face = align_face(photograph, self.landmarks[index])
        except ValueError as error:
            raise DataError(f"{path} cannot be aligned: {error}; mend its landmarks") from error
        return torch.from_numpy(np.array(face)).permute(2, 0, 1).contiguous()
