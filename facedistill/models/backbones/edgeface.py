"""EdgeFace (George et al., 2023): timm's EdgeNeXt, in its smaller sizes with low-rank linear layers."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from facedistill.errors import ConfigError
from facedistill.models.backbones.base import Backbone

Size = Literal["xxs", "xs", "s", "base"]
SIZES: dict[str, tuple[str, float | None]] = {
    "xxs": ("edgenext_xx_small", None),
    "xs": ("edgenext_x_small", 0.6),
    "s": ("edgenext_small", 0.5),
    "base": ("edgenext_base", None),
}
"""timm's name, and the rank as a share (gamma) of the narrower side; None keeps full linear layers."""


class EdgeFace(Backbone):
    """EdgeFace-XS (γ = 0.6) and -S (γ = 0.5), and with full linear layers -XXS and -Base.

    Every linear layer of -XS and -S is a pair: W ≈ W₂ W₁ with rank max(2, ⌊γ · min(in, out)⌋), the bias on the
    second. The stem is EdgeNeXt's 4x4 convolution of stride 4, so 112 px end in a 4 x 4 map.
    """

    def __init__(self, size: Size, embedding_dim: int = 512) -> None:
        """Builds the network, weights drawn at random.

        Args:
            size: "xxs", "xs", "s" or "base".
            embedding_dim: D; the published networks have 512.

        Raises:
            ConfigError: If there is no such size.
        """
        super().__init__(size=size, embedding_dim=embedding_dim)
        if size not in SIZES:
            raise ConfigError(f"backbone.size: EdgeFace has no size {size!r}; choose {', '.join(SIZES)}")
        name, share = SIZES[size]
        import timm

        self.model = timm.create_model(name, num_classes=embedding_dim)
        for key, layer in list(self.model.named_modules()):
            if share is not None and isinstance(layer, nn.Linear):
                self.model.set_submodule(key, LowRank(layer.in_features, layer.out_features, share))

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) RGB faces in [-1, 1] as (N, D) un-normalized embeddings."""
        return self.model(images)


class LowRank(nn.Module):
    """A linear layer as the product of two: (…, in) → (…, max(2, ⌊share · min(in, out)⌋)) → (…, out)."""

    def __init__(self, in_features: int, out_features: int, share: float) -> None:
        super().__init__()
        rank = max(2, int(min(in_features, out_features) * share))
        self.linear1 = nn.Linear(in_features, rank, bias=False)
        self.linear2 = nn.Linear(rank, out_features)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear2(self.linear1(features))
