"""What every student network promises."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from facedistill.types import InputSpec


class Backbone(nn.Module):
    """A network from aligned face to embedding.

    `forward` takes (N, 3, H, W) RGB faces in [-1, 1] and returns (N, D) un-normalized embeddings.

    Attributes:
        embedding_dim: D.
        input_spec: The faces it is made for; a student always takes the package's own RGB in [-1, 1].
        arguments: Plain constructor arguments that build the same architecture again, without its weights.
    """

    embedding_dim: int
    input_spec: InputSpec
    arguments: Mapping[str, int | float | str | bool | None]

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, H, W) faces in [-1, 1] as (N, D) un-normalized embeddings."""
        raise NotImplementedError
