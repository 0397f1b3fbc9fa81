"""Agreement of two students' identity posteriors: tensors to one value per image."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from facedistill.losses.precision import at_least_float32


def peer_divergence(logits: Tensor, peer_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Deep mutual learning (after Zhang et al., CVPR 2018): KL(p_peer ‖ p) per image.

    L_i = temperature² · sum_k p_peer,ik · (log p_peer,ik - log p_ik), p = softmax(logits / temperature)

    Args:
        logits: (N, K) of the student that learns.
        peer_logits: (N, K) of the other; receives no gradient.
        temperature: > 0; 1 in the paper.

    Returns:
        (N,) divergences >= 0.
    """
    log_p = F.log_softmax(at_least_float32(logits) / temperature, 1)
    log_q = F.log_softmax(at_least_float32(peer_logits.detach()) / temperature, 1)
    return temperature**2 * F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(1)
