"""The base class of every student network."""

from __future__ import annotations

from torch import Tensor, nn

from facedistill.types import InputSpec

Argument = int | float | str | bool | None


class Backbone(nn.Module):
    """A network from aligned face to embedding.

    `forward` takes (N, 3, H, W) RGB faces in [-1, 1] and returns (N, D) un-normalized embeddings.

    Attributes:
        embedding_dim: D.
        input_spec: The faces that the network expects; always RGB in [-1, 1] for a student.
        arguments: Plain constructor arguments that rebuild the same architecture, without its weights.
    """

    embedding_dim: int
    input_spec: InputSpec

    def __init__(self, **arguments: Argument) -> None:
        """Records the constructor arguments of a subclass, `embedding_dim` among them."""
        super().__init__()
        self.arguments = arguments
        self.input_spec = InputSpec()
        if "embedding_dim" in arguments:
            self.embedding_dim = arguments["embedding_dim"]  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, H, W) faces in [-1, 1] as (N, D) un-normalized embeddings."""
        raise NotImplementedError

    def merge_branches(self) -> None:
        """Merges layers that training keeps apart, such as parallel convolutions, in place.

        Exported files hold the merged network. Its embeddings in eval mode, the only mode it is for, stay the same up to
        rounding. Does nothing in networks without such layers.
        """
