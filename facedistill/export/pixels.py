"""Preprocessing inside the graph: 8-bit pixels in, unit embeddings out."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.images import to_uint8
from facedistill.types import InputSpec

Pixels: TypeAlias = Literal["float", "rgb", "bgr"]
PIXELS: tuple[Pixels, ...] = ("float", "rgb", "bgr")


def as_pixels(name: str | None) -> Pixels:
    """The kind of input that a file's metadata names; files without the entry take scaled floats."""
    return next((pixels for pixels in PIXELS if pixels == name), "float")


def as_input(images: Tensor, pixels: Pixels) -> Tensor:
    """(N, 3, H, W) RGB images in [-1, 1] as a file takes them.

    >>> import torch
    >>> as_input(torch.ones(1, 3, 2, 2), "bgr").shape
    torch.Size([1, 2, 2, 3])
    """
    if pixels == "float":
        return images.contiguous()
    rgb = to_uint8(images).permute(0, 2, 3, 1)
    return (rgb if pixels == "rgb" else rgb.flip(-1)).contiguous()


class PixelInput(nn.Module):
    """A network that takes 8-bit pixels, (N, H, W, 3) uint8, and returns (N, D) unit embeddings.

    Args:
        network: (N, 3, H, W) float images, in the color order and scale of `spec`, -> (N, D).
        spec: What `network` takes.
        order: Color order of the pixels, "rgb" or "bgr".

    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 8))
    >>> pixels = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    >>> PixelInput(network, InputSpec(size_px=4), "bgr")(pixels).norm(dim=1)
    tensor([1.0000, 1.0000], grad_fn=<LinalgVectorNormBackward0>)
    """

    def __init__(self, network: nn.Module, spec: InputSpec, order: Literal["rgb", "bgr"]) -> None:
        super().__init__()
        self.network, self.spec = network, spec
        self.reverses = order.upper() != spec.color

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 -> (N, D) unit embeddings."""
        images = pixels.float().permute(0, 3, 1, 2)
        if self.reverses:
            images = images.flip(1)
        return F.normalize(self.network((images - self.spec.mean) / self.spec.std))


def contract(spec: InputSpec, pixels: Pixels = "float") -> str:
    """What a caller must feed, in one sentence."""
    if pixels != "float":
        return (
            f"{pixels.upper()} aligned faces of {spec.size_px}x{spec.size_px} px, uint8 (N, H, W, 3), values 0..255; "
            "the embeddings have unit length"
        )
    return (
        f"{spec.color} aligned faces of {spec.size_px}x{spec.size_px} px, float32 (N, 3, H, W), "
        f"(x - {spec.mean}) / {spec.std} of values 0..255"
    )
