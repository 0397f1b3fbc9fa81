"""Base class of networks whose architecture is part of their weights file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facedistill.errors import ConfigError
from facedistill.models.weights import read_weights


class FileNetwork(nn.Module):
    """Declared first, completed by its weights file, then loaded strictly like any other network.

    The architecture is in a uint8 buffer (B,), so it is fingerprinted, fetched and moved with the weights.

    Attributes:
        embedding_dim: D.
    """

    def __init__(self, embedding_dim: int, content: str) -> None:
        """Declares the network; `content` names the buffer."""
        super().__init__()
        self.embedding_dim = embedding_dim
        self._content = content
        self.register_buffer(content, torch.empty(0, dtype=torch.uint8))

    def allocate(self, weights: Path) -> dict[str, Tensor]:
        """Gives the buffer the size that it has in the safetensors file `weights`, and returns the file's tensors."""
        state = read_weights(weights)[0]
        if self._content in state:
            setattr(self, self._content, torch.empty_like(state[self._content]))
        return state


class FileProgram(FileNetwork):
    """A `FileNetwork` that another runtime runs; it is opened at the first batch."""

    def __init__(self, embedding_dim: int, content: str) -> None:
        """Declares the network; `content` names the buffer of the program."""
        super().__init__(embedding_dim, content)
        self.place = nn.Parameter(torch.empty(0))  # gives the module a device
        self._opened: Any = None

    def _checked(self, embeddings: Tensor) -> Tensor:
        if embeddings.shape[1:] != (self.embedding_dim,):
            raise ConfigError(
                f"teacher.embedding_dim: {self.embedding_dim}, but the {self._content}'s embeddings have shape "
                f"{tuple(embeddings.shape[1:])}"
            )
        return embeddings

    def __getstate__(self) -> dict[str, Any]:
        """A copy opens the program again."""
        return {**self.__dict__, "_opened": None}
