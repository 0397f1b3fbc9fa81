"""Any network of timm as a teacher, with weights from a local file under timm's names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from facedistill.errors import ConfigError
from facedistill.models.backbones.any_timm import check_timm_name
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
            embedding_dim: D, rows of the classifier, or width of the pooled features if `arguments` has `num_classes: 0`.
            arguments: Other arguments of `timm.create_model`, such as `img_size`.

        Raises:
            ConfigError: If timm has no such network, or does not take these arguments, or its width is another.
        """
        import timm

        super().__init__()
        check_timm_name("teacher.network.name", name)
        settings = {"num_classes": embedding_dim, **(arguments or {})}
        try:
            self.model = timm.create_model(name, pretrained=False, **settings)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise ConfigError(
                f"teacher.network.arguments: timm's {name} does not take {settings} ({' '.join(str(error).split()):.120})"
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
    """The tensors of a checkpoint for a `TimmNetwork`, checked when it loads them.

    Args:
        members: One checkpoint and its path.

    Raises:
        AssetError: If the file cannot be read safely.
    """
    return {
        f"model.{key.removeprefix('model.')}": value for key, value in checkpoint.convert(members).items()
    }
