"""A network whose very architecture comes with its file."""

from __future__ import annotations

from pathlib import Path

from torch import nn


class FileNetwork(nn.Module):
    """Declared first, completed by its weights file; then loaded strictly like any other network.

    Attributes:
        embedding_dim: D.
    """

    embedding_dim: int

    def make_room(self, weights: Path) -> None:
        """Makes every parameter and buffer that the safetensors file `weights` will fill."""
        raise NotImplementedError
