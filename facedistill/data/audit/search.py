"""The nearest training image of every benchmark image, by a teacher that embeds both sets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.data.audit.result import Audit
from facedistill.data.formats.face_set import FaceSet
from facedistill.errors import DataError
from facedistill.images import SIZE_PX, decode_face, to_float
from facedistill.system.devices import default_device
from facedistill.system.progress import ProgressBar

_BATCH = 64


def audit(
    train: FaceSet, benchmark: FaceSet, teacher: nn.Module, *, threshold: float = 0.7, quiet: bool = False
) -> Audit:
    """Finds the nearest training image of every benchmark image; no training embedding is kept.

    Args:
        train: Training faces, any number.
        benchmark: Benchmark faces; M·D numbers are held in memory.
        teacher: (N, 3, 112, 112) in [-1, 1] to (N, D), in eval mode.
        threshold: Cosine from which on a match counts.
        quiet: Shows no progress.

    Raises:
        DataError: If one of the sets has no readable image.
    """
    device = default_device()
    teacher = teacher.to(device)
    unreadable: list[str] = []
    parts = list(_embedded(benchmark, teacher, device, "embedding the benchmark", unreadable, quiet))
    if not parts:
        raise DataError(f"audit: the benchmark has no readable image ({unreadable[0]})")
    indices = np.concatenate([part[0] for part in parts])
    wanted = torch.cat([part[1] for part in parts])
    best = torch.full((len(wanted),), -2.0, device=device)
    match = torch.zeros(len(wanted), dtype=torch.int64, device=device)
    count = 0
    for positions, embeddings in _embedded(train, teacher, device, "searching", unreadable, quiet):
        cosine, row = (wanted @ embeddings.T).max(dim=1)
        nearer = cosine > best
        best = torch.where(nearer, cosine, best)
        match = torch.where(nearer, torch.from_numpy(positions).to(device)[row], match)
        count += len(positions)
    if not count:
        raise DataError(f"audit: the training set has no readable image ({unreadable[-1]})")
    cosines = best.clamp(-1, 1).cpu().numpy()
    return Audit(threshold, indices, cosines, match.cpu().numpy(), count, unreadable)


def _embedded(
    faces: FaceSet, teacher: nn.Module, device: torch.device, title: str, unreadable: list[str], quiet: bool
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Positions (n,) and unit embeddings (n, D) of the readable images, block by block."""
    with ProgressBar(title, len(faces), quiet=quiet) as progress:
        for start in range(0, len(faces), _BATCH):
            numbers = range(start, min(start + _BATCH, len(faces)))
            positions, images = [], []
            for number in numbers:
                try:
                    images.append(decode_face(faces.encoded(number), faces.where(number), SIZE_PX))
                    positions.append(number)
                except DataError as error:
                    unreadable.append(str(error))
            if images:
                with torch.inference_mode():
                    batch = to_float(torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2))
                    yield np.array(positions), F.normalize(teacher(batch).float(), dim=1)
            progress.advance(len(numbers))
