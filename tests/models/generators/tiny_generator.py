"""A random MobileStyleGAN of five narrow levels and a 256 px image, written as a converted file."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from facedistill.models.generators.conversion import measure_latents

LATENT_DIM = 16
WIDTHS = (
    (8, 32),
    (8, 32),
    (8, 16),
    (4, 16),
    (4, 8),
)  # (inner, outer) of each level; outer = 4 x the next inner


def tiny_state(seed: int = 0, wider: int = 1) -> dict[str, Tensor]:
    """Draws every tensor, scaled so that activations stay near one and images inside [-2, 2]; `wider` multiplies WIDTHS."""
    source = torch.Generator().manual_seed(seed)

    def draw(*shape: int, std: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=source) * std

    def style(name: str, width: int) -> dict[str, Tensor]:
        return {f"{name}.weight": draw(width, LATENT_DIM, std=0.05), f"{name}.bias": 1 + draw(width, std=0.1)}

    def convolution(name: str, inner: int, outer: int, size: int, *kernel: int) -> dict[str, Tensor]:
        fan_in = inner * (9 if kernel else 1)
        return {
            f"{name}.weight": draw(outer, inner, *(kernel or (1, 1)), std=(2 / fan_in) ** 0.5),
            f"{name}.bias": draw(1, outer, 1, 1, std=0.1),
            f"{name}.noise": draw(1, 1, size, size, std=0.1),
            **style(f"{name}.style", inner),
        }

    widths = [(wider * inner, wider * outer) for inner, outer in WIDTHS]
    first = 4 * widths[0][0]
    synthesis = {"constant": draw(1, first, 4, 4)} | convolution("first", first, first, 4, 3, 3)
    for level, (inner, outer) in enumerate(widths):
        name, size = f"levels.{level}", 8 * 2**level
        synthesis |= style(f"{name}.up", 4 * inner)
        for half, entry in (("first", inner), ("second", outer)):
            synthesis |= convolution(f"{name}.{half}", entry, outer, size)
            synthesis[f"{name}.{half}.depthwise"] = draw(entry, 1, 3, 3, std=1 / 3)
    synthesis |= style("head_style", widths[-1][1])
    synthesis |= {
        "head_weight": draw(12, widths[-1][1], 1, 1, std=1.0),
        "head_bias": draw(1, 12, 1, 1, std=0.1),
    }
    mapping = {}
    for layer in range(2):
        mapping[f"layers.{layer}.weight"] = draw(LATENT_DIM, LATENT_DIM, std=LATENT_DIM**-0.5)
        mapping[f"layers.{layer}.bias"] = draw(LATENT_DIM, std=0.1)
    state = {f"mapping.{key}": tensor for key, tensor in mapping.items()}
    state |= {f"synthesis.{key}": tensor for key, tensor in synthesis.items()}
    return state | measure_latents(mapping, count=2000)


def write_tiny_generator(folder: Path, seed: int = 0, wider: int = 1) -> Path:
    """Writes the converted file."""
    path = folder / f"tiny-{seed}-{wider}.safetensors"
    save_file(tiny_state(seed, wider), path)
    return path
