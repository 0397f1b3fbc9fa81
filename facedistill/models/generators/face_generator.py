"""The frozen face generator: latents in, aligned 112x112 faces out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from facedistill.errors import AssetError, ConfigError
from facedistill.models.compilation import compiled
from facedistill.models.generators.coarse import describe, shrink
from facedistill.models.generators.crop import CropName, crop_matrices, crop_window
from facedistill.models.generators.mobilestylegan import MappingNetwork, SynthesisNetwork
from facedistill.models.generators.region import Window, plan_windows

ExitName = Literal["full", 512, 256, 128, 64]
Precision = Literal["fp32", "bf16"]


class FaceGenerator(nn.Module):
    """MobileStyleGAN up to an exit, on the part of its frame that the crop shows.

    It never learns and never leaves eval mode. Its mapping runs in float32 whatever the precision.

    Attributes:
        latent_dim: L, the width of z and of w.
        mean_w: (L,) mean of w over z ~ N(0, I).
        cholesky_w: (L, L) lower triangular with L Lᵀ = Cov(w).
    """

    mean_w: Tensor
    cholesky_w: Tensor
    rows: Tensor
    columns: Tensor

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
                64 is blurred and for smoke runs only.
            crop: See `crop.crop_matrices`.
            precision: Of the synthesis.
            compile: True compiles the synthesis at the first render, "auto" does so where that works and else
                says that it does not.
            micro_batch: Images rendered at once, in calls padded to it so that shapes never change; None
                takes 4 on a CPU, whose caches hold no more, and 64 elsewhere.

        Raises:
            ConfigError: If an option is unknown, or `compile` is True and nothing can compile.
            AssetError: If the file is not a converted MobileStyleGAN.
        """
        super().__init__()
        _check(exit=(exit, get_args(ExitName)), precision=(precision, get_args(Precision)))
        _check(compile=(compile, (True, False, "auto")))
        if micro_batch is not None and micro_batch < 1:
            raise ConfigError(f"generator.network.micro_batch: needs at least 1 image, got {micro_batch}")
        state = _load(Path(weights))
        synthesis = {
            key.removeprefix("synthesis."): t for key, t in state.items() if key.startswith("synthesis.")
        }
        mapping = {key.removeprefix("mapping."): t for key, t in state.items() if key.startswith("mapping.")}
        self.micro_batch = micro_batch
        self.register_buffer("mean_w", state["mean_w"])
        self.register_buffer("cholesky_w", state["cholesky_w"])
        self.latent_dim = len(self.mean_w)
        self.mapping = MappingNetwork(self.latent_dim, len(mapping) // 2)
        self.mapping.load_state_dict(mapping)

        specs = describe(synthesis, None if exit == "full" else int(exit))
        image_size = specs[-1].size * (2 if exit == "full" else 1)
        rows, columns = crop_matrices(crop, image_size)
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
        self.synthesis.load_state_dict(shrink(synthesis, specs, whole_image=exit == "full"))
        self.synthesis.to_precision(torch.bfloat16 if precision == "bf16" else torch.float32)
        self.requires_grad_(False)
        self.eval()
        # fullgraph: too many recompilations raise instead of falling back to the slow path without a word.
        self._render = compiled(
            self._render_micro_batch,
            compile,
            what="generator",
            key="generator.network.compile",
            otherwise="about half as fast",
            dynamic=False,
            fullgraph=True,
        )

    def train(self, mode: bool = True) -> FaceGenerator:
        """Stays in eval mode, whatever `mode` asks."""
        return super().train(False)

    @torch.no_grad()
    def map(self, z: Tensor) -> Tensor:
        """Maps (N, L) latents z ~ N(0, I) to (N, L) styles w, in float32."""
        return self.mapping(z)

    def render(self, w: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Renders aligned faces.

        Args:
            w: (N, L) styles.
            noise: From `redraw_noise`; None renders with the published constants, so that w alone decides.

        Returns:
            (N, 3, 112, 112) RGB float32 in [-1, 1].
        """
        if len(w) == 0:
            return w.new_zeros(0, 3, *self.rows.shape[:1] * 2, dtype=torch.float32)
        size = self.micro_batch or (4 if w.device.type == "cpu" else 64)
        faces = []
        # Outside inference mode, so that training and validation share one compiled graph.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(w.device.type, enabled=False):
            for part in w.float().split(size):
                padding = part[-1:].expand(size - len(part), -1)
                faces.append(self._render(torch.cat([part, padding]), noise)[: len(part)])
            return torch.cat(faces)

    def forward(self, z: Tensor) -> Tensor:
        """Renders (N, 3, 112, 112) faces of (N, L) latents z."""
        return self.render(self.map(z))

    def redraw_noise(self, generator: torch.Generator) -> list[Tensor]:
        """Draws other noise images, N(0, std of each published constant): an augmentation of fine detail.

        The teacher's embedding moves to a cosine of about 0.96.

        Args:
            generator: Source of randomness, on the CPU.

        Returns:
            What `render` takes as `noise`; one draw serves all images of a call.
        """
        constants = self.synthesis.published_noise()
        return [
            (torch.randn(noise.shape, generator=generator) * noise.float().std().cpu()).to(noise)
            for noise in constants
        ]

    def _render_micro_batch(self, w: Tensor, noise: Sequence[Tensor] | None) -> Tensor:
        frame = self.synthesis(w, noise).float().clamp(-1, 1)
        return self.rows @ frame @ self.columns.T


def _load(weights: Path) -> dict[str, Tensor]:
    """Reads the converted file and checks that it is one."""
    try:
        state = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise AssetError(
            f"{weights}: cannot be read as generator weights ({error}); obtain them again"
        ) from None
    missing = {"mean_w", "cholesky_w", "mapping.layers.0.weight", "synthesis.head_weight"} - set(state)
    if missing:
        raise AssetError(f"{weights}: not a converted MobileStyleGAN, {', '.join(sorted(missing))} missing")
    return state


def _check(**options: tuple[Any, tuple[Any, ...]]) -> None:
    """Refuses an option outside what is offered."""
    for name, (value, offered) in options.items():
        if value not in offered:
            choices = ", ".join(str(choice) for choice in offered)
            raise ConfigError(f"generator.network.{name}: unknown value {value!r}; try one of {choices}")
