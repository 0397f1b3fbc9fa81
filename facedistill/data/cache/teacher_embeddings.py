"""What the teacher says of a fixed set of faces, computed once."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facedistill.data.cache.array import KeptArray
from facedistill.data.formats.face_set import FaceSet, read_faces
from facedistill.errors import DataError
from facedistill.images import to_float
from facedistill.models.teachers.team import Teacher, TeacherTeam

_BLOCK = 64


class TeacherCache:
    """Embeddings (N, D) of every image and of its mirror image, float16 on disk.

    The file's name is a hash of the teacher's fingerprint, precision and input spec, the set's fingerprint and the
    two views; float16 changes an embedding by less than 5e-4 of each element.

    Args:
        faces: The set.
        teacher: Frozen; asked only for what is missing.
        folder: Where the file lies.
        mirrored: Whether mirror images are embedded too.

    Raises:
        DataError: If embeddings are not finite or too large for float16, which those of a trained teacher never are.
    """

    def __init__(self, faces: FaceSet, teacher: Teacher, folder: Path, *, mirrored: bool) -> None:
        views = 2 if mirrored else 1
        members = teacher.members if isinstance(teacher, TeacherTeam) else [teacher]
        self._kept = KeptArray(
            folder,
            "teacher",
            {
                "teacher": teacher.fingerprint,
                "precision": teacher.precision,
                "input_specs": [asdict(member.input_spec) for member in members],  # type: ignore[call-overload]
                "faces": faces.fingerprint,
                "views": ["plain", "mirrored"][:views],
            },
            (len(faces), views, teacher.embedding_dim),
            np.float16,
        )
        device = next(teacher.network.parameters()).device

        def compute(start: int, stop: int) -> np.ndarray:
            images = read_faces(faces, np.arange(start, stop))
            shown = to_float(torch.from_numpy(images).to(device).permute(0, 3, 1, 2))
            both = [teacher(shown)] + ([teacher(shown.flip(-1))] if mirrored else [])
            return _as_float16(torch.stack(both, dim=1)).cpu().numpy()

        self._kept.fill(compute, block=_BLOCK, title="teacher embeddings, once")

    def embeddings(self, indices: Tensor, mirrored: Tensor | None = None) -> Tensor:
        """(n, D) float32 of the images `indices` (n,), mirrored where `mirrored` (n,) is true; on the CPU."""
        view = np.zeros(len(indices), dtype=np.int64) if mirrored is None else mirrored.cpu().long().numpy()
        return torch.from_numpy(self._kept[indices.cpu().numpy(), view].astype(np.float32))

    def all_embeddings(self) -> Tensor:
        """(N, D) float32 of the plain images."""
        return torch.from_numpy(self._kept[:, 0].astype(np.float32))


def _as_float16(embeddings: Tensor) -> Tensor:
    largest, limit = float(embeddings.abs().amax()), torch.finfo(torch.float16).max
    if not largest <= limit:  # also where it is no number
        raise DataError(
            f"teacher: its embeddings reach {largest:.3g}, and those that are kept must be within {limit:,.0f}; check that "
            "teacher.file holds trained weights, and teacher.input_spec"
        )
    return embeddings.half()
