"""Any network of timm as a teacher, its weights from a local file under timm's own names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from facedistill.errors import ConfigError
from facedistill.models.teachers import checkpoint


class TimmNetwork(nn.Module):
    """`timm.create_model(name)` whose classifier is the embedding layer; nothing is downloaded.

    Attributes:
        embedding_dim: D.
    """

    def __init__(
        self, name: str, embedding_dim: int = 512, arguments: Mapping[str, Any] | None = None
    ) -> None:
        """Builds the network; its weights come from `facedistill.models.teachers.timm_network.convert`.

        Args:
            name: timm's.
            embedding_dim: D, rows of the classifier; the pooled features of the network where `arguments` holds
                `num_classes: 0`.
            arguments: More of `timm.create_model`, such as `img_size`.

        Raises:
            ConfigError: If timm has no such network, or does not take these arguments, or its width is another.
        """
        super().__init__()
        if not timm.is_model(name):
            near = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=3)
            hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists them"
            raise ConfigError(
                f"teacher.network.name={name}: timm {timm.__version__} has no such network; {hint}"
            )
        settings = {"num_classes": embedding_dim, **(arguments or {})}
        try:
            self.model = timm.create_model(name, pretrained=False, **settings)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            said = " ".join(str(error).split())[:120]
            raise ConfigError(
                f"teacher.network.arguments: timm's {name} does not take {settings} ({said})"
            ) from error
        width = settings["num_classes"] or self.model.num_features
        if width != embedding_dim:
            raise ConfigError(
                f"teacher.embedding_dim: {embedding_dim}, but {name} ends in {width}; set it to {width}"
            )
        self.embedding_dim = embedding_dim

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, size_px, size_px) faces as (N, D) un-normalized embeddings."""
        return self.model(images)


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """The tensors of a checkpoint for a `TimmNetwork`, which is held to them when it loads.

    Args:
        members: One checkpoint and its path.

    Raises:
        AssetError: If the file cannot be read safely.
    """
    return {
        f"model.{key.removeprefix('model.')}": value for key, value in checkpoint.convert(members).items()
    }
