"""UniFace: one learned threshold for all identities."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from facedistill.losses.margins import uniface
from facedistill.models.heads.own_margin import OwnMarginHead, Reduce


class UniFaceHead(OwnMarginHead):
    """Unified cross entropy, a sum of K binary ones: Zhou et al., ICCV 2023; formula in `margins.uniface`.

    Its logits are CosFace's (the bias is the same for every column, so a softmax over them does not see it).

    Args:
        margin_cos: m.
        impostor_weight: λ on the K - 1 other columns.
        **kwargs: Those of `OwnMarginHead`.

    Attributes:
        bias: () b, learned; log(10 K) at first, as in the released code.
    """

    def __init__(self, *, margin_cos: float = 0.4, impostor_weight: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.margin_cos = margin_cos
        self.impostor_weight = impostor_weight
        self.bias = nn.Parameter(torch.tensor(math.log(10 * self.num_identities)))

    def own_margin(self, own: Tensor, embeddings: Tensor) -> Tensor:
        """(N,) cos θ - m."""
        return own - self.margin_cos

    def losses(self, logits: Tensor, columns: Tensor, total: Reduce, highest: Reduce) -> Tensor:
        """(N,) the sum over all processes of `uniface` on each one's columns."""
        return total(self._plain_losses(logits, columns))

    def _plain_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        return uniface(logits, labels, self.bias, impostor_weight=self.impostor_weight)
