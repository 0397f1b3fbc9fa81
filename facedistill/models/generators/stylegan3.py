"""StyleGAN3's generator (Karras et al. 2021, arXiv:2106.12423, configurations T and R) in plain torch.

Legend: N images, L latent width, I and O input and output channels, S_in and S_out sizes with their margins.

Features are band-limited signals: the input is a sum of sines, and every nonlinearity runs at a higher sampling rate
between a low-pass filter up and one down (Kaiser windows; in R the one down is radially symmetric). The filters come
with the weights. Constant gains, and each kernel's normalization, are folded into the weights by the conversion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.models.generators.mobilestylegan import SLOPE
from facedistill.models.generators.stylegan2 import GAIN, ModulatedConvolution


@dataclass(frozen=True)
class LayerSpec:
    """Sizes of one layer, S_in and S_out, and its factors of sampling up and down (1 and 1 in the last)."""

    inner: int
    outer: int
    side: int
    size_in: int
    size_out: int
    up: int
    down: int
    up_taps: int
    down_taps: tuple[int, ...]

    @property
    def last(self) -> bool:
        """Whether this is the layer that gives the image: no demodulation, filter or nonlinearity."""
        return self.up == 1

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and after the samples that were brought to the higher rate; negative cuts (appendix F)."""
        total = (self.size_out - 1) * self.down + 1 - (self.size_in + self.side - 1) * self.up
        total += self.up_taps + (self.down_taps[0] if self.down_taps else 1) - 2
        before = (total + self.up) // 2
        return before, total - before


class FourierInput(nn.Module):
    """Sines of fixed frequencies on the plane, turned and moved by the style (section 3.2 and appendix F)."""

    def __init__(self, latent_dim: int, channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.style = nn.Linear(latent_dim, 4)  # cosine, sine, x, y
        self.weight = nn.Parameter(torch.zeros(channels, channels))
        for name, shape in (("frequencies", (channels, 2)), ("phases", (channels,)), ("transform", (3, 3))):
            self.register_buffer(name, torch.zeros(shape))
        self.rates: Tensor
        self.register_buffer("rates", torch.zeros(2, dtype=torch.float64))  # sampling rate, bandwidth
        self.frequencies: Tensor
        self.phases: Tensor
        self.transform: Tensor

    def forward(self, w: Tensor) -> Tensor:
        """(N, L) styles to (N, C, size, size), in float32."""
        rate, bandwidth = self.rates.float()
        cosine, sine, x, y = (self.style(w) / self.style(w)[:, :2].norm(dim=1, keepdim=True)).unbind(1)
        turn = torch.stack([cosine, -sine, sine, cosine], 1).view(-1, 2, 2)
        move = -(turn @ torch.stack([x, y], 1)[:, :, None])
        turn, move = turn @ self.transform[:2, :2], turn @ self.transform[:2, 2:] + move
        phases = self.phases + (self.frequencies @ move).squeeze(2)  # (N, C)
        frequencies = self.frequencies @ turn  # (N, C, 2)
        amplitudes = (1 - (frequencies.norm(dim=2) - bandwidth) / (rate / 2 - bandwidth)).clamp(0, 1)
        place = (torch.arange(self.size, device=w.device) + 0.5 - self.size / 2) / rate
        across, down = frequencies[:, None, None].unbind(4)
        angle = (
            place[None, None, :, None] * across + place[None, :, None, None] * down + phases[:, None, None]
        )
        waves = (2 * math.pi * angle).sin() * amplitudes[:, None, None]
        return (waves @ self.weight.T).permute(0, 3, 1, 2)


class FilteredLayer(ModulatedConvolution):
    """Modulated convolution, then bias and leaky ReLU at the higher sampling rate, between its two filters."""

    def __init__(self, latent_dim: int, spec: LayerSpec) -> None:
        super().__init__(latent_dim, spec.inner, spec.outer, spec.side, demodulate=not spec.last)
        self.spec = spec
        self.bias = nn.Parameter(torch.zeros(1, spec.outer, 1, 1))
        self.gain: Tensor
        self.register_buffer("gain", torch.ones(()))  # 1 / the running root mean square of the input
        self.up_filter: Tensor | None
        self.down_filter: Tensor | None
        self.register_buffer("up_filter", None if spec.last else torch.zeros(spec.up_taps))
        self.register_buffer("down_filter", torch.zeros(spec.down_taps) if spec.down_taps else None)

    def forward(self, x: Tensor, w: Tensor, limit: float) -> Tensor:
        """Convolves and filters.

        Args:
            x: (N, I, S_in, S_in).
            w: (N, L) float32.
            limit: Largest magnitude of a feature.

        Returns:
            (N, O, S_out, S_out).
        """
        before, after = self.scales(w)
        x = F.conv2d(x * before.to(x.dtype), self.weight, padding=self.spec.side - 1)
        x = x * (self.gain if after is None else after * self.gain).to(x.dtype) + self.bias
        if self.spec.last:
            low, high = self.spec.padding
            return F.pad(x, (low, high, low, high)).clamp(-limit, limit)
        x = self._raised(x)
        x = (F.leaky_relu(x, SLOPE) * GAIN).clamp(-limit, limit)
        return self._lowered(x)

    def _raised(self, x: Tensor) -> Tensor:
        """`up` times as many samples: zeros between them, padding, the filter along columns and rows."""
        assert self.up_filter is not None
        up, taps, (low, high) = self.spec.up, self.spec.up_taps, self.spec.padding
        kernel = (self.up_filter * up).to(x.dtype).expand(x.shape[1], 1, -1)
        x = F.conv_transpose2d(x, kernel[:, :, :, None], stride=(up, 1), groups=x.shape[1])
        x = F.conv_transpose2d(x, kernel[:, :, None, :], stride=(1, up), groups=x.shape[1])
        # The transposed convolution gives every sample that a filter touches: taps - 1 before the first.
        edges = (low - taps + 1, high - taps + up)
        return F.pad(x, (*edges, *edges))

    def _lowered(self, x: Tensor) -> Tensor:
        """The filter, and every `down`-th sample."""
        assert self.down_filter is not None
        down, groups = self.spec.down, x.shape[1]
        if self.down_filter.ndim == 2:
            kernel = self.down_filter.flip(0, 1).to(x.dtype).expand(groups, 1, -1, -1)
            return F.conv2d(x, kernel, stride=down, groups=groups)
        kernel = self.down_filter.flip(0).to(x.dtype).expand(groups, 1, -1)
        x = F.conv2d(x, kernel[:, :, :, None], stride=(down, 1), groups=groups)
        return F.conv2d(x, kernel[:, :, None, :], stride=(1, down), groups=groups)


class StyleGAN3(nn.Module):
    """Styles to images: sines, filtered layers, an image."""

    def __init__(self, latent_dim: int, specs: list[LayerSpec]) -> None:
        """Builds the network with empty weights.

        Args:
            latent_dim: L.
            specs: One per layer, the last gives the image.
        """
        super().__init__()
        self.input = FourierInput(latent_dim, specs[0].inner, specs[0].size_in)
        self.layers = nn.ModuleList(FilteredLayer(latent_dim, spec) for spec in specs)
        self.clamp: Tensor
        self.output_scale: Tensor
        self.register_buffer("clamp", torch.zeros(()))
        self.register_buffer("output_scale", torch.ones(()))
        self.size = specs[-1].size_out

    def prepare(self, dtype: torch.dtype) -> None:
        """After loading: what demodulation needs, and features and kernels in `dtype`; styles and sines in float32."""
        self._limit = float(self.clamp)
        self._dtype = dtype
        for layer in self.layers:
            assert isinstance(layer, FilteredLayer)
            layer.prepare()
            for tensor in (layer.weight, layer.bias):
                tensor.data = tensor.data.to(dtype)

    def forward(self, w: Tensor, noise: str) -> Tensor:
        """Renders.

        Args:
            w: (N, L) float32.
            noise: "none"; this network has no noise inputs.

        Returns:
            (N, 3, size, size) float32, not clamped.
        """
        x = self.input(w).to(self._dtype)
        for layer in self.layers:
            x = layer(x, w, self._limit)
        return x.float() * self.output_scale


def specs_of(state: dict[str, Tensor]) -> list[LayerSpec]:
    """Reads the layers off a converted state; `layout` holds (S_in, S_out, up, down) of each."""
    specs = []
    for number, (size_in, size_out, up, down) in enumerate(state["layout"].tolist()):
        name = f"layers.{number}"
        outer, inner, side, _ = state[f"{name}.weight"].shape
        up_filter, down_filter = state.get(f"{name}.up_filter"), state.get(f"{name}.down_filter")
        taps = 1 if up_filter is None else len(up_filter)
        down_taps = () if down_filter is None else tuple(down_filter.shape)
        specs.append(LayerSpec(inner, outer, side, size_in, size_out, up, down, taps, down_taps))
    return specs
