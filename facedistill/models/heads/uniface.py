"""UniFace: one learned threshold for all identities."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from facedistill.losses.margins import uniface
from facedistill.models.heads.base import MarginHead


class UniFaceHead(MarginHead):
    """Unified cross entropy, a sum of K binary ones: Zhou et al., ICCV 2023; formula in `margins.uniface`.

    Its logits are CosFace's (the bias is the same for every column, so a softmax over them does not see it).

    Args:
        margin_cos: m.
        impostor_weight: λ on the K - 1 other columns.
        **kwargs: Those of `MarginHead`.

    Attributes:
        bias: () b, learned; log(10 K) at first, as in the released code.
    """

    def __init__(self, *, margin_cos: float = 0.4, impostor_weight: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.margin_cos = margin_cos
        self.impostor_weight = impostor_weight
        self.bias = nn.Parameter(torch.tensor(math.log(10 * self.num_identities)))

    def target_margin(self, target: Tensor, embeddings: Tensor) -> Tensor:
        """(R,) cos θ - m."""
        return target - self.margin_cos

    def row_losses(self, logits: Tensor, columns: Tensor) -> Tensor:
        """(R,) the sum over the parts of `uniface` on the columns of each."""
        return self.partition.total(uniface(logits, columns, self.bias, impostor_weight=self.impostor_weight))
