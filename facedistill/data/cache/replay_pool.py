"""Faces rendered earlier in a run, kept as bytes so that they can be shown again."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facedistill.errors import UserError, reason
from facedistill.images import SIZE_PX, to_float, to_uint8


class FacePool:
    """The last `capacity` rendered faces, in a ring of twice as many in a memory-mapped file of uint8.

    The file belongs to the run: after an interruption the faces are still there, so a resumed run replays what
    the uninterrupted one would have. A killed run has put faces after its last checkpoint; the second half of the
    ring is there so that they overwrite none that the checkpoint needs, as long as not more than `capacity` are put
    between it and the kill.

    Args:
        capacity: Number of faces kept.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._shape = (2 * capacity, 3, SIZE_PX, SIZE_PX)
        self._path: Path | None = None
        self._faces: np.ndarray | None = None

    def open(self, path: Path, *, resumes: bool = False) -> None:
        """Backs the ring by `path`; an existing file of the right size is continued.

        Args:
            path: The file; made whole at once, so that a disk that is too small is known before training.
            resumes: Its faces are going to be replayed, so it must be there.

        Raises:
            UserError: If it should be there and is not, or cannot be made.
        """
        continues = path.exists() and path.stat().st_size == math.prod(self._shape)
        if resumes and not continues:
            raise UserError(
                f"{path} is missing or of another size, and the checkpoint next to it replays its faces; put it back, or "
                "force=true starts the run over"
            )
        if not continues:
            try:
                with path.open("wb") as file:
                    if hasattr(os, "posix_fallocate"):
                        os.posix_fallocate(file.fileno(), 0, math.prod(self._shape))
                    else:
                        file.truncate(math.prod(self._shape))
            except OSError as error:
                path.unlink(missing_ok=True)
                raise UserError(
                    f"{path} cannot be written ({reason(error)}) and needs {math.prod(self._shape):,} bytes; free space or "
                    "lower data.source.pool_images"
                ) from error
        self._faces = np.memmap(path, dtype=np.uint8, mode="r+", shape=self._shape)
        self._path = path

    def close(self) -> None:
        """Deletes the file: a finished run has no use for it."""
        self._faces = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def put(self, images: Tensor, position: int) -> None:
        """Stores images (N, C, H, W) in [-1, 1] as the faces number `position`, `position` + 1, …"""
        slots = (position + np.arange(len(images))) % (2 * self.capacity)
        self._ring[slots] = to_uint8(images).cpu().numpy()

    def take(self, draw: Tensor, num_rendered: int) -> Tensor:
        """Picks faces uniformly among those kept.

        Args:
            draw: (N,) standard normal numbers; their distribution function makes them uniform.
            num_rendered: How many faces were ever put, > 0.

        Returns:
            (N, C, H, W) in [-1, 1] on the device of `draw`.
        """
        kept = min(num_rendered, self.capacity)
        newest = (torch.special.ndtr(draw.double()) * kept).long().clamp(max=kept - 1).cpu().numpy()
        slots = (num_rendered - kept + newest) % (2 * self.capacity)
        return to_float(torch.from_numpy(self._ring[slots]).to(draw.device))

    @property
    def _ring(self) -> np.ndarray:
        if self._faces is None:  # without a run folder (tests, previews) the ring lives in memory
            self._faces = np.empty(self._shape, dtype=np.uint8)
        return self._faces
