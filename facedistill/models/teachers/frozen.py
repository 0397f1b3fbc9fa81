"""The wrapper of every teacher: never trained, always in eval mode, never saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.errors import ConfigError
from facedistill.models.compilation import compiled, forget_graphs
from facedistill.models.fingerprint import state_fingerprint
from facedistill.models.imported import embedding_width
from facedistill.models.teachers.file_network import FileNetwork
from facedistill.models.weights import load_strictly
from facedistill.system.devices import Precision, usable_precision
from facedistill.types import InputSpec


class FrozenTeacher(nn.Module):
    """A network that is only imitated.

    The network is not a registered submodule, so no optimizer, checkpoint, gradient hook, sharding strategy or
    `train()` of a parent reaches it. It follows its parent's device, never its dtype.

    >>> import tempfile
    >>> from facedistill.models.weights import write_weights
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 112 * 112, 4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_weights(Path(folder) / "weights.safetensors", network.state_dict(), {})
    ...     teacher = FrozenTeacher(network, Path(folder) / "weights.safetensors", InputSpec())
    >>> teacher(torch.zeros(2, 3, 112, 112)).shape
    torch.Size([2, 4])

    Attributes:
        network: The network itself, in eval mode, no parameter requiring a gradient.
        embedding_dim: D of the teacher.
        input_spec: What the network expects; `forward` adapts the package's faces to it.
        fingerprint: sha256 of the network's state.
    """

    network: nn.Module
    _run: Callable[[Tensor], Tensor]

    def __init__(
        self,
        network: nn.Module,
        weights: Path,
        input_spec: InputSpec,
        precision: Precision = "fp32",
        compile: bool | Literal["auto"] = False,
    ) -> None:
        """Loads the weights strictly and freezes the network.

        Args:
            network: Maps (N, 3, size_px, size_px) to (N, D); one of another package needs no `embedding_dim`.
            weights: safetensors file with exactly the network's keys.
            input_spec: What the network expects.
            precision: "fp32", or "bf16" for autocast; independent of the trainer's precision.
            compile: True compiles the network at its first call; "auto" does so if possible, and else prints a
                message.

        Raises:
            AssetError: If the weights are missing, damaged, or not this network's.
            ConfigError: If `precision` or `compile` is none of these, or a network of another package gives no embeddings.
        """
        super().__init__()
        if precision not in get_args(Precision):
            raise ConfigError(f"teacher.precision: expected fp32 or bf16, got {precision!r}")
        if compile not in (True, False, "auto"):
            raise ConfigError(f"teacher.compile: expected true, false or auto, got {compile!r}")
        if isinstance(network, FileNetwork):
            network.allocate(Path(weights))
        load_strictly(network, Path(weights))
        network.eval().requires_grad_(False)
        self.fingerprint = state_fingerprint(network)
        if type(network).__module__.startswith("facedistill."):
            self.embedding_dim = int(network.embedding_dim)  # type: ignore[arg-type]
        else:
            what = f"teacher.network: {type(network).__name__}"
            self.embedding_dim = embedding_width(network, what, input_spec.size_px)
        self.input_spec = input_spec
        self.precision = usable_precision(precision, "teacher.precision")
        network.to(memory_format=torch.channels_last)
        object.__setattr__(self, "network", network)
        slower = "at two thirds of its speed"
        run = compiled(network, compile, what="teacher", key="teacher.compile", otherwise=slower, frozen=True)
        object.__setattr__(self, "_run", run)
        self.eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Embeds faces.

        Args:
            images: (N, 3, H, W) RGB in [-1, 1], any floating dtype.

        Returns:
            (N, D) raw float32 embeddings, without gradient.
        """
        half = torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")
        # Outside inference mode, so that training and validation share one compiled graph.
        with torch.inference_mode(False), torch.no_grad(), half:
            adapted = adapt(images.float(), self.input_spec).contiguous(memory_format=torch.channels_last)
            # Another tensor object than the batch's images: the student is compiled for its one batch size.
            adapted = adapted.clone() if adapted.is_inference() else adapted.detach()
            torch._dynamo.maybe_mark_dynamic(adapted, 0)  # one compiled graph for any batch
            return self._run(adapted).float()

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode, whatever `mode`."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        device = fn(torch.empty(0, device=next(self.network.parameters()).device)).device
        if device.type != "meta":
            self.network.to(device)
            forget_graphs(self._run)
        return super()._apply(fn, recurse)

    def extra_repr(self) -> str:
        """Network, precision and the start of the fingerprint."""
        return f"{type(self.network).__name__}, {self.precision}, fingerprint={self.fingerprint[:8]}"


def adapt(images: Tensor, spec: InputSpec) -> Tensor:
    """Converts RGB faces in [-1, 1] to what `spec` describes.

    Args:
        images: (N, 3, H, W) RGB in [-1, 1].
        spec: Size, color order, and mean and std on the scale of 0..255.

    Returns:
        (N, 3, size_px, size_px); `images` itself if nothing changes.
    """
    if images.shape[-2:] != (spec.size_px, spec.size_px):
        size = (spec.size_px, spec.size_px)
        images = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
    if spec.color == "BGR":
        images = images.flip(1)
    if (spec.mean, spec.std) != (127.5, 127.5):
        images = (images * 127.5 + (127.5 - spec.mean)) / spec.std
    return images
