"""Faces rendered earlier in a run, kept as bytes so that they can be shown again."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class FacePool:
    """A ring of the last `capacity` rendered faces in a memory-mapped file of uint8.

    The file belongs to the run: after an interruption the faces are still there, so a resumed run replays what
    the uninterrupted one would have.

    Args:
        capacity: Number of faces kept.
        shape: C, H, W of one face.
    """

    def __init__(self, capacity: int, shape: tuple[int, int, int] = (3, 112, 112)) -> None:
        self.capacity = capacity
        self.shape = shape
        self._path: Path | None = None
        self._faces: np.ndarray | None = None

    def open(self, path: Path) -> None:
        """Backs the ring by `path`; an existing file of the right size is continued."""
        size = self.capacity * math.prod(self.shape)
        continues = path.exists() and path.stat().st_size == size
        self._faces = np.memmap(
            path, dtype=np.uint8, mode="r+" if continues else "w+", shape=(self.capacity, *self.shape)
        )
        self._path = path

    def close(self) -> None:
        """Deletes the file: a finished run has no use for it."""
        self._faces = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def put(self, images: Tensor, position: int) -> None:
        """Stores images (N, C, H, W) in [-1, 1] as the faces number `position`, `position` + 1, …"""
        slots = (position + np.arange(len(images))) % self.capacity
        self._ring[slots] = images.mul(127.5).add(127.5).round().clamp(0, 255).byte().cpu().numpy()

    def take(self, draw: Tensor, num_rendered: int) -> Tensor:
        """Picks faces uniformly among those kept.

        Args:
            draw: (N,) standard normal numbers; their distribution function makes them uniform.
            num_rendered: How many faces were ever put, > 0.

        Returns:
            (N, C, H, W) in [-1, 1] on the device of `draw`.
        """
        kept = min(num_rendered, self.capacity)
        slots = (torch.special.ndtr(draw.double()) * kept).long().clamp(max=kept - 1).cpu().numpy()
        return torch.from_numpy(self._ring[slots]).to(draw.device).float().sub_(127.5).div_(127.5)

    @property
    def _ring(self) -> np.ndarray:
        if self._faces is None:  # without a run folder (tests, previews) the ring lives in memory
            self._faces = np.empty((self.capacity, *self.shape), dtype=np.uint8)
        return self._faces
