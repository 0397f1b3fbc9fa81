"""Base class of face generators: latents to aligned 112x112 faces, never trained, always in eval mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from facedistill.errors import AssetError, ConfigError
from facedistill.models.compilation import compiled, forget_graphs
from facedistill.system.devices import Precision, usable_precision


class FrozenGenerator(nn.Module):
    """A generator that only renders. Its mapping runs in float32 at any precision.

    A subclass registers the buffers and `mapping` in its constructor, ends it with `_freeze`, and defines `frame`.

    Attributes:
        latent_dim: L, the width of z and of w.
        mean_w: (L,) mean of w = map(z) over z ~ N(0, I).
        cholesky_w: (L, L) lower triangular with L Lᵀ = Cov(w).
        rows: (112, H) and
        columns: (112, W), the matrices of the crop: face = rows @ frame @ columnsᵀ.
        native_size: Height and width in pixels of the full image.
    """

    latent_dim: int
    native_size: int
    micro_batch: int | None
    mean_w: Tensor
    cholesky_w: Tensor
    rows: Tensor
    columns: Tensor
    mapping: nn.Module
    _render: Callable[..., Tensor]

    def prepare(self, w: Tensor) -> Tensor:
        """What `frame` takes, one row for each of (N, L) styles: what is best computed for all images at once."""
        return w

    def frame(self, prepared: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """The part of the image that the crop reads, (N, 3, H, W) in any floating dtype, not clamped, from `prepare`."""
        raise NotImplementedError

    def native(self, w: Tensor) -> Tensor:
        """The full images of (N, L) styles, before any crop: (N, 3, native_size, native_size) float32 in [-1, 1]."""
        raise NotImplementedError

    def _freeze(
        self, micro_batch: int | None, compile: bool | Literal["auto"], batches: tuple[int, int]
    ) -> None:
        """Ends a constructor: disables gradients, sets eval mode, and sets how `render` splits and compiles its work.

        Args:
            micro_batch: Images rendered at once; None takes one of `batches`.
            compile: As `compiled` takes it.
            batches: Images rendered at once on a CPU, and elsewhere.

        Raises:
            ConfigError: If an option is unknown.
        """
        check_options(compile=(compile, (True, False, "auto")))
        if micro_batch is not None and micro_batch < 1:
            raise ConfigError(f"generator.network.micro_batch: needs at least 1 image, got {micro_batch}")
        self.micro_batch, self._batches = micro_batch, batches
        self.requires_grad_(False)
        self.eval()
        # fullgraph: too many recompilations raise instead of silently falling back to the slow path.
        self._render = compiled(
            self._render_micro_batch,
            compile,
            what="generator",
            key="generator.network.compile",
            otherwise="about half as fast",
            frozen=True,
            dynamic=False,
            fullgraph=True,
        )

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode, whatever `mode`."""
        return super().train(False)

    def _plan(self, w: Tensor) -> tuple[Callable[..., Tensor], int]:
        """What renders a micro-batch of `w`, and its size; a subclass may have a faster way than compiling."""
        return self._render, self.micro_batch or self._batches[w.device.type != "cpu"]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        forget_graphs(self._render)
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def map(self, z: Tensor) -> Tensor:
        """Maps (N, L) latents z ~ N(0, I) to (N, L) styles w, in float32."""
        return self.mapping(z)

    def render(self, w: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Renders aligned faces.

        Args:
            w: (N, L) styles.
            noise: One image per noise input, if the generator accepts them; None uses its own, so the
                faces depend on w only.

        Returns:
            (N, 3, 112, 112) RGB float32 in [-1, 1].
        """
        if len(w) == 0:
            return w.new_zeros(0, 3, *self.rows.shape[:1] * 2, dtype=torch.float32)
        run, size = self._plan(w)
        faces = []
        # Outside inference mode, so that training and validation share one compiled graph.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(w.device.type, enabled=False):
            for part in self.prepare(w.float()).split(size):
                padding = part[-1:].expand(size - len(part), -1)
                faces.append(run(torch.cat([part, padding]), noise)[: len(part)])
            return torch.cat(faces)

    def forward(self, z: Tensor) -> Tensor:
        """Renders (N, 3, 112, 112) faces of (N, L) latents z."""
        return self.render(self.map(z))

    def _render_micro_batch(self, prepared: Tensor, noise: Sequence[Tensor] | None) -> Tensor:
        return self.rows @ self.frame(prepared, noise).float().clamp(-1, 1) @ self.columns.T


def load_converted(weights: Path, kind: str, needed: set[str]) -> dict[str, Tensor]:
    """Reads a converted file and checks that it has the keys of this kind.

    Raises:
        AssetError: If it cannot be read, or lacks one of the keys.
    """
    try:
        state = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise AssetError(
            f"{weights}: cannot be read as generator weights ({error}); convert or download them again"
        ) from None
    missing = needed - set(state)
    if missing:
        raise AssetError(f"{weights}: not a converted {kind}, {', '.join(sorted(missing))} missing")
    return state


def part_of(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors below `name.`, without that prefix."""
    return {key.removeprefix(f"{name}."): t for key, t in state.items() if key.startswith(f"{name}.")}


def check_options(**options: tuple[Any, tuple[Any, ...]]) -> None:
    """Raises a `ConfigError` for an option that is not offered."""
    for name, (value, offered) in options.items():
        if value not in offered:
            choices = ", ".join(str(choice) for choice in offered)
            raise ConfigError(f"generator.network.{name}: unknown value {value!r}; try one of {choices}")


def check_precision(precision: Precision) -> torch.dtype:
    """The dtype of a precision's name that this machine has in hardware, or a `ConfigError`."""
    check_options(precision=(precision, get_args(Precision)))
    usable = usable_precision(precision, "generator.network.precision")
    return torch.bfloat16 if usable == "bf16" else torch.float32
