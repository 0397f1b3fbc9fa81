"""Networks of the user's own package as students and teachers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from facedistill.errors import ConfigError, reason
from facedistill.models.backbones.base import Backbone


class ImportedBackbone(Backbone):
    """Any `nn.Module` as a student; its file names the class by its dotted path.

    Attributes:
        network: The user's network, with or without an `embedding_dim`.
        path: Dotted path of the class or function that made it.
        arguments: What it was called with; JSON-ready.
    """

    def __init__(self, network: nn.Module, path: str, arguments: Mapping[str, Any]) -> None:
        """Finds D with one batch of gray faces.

        Raises:
            ConfigError: See `embedding_width`.
        """
        super().__init__()
        self.network, self.path, self.arguments = network, path, dict(arguments)
        self.embedding_dim = embedding_width(network, f"backbone: {path}", self.input_spec.size_px)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) faces in [-1, 1] as (N, D) un-normalized embeddings."""
        return self.network(images)


@torch.no_grad()
def embedding_width(network: nn.Module, what: str, size_px: int) -> int:
    """D of a network, from two gray faces in eval mode.

    Args:
        network: Maps (N, 3, size_px, size_px) to (N, D); its modes stay as they are.
        what: What it is, for the message.
        size_px: Side of the faces.

    Raises:
        ConfigError: If it is no module, cannot embed two faces, returns anything but (2, D), or has an `embedding_dim` other
            than D.

    >>> embedding_width(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5)), "backbone", 8)
    5
    """
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"{what} makes a {type(network).__name__}, not a torch.nn.Module; name a class of networks"
        )
    modes = {module: module.training for module in network.modules()}
    device = next((parameter.device for parameter in network.parameters()), None)
    try:
        found = network.eval()(torch.zeros(2, 3, size_px, size_px, device=device))
    except Exception as error:  # whatever the user's code raises
        raise ConfigError(
            f"{what} cannot embed faces (2, 3, {size_px}, {size_px}) ({type(error).__name__}: {reason(error):.160})"
        ) from error
    finally:
        for module, training in modes.items():
            module.training = training
    if not isinstance(found, Tensor):
        raise ConfigError(f"{what} returns a {type(found).__name__}; return the embeddings (N, D) alone")
    if found.ndim != 2 or len(found) != 2:
        raise ConfigError(f"{what} returns {tuple(found.shape)} for two faces; return embeddings (N, D)")
    said = getattr(network, "embedding_dim", found.shape[1])
    if said != found.shape[1]:
        raise ConfigError(
            f"{what} has embedding_dim={said}, and its embeddings have {found.shape[1]} dimensions; correct the attribute"
        )
    return found.shape[1]
