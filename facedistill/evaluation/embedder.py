"""From a network and a protocol to embeddings."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from torch import Tensor, nn

from facedistill.evaluation.protocol import Protocol

Flip: TypeAlias = Literal["none", "sum"]


def embed(
    backbone: nn.Module,
    protocol: Protocol,
    *,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    flip: Flip = "none",
    quiet: bool = False,
) -> Tensor:
    """Embeds each distinct face of a protocol once.

    The network is moved to `device`, runs in eval mode, and every module is left in the mode it had.

    Args:
        backbone: A student or a `FrozenTeacher`: (N, 3, 112, 112) RGB in [-1, 1] -> (N, D).
        protocol: Where the faces come from.
        batch_size: Faces per forward pass.
        device: Where the network runs.
        flip: `none`, or `sum`: the embeddings of a face and of its mirror image are added, at twice the cost.
        quiet: Draws no progress bar.

    Returns:
        (M, D) float32 on the CPU, un-normalized, in the order of `protocol.images`.
    """
    if flip not in ("none", "sum"):
        raise ValueError(f"flip must be none or sum, got {flip!r}")
    modes = {module: module.training for module in backbone.modules()}
    embeddings = []
    try:
        backbone.to(device).eval()
        with torch.inference_mode(), face_progress(quiet) as progress:
            task = progress.add_task(protocol.name, total=protocol.num_images)
            for faces in protocol.images(batch_size):
                images = faces.to(device).float().sub_(127.5).div_(127.5)
                batch = backbone(images)
                if flip == "sum":
                    batch = batch + backbone(images.flip(-1))
                embeddings.append(batch.float().cpu())
                progress.advance(task, len(faces))
    finally:
        for module, training in modes.items():
            module.training = training
    return torch.cat(embeddings)


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f} images/s" if speed else "")


def face_progress(quiet: bool) -> Progress:
    """A progress bar on standard error that counts faces and shows their speed."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet,
    )
