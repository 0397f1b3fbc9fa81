"""Centers of a teacher's identities: they replace the classifier it was published without."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.errors import ConfigError, DataError
from facedistill.models.heads.base import MarginHead


def mean_centers(embeddings: Tensor, labels: Tensor, num_identities: int) -> Tensor:
    """Mean direction of each identity's unit embeddings: center_k = normalize(sum over k's images of f / ‖f‖).

    Summed in float64, so that the order of the images changes nothing that float32 can show.

    Args:
        embeddings: (M, D) teacher embeddings of any norm > 0.
        labels: (M,) identity index in [0, K).
        num_identities: K.

    Returns:
        (K, D) unit centers, float32 or better.

    Raises:
        DataError: If an identity has no image, or embeddings that cancel out.
    """
    sums = torch.zeros(num_identities, embeddings.shape[1], dtype=torch.double, device=embeddings.device)
    sums.index_add_(0, labels, F.normalize(embeddings.double()))
    norms = sums.norm(dim=1)
    without = torch.nonzero(norms < 1e-9).flatten().tolist()
    if without:
        raise DataError(
            f"teacher centers: {len(without)} of {num_identities} identities have no usable teacher embedding, "
            f"the first is {without[0]}; leave them out of the training set"
        )
    dtype = embeddings.dtype if embeddings.dtype == torch.double else torch.float32
    return (sums / norms[:, None]).to(dtype)


def trained_centers(
    embeddings: Tensor,
    labels: Tensor,
    num_identities: int,
    head: MarginHead,
    *,
    epochs: int = 10,
    batch_size: int = 512,
    progress: Callable[[int, int, float], None] | None = None,
) -> Tensor:
    """Centers of a margin head trained on the frozen teacher's embeddings, from their means on.

    SGD with momentum 0.9 and a cosine decay of the rate to 0, over the embeddings in a fixed order. Nothing of the teacher changes, no image is needed. Epochs and rate are ours.

    Args:
        embeddings: (M, D) teacher embeddings.
        labels: (M,) identity index in [0, K).
        num_identities: K.
        head: Head with K identities of width D, in the state it starts from; its weight is overwritten and
            trained in place.
        epochs: Passes over the embeddings, >= 0; 0 returns the means.
        batch_size: Embeddings per step.
        progress: Called after each step with (steps done, steps in all, loss).

    Returns:
        (K, D) unit centers on the device of `embeddings`.

    Raises:
        ConfigError: If the head has not just one center per identity in this process.
        DataError: As `mean_centers`.
    """
    if getattr(head, "weight", torch.empty(0)).shape != (num_identities, embeddings.shape[1]):
        raise ConfigError(
            f"data.centers=trained: needs a plain head with 1 center per identity, got {type(head).__name__}; "
            "set data.centers=mean"
        )
    head.to(embeddings.device)
    with torch.no_grad():
        head.weight.copy_(mean_centers(embeddings, labels, num_identities))
    optimizer = torch.optim.SGD([head.weight], lr=0.1, momentum=0.9)
    steps = epochs * -(-len(embeddings) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    order, done = torch.Generator().manual_seed(0), 0
    head.train()
    for _ in range(epochs):
        for indices in torch.randperm(len(embeddings), generator=order).split(batch_size):
            chosen = indices.to(embeddings.device)
            with torch.enable_grad():
                loss = head(embeddings[chosen], labels[chosen]).mean()
                (head.weight.grad,) = torch.autograd.grad(loss, head.weight)
            optimizer.step()
            schedule.step()
            done += 1
            if progress is not None:
                progress(done, steps, loss.item())
    return F.normalize(head.weight.detach())
