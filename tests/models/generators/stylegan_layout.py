"""Makes miniature files in the layouts of NVlabs (StyleGAN2, StyleGAN3) and rosinality, with random weights.

Written from the published attribute names, buffers and settings, and independently of facedistill's modules. A module is
pickled as `torch_utils.persistence` does it: a call with a record that carries source text. That text here would leave a
marker behind if anybody ran it.
"""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

LATENT_DIM = 16
SOURCE = "raise SystemExit('the source inside the pickle was run')"


class Persistent(nn.Module):
    """A module of any class name, with any settings, that pickles as NVlabs' persistent classes do."""

    def __init__(self, class_name: str, **settings: Any) -> None:
        super().__init__()
        self.class_name, self.source = class_name, SOURCE
        for name, value in settings.items():
            setattr(self, name, value)

    def __reduce__(self) -> Any:
        state = {k: v for k, v in self.__dict__.items() if k not in ("class_name", "source")}
        record = {
            "type": "class",
            "version": 6,
            "module_src": self.source,
            "class_name": self.class_name,
            "state": state,
        }
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (record,), None


@contextmanager
def persistence() -> Iterator[None]:
    """NVlabs' package, as far as a pickler needs it to exist."""
    module = types.ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta: Any) -> Any:
        exec(meta["module_src"])

    _reconstruct_persistent_obj.__module__ = module.__name__
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    sys.modules["torch_utils"], sys.modules[module.__name__] = types.ModuleType("torch_utils"), module
    try:
        yield
    finally:
        del sys.modules["torch_utils"], sys.modules[module.__name__]


def write_pickle(path: Path, network: nn.Module, **others: Any) -> Path:
    """A snapshot as the training loops write it: G and D next to the average."""
    with persistence():
        strange = Persistent("Discriminator", c_dim=0)
        content = {"G": strange, "D": strange, "G_ema": network, "training_set_kwargs": {"path": "x"}}
        path.write_bytes(pickle.dumps(content | others))
    return path


class Draw:
    """Random parts of a network."""

    def __init__(self, seed: int) -> None:
        self.source = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, std: float = 1.0, mean: float = 0.0) -> Tensor:
        return torch.randn(shape, generator=self.source) * std + mean

    def parameter(self, *shape: int, std: float = 1.0, mean: float = 0.0) -> nn.Parameter:
        return nn.Parameter(self.normal(*shape, std=std, mean=mean), requires_grad=False)

    def dense(
        self, inner: int, outer: int, rate: float = 1.0, bias: float = 0.0, **settings: Any
    ) -> Persistent:
        layer = Persistent("FullyConnectedLayer", activation="linear", **settings)
        layer.weight = self.parameter(outer, inner, std=1 / rate)
        layer.bias = self.parameter(outer, std=0.1, mean=bias)
        layer.weight_gain, layer.bias_gain = rate / np.sqrt(inner), rate
        return layer

    def mapping(self, layers: int, rows: int) -> Persistent:
        mapping = Persistent(
            "MappingNetwork", z_dim=LATENT_DIM, c_dim=0, w_dim=LATENT_DIM, num_ws=rows, num_layers=layers
        )
        for number in range(layers):
            layer = self.dense(LATENT_DIM, LATENT_DIM, 0.01)
            layer.activation = "lrelu"
            setattr(mapping, f"fc{number}", layer)
        mapping.register_buffer("w_avg", self.normal(LATENT_DIM, std=0.3))
        return mapping

    def generator(self, mapping_layers: int, synthesis: Persistent) -> Persistent:
        rows = synthesis.num_ws
        network = Persistent(
            "Generator", z_dim=LATENT_DIM, c_dim=0, w_dim=LATENT_DIM, img_channels=3, num_ws=rows,
            img_resolution=synthesis.img_resolution,
        )  # fmt: skip
        network.synthesis, network.mapping = synthesis, self.mapping(mapping_layers, rows)
        return network.eval().requires_grad_(False)


def stylegan2(
    widths: tuple[int, ...] = (12, 10, 8, 6), clamp: float | None = 256, seed: int = 0
) -> Persistent:
    """training/networks.py (stylegan2-ada-pytorch), training/networks_stylegan2.py (stylegan3)."""
    draw = Draw(seed)
    size = 4 * 2 ** (len(widths) - 1)
    taps = torch.tensor([1.0, 3, 3, 1])
    low_pass = taps.outer(taps) / 64
    synthesis = Persistent("SynthesisNetwork", w_dim=LATENT_DIM, img_resolution=size, img_channels=3)
    synthesis.num_ws, synthesis.block_resolutions = 2 * len(widths), [4 * 2**i for i in range(len(widths))]

    def layer(inner: int, outer: int, size: int, up: int) -> Persistent:
        part = Persistent(
            "SynthesisLayer", resolution=size, up=up, use_noise=True, activation="lrelu", conv_clamp=clamp,
            padding=1, act_gain=np.sqrt(2),
        )  # fmt: skip
        part.register_buffer("resample_filter", low_pass.clone())
        part.affine = draw.dense(LATENT_DIM, inner, bias=1.0)
        part.weight = draw.parameter(outer, inner, 3, 3)
        part.register_buffer("noise_const", draw.normal(size, size))
        part.noise_strength = draw.parameter(std=0.3)
        part.bias = draw.parameter(outer, std=0.2)
        return part

    for number, outer in enumerate(widths):
        side = 4 * 2**number
        inner = widths[number - 1] if number else 0
        block = Persistent(
            "SynthesisBlock", in_channels=inner, resolution=side, img_channels=3, architecture="skip",
            is_last=side == size, use_fp16=side >= 16, num_conv=2 if number else 1, num_torgb=1,
        )  # fmt: skip
        block.register_buffer("resample_filter", low_pass.clone())
        if number:
            block.conv0 = layer(inner, outer, side, 2)
        else:
            block.const = draw.parameter(outer, 4, 4)
        block.conv1 = layer(outer, outer, side, 1)
        torgb = Persistent("ToRGBLayer", conv_clamp=clamp, weight_gain=1 / np.sqrt(outer))
        torgb.affine = draw.dense(LATENT_DIM, outer, bias=1.0)
        torgb.weight = draw.parameter(3, outer, 1, 1, std=0.3)
        torgb.bias = draw.parameter(3, std=0.1)
        block.torgb = torgb
        setattr(synthesis, f"b{side}", block)
    return draw.generator(3, synthesis)


def low_pass(taps: int, cutoff: float, width: float, rate: float, radial: bool) -> Tensor | None:
    """Appendix F: a Kaiser-windowed sinc, or its radially symmetric relative."""
    from scipy.signal import firwin, kaiser_atten, kaiser_beta
    from scipy.special import j1

    if taps == 1:
        return None
    if not radial:
        return torch.tensor(firwin(taps, cutoff, width=width, fs=rate), dtype=torch.float32)
    place = (np.arange(taps) - (taps - 1) / 2) / rate
    radius = np.hypot(*np.meshgrid(place, place))
    window = np.kaiser(taps, kaiser_beta(kaiser_atten(taps, width / (rate / 2))))
    kernel = j1(2 * cutoff * np.pi * radius) / (np.pi * radius) * np.outer(window, window)
    return torch.tensor(kernel / kernel.sum(), dtype=torch.float32)


def stylegan3(
    kind: str = "t", size: int = 32, layers: int = 5, critical: int = 2, seed: int = 0
) -> Persistent:
    """training/networks_stylegan3.py; section 3.2 of the paper gives cutoffs, stopbands and rates."""
    draw = Draw(seed)
    margin, first_cutoff, first_stop, clamp = 3, 2.0, 2**2.1, 256
    last_cutoff = size / 2
    power = np.minimum(np.arange(layers + 1) / (layers - critical), 1)
    cutoffs = first_cutoff * (last_cutoff / first_cutoff) ** power
    stops = first_stop * (last_cutoff * 2**0.3 / first_stop) ** power
    rates = np.exp2(np.ceil(np.log2(np.minimum(stops * 2, size))))
    half_widths = np.maximum(stops, rates / 2) - cutoffs
    sizes = rates + 2 * margin
    sizes[-2:] = size
    channels = np.rint(np.minimum(48 / cutoffs, 10)).astype(int)
    channels[-1] = 3
    synthesis = Persistent("SynthesisNetwork", w_dim=LATENT_DIM, img_resolution=size, img_channels=3)
    synthesis.num_ws, synthesis.output_scale, synthesis.layer_names = layers + 2, 0.25, []
    waves = Persistent("SynthesisInput", w_dim=LATENT_DIM, channels=int(channels[0]))
    waves.size = np.broadcast_to(np.asarray(int(sizes[0])), [2])
    waves.sampling_rate, waves.bandwidth = rates[0], cutoffs[0]
    waves.weight = draw.parameter(channels[0], channels[0])
    waves.affine = draw.dense(LATENT_DIM, 4)
    waves.affine.bias[0] = 1
    waves.register_buffer("transform", torch.eye(3))
    waves.register_buffer("freqs", draw.normal(channels[0], 2))
    waves.register_buffer("phases", draw.normal(channels[0], std=0.3))
    synthesis.input = waves
    for number in range(layers + 1):
        before, last = max(number - 1, 0), number == layers
        part = Persistent(
            "SynthesisLayer", is_torgb=last, is_critically_sampled=number >= layers - critical, conv_clamp=clamp,
            use_fp16=True, conv_kernel=1 if last or kind == "r" else 3,
        )  # fmt: skip
        part.in_size, part.out_size = (
            np.broadcast_to(np.asarray(int(sizes[i])), [2]) for i in (before, number)
        )
        rate = max(rates[before], rates[number]) * (1 if last else 2)
        part.up_factor, part.down_factor = (int(np.rint(rate / rates[i])) for i in (before, number))
        part.up_taps = 6 * part.up_factor if part.up_factor > 1 and not last else 1
        part.down_taps = 6 * part.down_factor if part.down_factor > 1 and not last else 1
        radial = kind == "r" and not part.is_critically_sampled
        part.affine = draw.dense(LATENT_DIM, channels[before], bias=1.0)
        part.weight = draw.parameter(channels[number], channels[before], part.conv_kernel, part.conv_kernel)
        part.bias = draw.parameter(channels[number], std=0.2)
        part.register_buffer("magnitude_ema", torch.tensor(0.7 + 0.1 * number))
        up = low_pass(part.up_taps, cutoffs[before], half_widths[before] * 2, rate, False)
        down = low_pass(part.down_taps, cutoffs[number], half_widths[number] * 2, rate, radial)
        part.register_buffer("up_filter", up)
        part.register_buffer("down_filter", down)
        total = (part.out_size - 1) * part.down_factor + 1
        total = (
            total - (part.in_size + part.conv_kernel - 1) * part.up_factor + part.up_taps + part.down_taps - 2
        )
        low = (total + part.up_factor) // 2
        part.padding = [int(low[0]), int(total[0] - low[0]), int(low[1]), int(total[1] - low[1])]
        name = f"L{number}_{part.out_size[0]}_{channels[number]}"
        setattr(synthesis, name, part)
        synthesis.layer_names.append(name)
    return draw.generator(2, synthesis)


def rosinality(widths: tuple[int, ...] = (12, 10, 8, 6), seed: int = 0) -> dict[str, Tensor]:
    """`g_ema` of rosinality/stylegan2-pytorch's model.py."""
    draw = Draw(seed)
    taps = torch.tensor([1.0, 3, 3, 1])
    kernel = taps.outer(taps) / 16
    state: dict[str, Tensor] = {}
    for number in range(1, 4):
        state[f"style.{number}.weight"] = draw.normal(LATENT_DIM, LATENT_DIM, std=100)
        state[f"style.{number}.bias"] = draw.normal(LATENT_DIM, std=10)

    def convolution(key: str, inner: int, outer: int, side: int) -> None:
        state[f"{key}.weight"] = draw.normal(1, outer, inner, side, side, std=1 if side == 3 else 0.3)
        state[f"{key}.modulation.weight"] = draw.normal(inner, LATENT_DIM)
        state[f"{key}.modulation.bias"] = draw.normal(inner, std=0.1, mean=1)

    def layer(key: str, inner: int, outer: int, up: bool) -> None:
        convolution(f"{key}.conv", inner, outer, 3)
        if up:
            state[f"{key}.conv.blur.kernel"] = kernel.clone()
        state[f"{key}.noise.weight"] = draw.normal(1, std=0.3)
        state[f"{key}.activate.bias"] = draw.normal(outer, std=0.2)

    def image(key: str, inner: int) -> None:
        state[f"{key}.bias"] = draw.normal(1, 3, 1, 1, std=0.1)
        convolution(f"{key}.conv", inner, 3, 1)

    state["input.input"] = draw.normal(1, widths[0], 4, 4)
    layer("conv1", widths[0], widths[0], False)
    image("to_rgb1", widths[0])
    for number, outer in enumerate(widths[1:]):
        layer(f"convs.{2 * number}", widths[number], outer, True)
        layer(f"convs.{2 * number + 1}", outer, outer, False)
        state[f"to_rgbs.{number}.upsample.kernel"] = kernel.clone()
        image(f"to_rgbs.{number}", outer)
    for number in range(2 * len(widths) - 1):
        side = 2 ** ((number + 5) // 2)
        state[f"noises.noise_{number}"] = draw.normal(1, 1, side, side)
    return state
