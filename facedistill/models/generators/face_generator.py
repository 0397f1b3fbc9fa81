"""MobileStyleGAN as the frozen face generator: latents to aligned 112x112 faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Self, get_args

import torch
from torch import Tensor

from facedistill.models.generators.coarse import describe, shrink
from facedistill.models.generators.crop import CropName, crop_matrices, crop_window
from facedistill.models.generators.frozen import (
    FrozenGenerator,
    Precision,
    check_options,
    check_precision,
    load_converted,
    part_of,
)
from facedistill.models.generators.fused_synthesis import FusedSynthesis, fused_layers
from facedistill.models.generators.mobilestylegan import MappingNetwork, SynthesisNetwork
from facedistill.models.generators.region import Window, plan_windows

ExitName = Literal["full", 512, 256, 128, 64]
_FUSED = 32  # images that `FusedSynthesis` renders at once


class FaceGenerator(FrozenGenerator):
    """MobileStyleGAN up to an exit, computed only on the part of the frame that the crop reads."""

    _fused: FusedSynthesis | None = None

    def __init__(
        self,
        weights: Path,
        *,
        exit: ExitName = 128,
        crop: CropName = "fitted",
        precision: Precision = "fp32",
        compile: bool | Literal["auto"] = False,
        micro_batch: int | None = None,
    ) -> None:
        """Loads the weights and plans the exit.

        Args:
            weights: A file written by `conversion.convert`.
            exit: Grid, in pixels, on which all later levels run; "full" is the published 1024 px network,
                64 is blurred, for smoke runs only.
            crop: See `crop.crop_matrices`.
            precision: Of the synthesis.
            compile: True compiles the synthesis at the first render; "auto" does so if possible, and else prints
                a message. On an x86 CPU both use `FusedSynthesis` if it can be built, which is faster.
            micro_batch: Images rendered at once, in calls padded to it so that shapes never change; None
                takes 1 on a CPU, whose caches hold no more (32 with `FusedSynthesis`), and 64 elsewhere.

        Raises:
            ConfigError: If an option is unknown, or `compile` is True and nothing can compile.
            AssetError: If the file is not a converted MobileStyleGAN.
        """
        super().__init__()
        check_options(exit=(exit, get_args(ExitName)))
        dtype = check_precision(precision)
        state = load_converted(
            Path(weights),
            "MobileStyleGAN",
            {"mean_w", "cholesky_w", "mapping.layers.0.weight", "synthesis.head_weight"},
        )
        mapping, synthesis = part_of(state, "mapping"), part_of(state, "synthesis")
        self.register_buffer("mean_w", state["mean_w"])
        self.register_buffer("cholesky_w", state["cholesky_w"])
        self.latent_dim = len(self.mean_w)
        self.mapping = MappingNetwork(self.latent_dim, len(mapping) // 2)
        self.mapping.load_state_dict(mapping)

        specs = describe(synthesis, None if exit == "full" else int(exit))
        self.native_size = specs[-1].size * (2 if exit == "full" else 1)
        rows, columns = crop_matrices(crop, self.native_size)
        window = crop_window(rows, columns)
        wanted = window.even().halved() if exit == "full" else window
        windows = plan_windows(wanted, [spec.size for spec in specs], [spec.shrunk for spec in specs])
        last = windows[-1]
        covered = (
            Window(2 * last.top, 2 * last.bottom, 2 * last.left, 2 * last.right) if exit == "full" else last
        )
        self.register_buffer("rows", rows[:, covered.top : covered.bottom].clone(), persistent=False)
        self.register_buffer("columns", columns[:, covered.left : covered.right].clone(), persistent=False)
        bands = 12 if exit == "full" else 3
        self.synthesis = SynthesisNetwork(self.latent_dim, specs, bands, windows)
        self.synthesis.load_state_dict(shrink(synthesis, specs, full_image=exit == "full"))
        self.synthesis.to_precision(dtype)
        self._freeze(micro_batch, compile, batches=(1, 64))
        self._may_fuse = compile is not False

    def prepare(self, w: Tensor) -> Tensor:
        """See `SynthesisNetwork.prepare`."""
        return self.synthesis.prepare(w)

    def frame(self, prepared: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """The window that the crop reads; `noise` as `redraw_noise` returns it."""
        return (self._fused or self.synthesis)(prepared, noise)

    def _plan(self, w: Tensor) -> tuple[Callable[..., Tensor], int]:
        if self._may_fuse and self._fused is None and (library := fused_layers(self.synthesis)):
            self._fused = FusedSynthesis(self.synthesis, library)
        if self._fused is None:
            return super()._plan(w)
        parts = -(-len(w) // (self.micro_batch or _FUSED))
        return self._render_micro_batch, -(-len(w) // parts)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._fused = None  # it has copies of the constants
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def native(self, w: Tensor) -> Tensor:
        """The full images of (N, L) styles at the exit's resolution, float32 in [-1, 1]."""
        windows = [Window.frame(spec.size) for spec in self.synthesis.specs]
        return self.synthesis(self.synthesis.prepare(w.float()), windows=windows).float().clamp(-1, 1)

    def redraw_noise(self, generator: torch.Generator) -> list[Tensor]:
        """Draws new noise images, N(0, std of each published constant), which augments fine detail.

        The cosine of the teacher's embeddings before and after is about 0.96.

        Args:
            generator: Source of randomness, on the CPU.

        Returns:
            What `render` takes as `noise`; all images of a call share it.
        """
        return [
            (torch.randn(noise.shape, generator=generator) * noise.float().std().cpu()).to(noise)
            for noise in self.synthesis.published_noise()
        ]
