"""A user's StyleGAN2 or StyleGAN3 as the frozen face generator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from facedistill.errors import ConfigError
from facedistill.models.generators.crop import CropName, crop_matrices
from facedistill.models.generators.frozen import (
    FrozenGenerator,
    Precision,
    check_options,
    check_precision,
    load_converted,
    part_of,
)
from facedistill.models.generators.mobilestylegan import MappingNetwork
from facedistill.models.generators.stylegan2 import StyleGAN2
from facedistill.models.generators.stylegan3 import StyleGAN3, specs_of
from facedistill.models.weights import load_state

NoiseMode = Literal["const", "random", "none"]


class StyleGANGenerator(FrozenGenerator):
    """A converted StyleGAN2 (ADA) or StyleGAN3, cropped from the FFHQ alignment at its native resolution.

    All layers share one style, as in SynthDistill. `mean_w` and `cholesky_w` describe `map` with truncation.

    Attributes:
        num_styles: Rows of w in the authors' code (14 at 256 px in StyleGAN2).
    """

    def __init__(
        self,
        weights: Path,
        *,
        crop: CropName = "paper",
        truncation_psi: float = 1.0,
        noise: NoiseMode = "const",
        precision: Precision = "fp32",
        compile: bool | Literal["auto"] = False,
        micro_batch: int | None = None,
    ) -> None:
        """Loads the weights.

        Args:
            weights: A file written by `stylegan_conversion.convert`.
            crop: See `crop.crop_matrices`.
            truncation_psi: w = w_avg + psi (w' - w_avg); 1 disables truncation.
            noise: "const" adds the file's own noise images, "random" white noise that depends only on
                the style, "none" adds none; StyleGAN3 needs "none".
            precision: Of the synthesis. The published networks were trained with fp16 at their last resolutions.
            compile: True compiles the synthesis at the first render, "auto" does so if possible, and else prints
                a message.
            micro_batch: Images rendered at once; None takes 1 on a CPU, elsewhere 64 at 256 px and fewer above.

        Raises:
            ConfigError: If an option is unknown or does not apply to this network.
            AssetError: If the file is not a converted StyleGAN.
        """
        super().__init__()
        check_options(noise=(noise, get_args(NoiseMode)))
        dtype = check_precision(precision)
        if not 0 <= truncation_psi <= 1:
            raise ConfigError(
                f"generator.network.truncation_psi: needs a number from 0 to 1, got {truncation_psi}"
            )
        needed = {"mean_w", "cholesky_w", "w_avg", "mapping.layers.0.weight", "synthesis.clamp"}
        state = load_converted(Path(weights), "StyleGAN", needed)
        self.latent_dim = len(state["mean_w"])
        self.noise = noise
        self.register_buffer("w_avg", state["w_avg"])
        self.w_avg: Tensor
        self.register_buffer("mean_w", torch.lerp(state["w_avg"], state["mean_w"], truncation_psi))
        self.register_buffer("cholesky_w", state["cholesky_w"] * truncation_psi)
        self.truncation_psi = truncation_psi
        mapping, synthesis = part_of(state, "mapping"), part_of(state, "synthesis")
        self.mapping = MappingNetwork(self.latent_dim, len(mapping) // 2)
        load_state(self.mapping, mapping, str(weights))
        self.synthesis: StyleGAN2 | StyleGAN3 = self._build(synthesis)
        load_state(self.synthesis, synthesis, str(weights))
        self.synthesis.prepare(dtype)
        self.native_size = self.synthesis.size
        rows, columns = crop_matrices(crop, self.native_size)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        oversampled = 4 if isinstance(self.synthesis, StyleGAN3) else 1
        self._freeze(micro_batch, compile, (1, max(1, 64 * 256**2 // self.native_size**2 // oversampled)))

    def _build(self, state: dict[str, Tensor]) -> StyleGAN2 | StyleGAN3:
        if "layout" in state:
            if self.noise != "none":
                raise ConfigError(
                    f"generator.network.noise={self.noise}: StyleGAN3 has no noise inputs; use none"
                )
            specs = specs_of(state)
            del state["layout"]
            self.num_styles = len(specs) + 1
            return StyleGAN3(self.latent_dim, specs)
        count = sum(key.startswith("images.") and key.endswith(".style.bias") for key in state)
        self.num_styles = 2 * count
        widths = [state[f"images.{number}.weight"].shape[1] for number in range(count)]
        return StyleGAN2(self.latent_dim, widths)

    @torch.no_grad()
    def map(self, z: Tensor) -> Tensor:
        """Maps (N, L) latents z ~ N(0, I) to (N, L) truncated styles w, in float32."""
        w = self.mapping(z)
        return w if self.truncation_psi == 1 else torch.lerp(self.w_avg, w, self.truncation_psi)

    def frame(self, prepared: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """The full images; `noise` must be None, since the constructor's `noise` selects what is added.

        Raises:
            ValueError: If noise images are given.
        """
        if noise is not None:
            raise ValueError(
                "StyleGANGenerator draws its own noise; select it with noise= in the constructor"
            )
        return self.synthesis(prepared, self.noise)

    @torch.no_grad()
    def native(self, w: Tensor) -> Tensor:
        """The full images of (N, L) styles, float32 in [-1, 1]."""
        return torch.cat([self.frame(row[None]).clamp(-1, 1) for row in w.float()])

    def extra_repr(self) -> str:
        """Settings that are not part of the weights."""
        return f"noise={self.noise}, truncation_psi={self.truncation_psi:g}"
