"""Embeds the faces of a protocol."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.distributed.collectives import gather_constant, rank, world_size
from facedistill.evaluation.protocols.base import Flip, Protocol
from facedistill.images import to_float
from facedistill.system.progress import ProgressBar

FLIPS = ("none", "sum", "unit_sum", "both")


def embed(
    backbone: nn.Module,
    protocol: Protocol,
    *,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    flip: Flip = "none",
    shared: bool = False,
    quiet: bool = False,
) -> Tensor:
    """Embeds each distinct face of a protocol once.

    The network is moved to `device` and runs in eval mode; then each module returns to its previous mode.

    Args:
        backbone: A student or a `FrozenTeacher`: (N, 3, 112, 112) RGB in [-1, 1] -> (N, D).
        protocol: Provides the faces.
        batch_size: Faces per forward pass.
        device: Where the network runs.
        flip: `none`: the embedding a of the face. At twice the cost, with the embedding b of its mirror image:
            `sum` a + b (insightface, TFace); `unit_sum` a / |a| + b / |b|; `both` (M, 2 D), a followed by b.
        shared: Every process of the group calls this, each embeds its share of the faces, and all get all
            embeddings; otherwise the calling process embeds all faces.
        quiet: Shows no progress.

    Returns:
        (M, D) float32 on the CPU, un-normalized, in the order of `protocol.images`.
    """
    if flip not in FLIPS:
        raise ValueError(f"flip must be {', '.join(FLIPS[:-1])} or {FLIPS[-1]}, got {flip!r}")
    own, processes = (rank(), world_size()) if shared else (0, 1)
    share = _share(protocol.num_images, own, processes)
    modes = {module: module.training for module in backbone.modules()}
    embeddings = []
    try:
        backbone.to(device).eval()
        with (
            torch.inference_mode(),
            ProgressBar(protocol.name, len(share), quiet=quiet or own > 0) as progress,
        ):
            for faces in protocol.images(batch_size, share):
                images = to_float(faces.to(device))
                embeddings.append(_embedded(backbone, images, flip).float().cpu())
                progress.advance(len(faces))
    finally:
        for module, training in modes.items():
            module.training = training
    if processes == 1:
        return torch.cat(embeddings)
    return _joined(embeddings, protocol.num_images, torch.device(device))


def _embedded(backbone: nn.Module, images: Tensor, flip: Flip) -> Tensor:
    plain = backbone(images)
    if flip == "none":
        return plain
    mirrored = backbone(images.flip(-1))
    if flip == "sum":
        return plain + mirrored
    if flip == "unit_sum":
        return F.normalize(plain.float(), dim=1) + F.normalize(mirrored.float(), dim=1)
    return torch.cat([plain, mirrored], dim=1)


def _share(num_images: int, rank_: int, world_size_: int) -> range:
    """Consecutive faces of one process; shares are disjoint and differ by at most one face."""
    return range(rank_ * num_images // world_size_, (rank_ + 1) * num_images // world_size_)


def _joined(embeddings: list[Tensor], num_images: int, device: torch.device) -> Tensor:
    """(M, D) from the shares of all processes, which are padded to equal length for gathering."""
    most = -(-num_images // world_size())
    width = torch.tensor([embeddings[0].shape[1] if embeddings else 0], device=device)
    padded = torch.zeros(most, int(gather_constant(width).max()))
    filled = 0
    for batch in embeddings:
        padded[filled : filled + len(batch)] = batch
        filled += len(batch)
    parts = gather_constant(padded.to(device)).cpu().view(world_size(), most, -1)
    return torch.cat([part[: len(_share(num_images, r, world_size()))] for r, part in enumerate(parts)])
