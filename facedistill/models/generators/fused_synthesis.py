"""MobileStyleGAN's synthesis on a CPU with bfloat16 instructions: one pass over memory between two matrix products.

torch needs three passes for what precedes a depthwise convolution (activation and scale, wavelet) and for the convolution, and
memory is the limit. `fused_depthwise.cpp` does it in one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.models.generators.mobilestylegan import StyledConvolution, SynthesisNetwork
from facedistill.models.generators.region import Window
from facedistill.models.generators.wavelet import doubled_inverse_haar
from facedistill.models.native_code import native_library
from facedistill.system.machine import cpu_instructions

LANES = 16  # the channels of every layer are a multiple
SMALL = 32  # pixels of the grid up to which a level is computed for all images at once
_SOURCE = Path(__file__).with_name("fused_depthwise.cpp")
_POINTER, _LONG = ctypes.c_void_p, ctypes.c_long


class _Features(ctypes.Structure):
    _fields_ = (("data", _POINTER), ("image", _LONG), ("row", _LONG), ("pixel", _LONG))


class _Noise(ctypes.Structure):
    _fields_ = (("data", _POINTER), ("row", _LONG))


def fused_kernel(network: SynthesisNetwork) -> Any:
    """The compiled function, or None where it does not serve: other CPUs, types and widths, no compiler."""
    widths = [n for spec in network.specs for n in (spec.inner, spec.outer, spec.kept)]
    if (
        network.constant.dtype != torch.bfloat16
        or network.constant.device.type != "cpu"
        or any(n % LANES for n in widths)
        or "avx512_bf16" not in cpu_instructions()
        or (library := native_library(_SOURCE)) is None
    ):
        return None
    function = library.activate_and_convolve
    function.restype = None
    function.argtypes = [_Features, _Noise, _POINTER, _POINTER, _LONG, _POINTER, _POINTER, *[_LONG] * 6]
    return function


class FusedSynthesis:
    """`SynthesisNetwork.forward` with the planned windows, equal to it but for rounding."""

    def __init__(self, network: SynthesisNetwork, kernel: Any) -> None:
        """Copies the constants in the layout that the kernel reads.

        Args:
            network: In bfloat16, on the CPU; it must not change afterwards.
            kernel: From `fused_kernel`.
        """
        self.network, self.kernel = network, kernel
        convolutions = [m for m in network.modules() if isinstance(m, StyledConvolution)]
        self.biases = [c.bias.flatten().float() for c in convolutions]
        self.noise = [noise.float() for noise in network.published_noise()]
        nothing = torch.zeros(9, network.head_weight.shape[1])
        nothing[4] = 1  # the image head has no depthwise convolution
        depthwise = [c.depthwise.flatten(1).T.float() for c in convolutions if c.depthwise is not None]
        self.depthwise = [kernel.contiguous() for kernel in (*depthwise, nothing)]
        self.pointwise = [c.weight.flatten(1) for c in convolutions[1:]] + [network.head_weight.flatten(1)]

    def __call__(self, prepared: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Maps what `SynthesisNetwork.prepare` returns to (N, 3, H, W) bfloat16; all images share `noise`.

        Small levels are computed for all images at once, so that their weights are read once, large ones image by image,
        which the cache holds.
        """
        noise = self.noise if noise is None else [one.float() for one in noise]
        start, *scales = prepared.split(self.network._widths, 1)
        side = self.network.constant.shape[-1]
        x = start.unflatten(1, (side, side, -1)).movedim(3, 1)
        levels = len(self.network.specs)
        small = sum(spec.size <= SMALL for spec in self.network.specs)
        for level in range(small):
            x = self._level(level, x, noise, scales)
        images = []
        for i in range(len(x)):
            one = slice(i, i + 1)
            image, own_scales = x[one], [scale[one] for scale in scales]
            for level in range(small, levels):
                image = self._level(level, image, noise, own_scales)
            images.append(self._layer(2 * levels, image, self.network.windows[-1], noise, own_scales))
        faces = torch.cat(images) + self.network.head_bias
        return (doubled_inverse_haar(faces) if self.network.wavelet_head else faces) * 0.5

    def _level(self, level: int, x: Tensor, noise: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor:
        """Maps (N, C, H, W), the previous level's result before its activation, to this level's."""
        shrunk, window = self.network.specs[level].shrunk, self.network.windows[level]
        before = self.network.windows[level - 1] if level else Window.frame(x.shape[2])
        read = window if shrunk else window.halved()
        x = self._layer(2 * level, read.cut(x, before), read, noise, scales, doubled=not shrunk)
        return self._layer(2 * level + 1, x, window, noise, scales)

    def _layer(
        self,
        index: int,
        x: Tensor,
        window: Window,
        noises: Sequence[Tensor],
        scales: Sequence[Tensor],
        doubled: bool = False,
    ) -> Tensor:
        """Activates (N, C, H, W) of `window`, what convolution `index` gave, and applies the next one."""
        count, channels, height, width = x.shape
        if doubled:
            channels, height, width = channels // 4, 2 * height, 2 * width
        noise, scale = window.cut(noises[index], Window.frame(0)), scales[index]
        result = x.new_empty(count, height, width, channels)
        self.kernel(
            _Features(x.data_ptr(), x.stride(0), x.stride(2), x.stride(3)),
            _Noise(noise.data_ptr(), noise.stride(2)),
            self.biases[index].data_ptr(),
            scale.data_ptr(),
            scale.stride(0),
            self.depthwise[index].data_ptr(),
            result.data_ptr(),
            *(count, height, width, channels, int(doubled), torch.get_num_threads()),
        )
        return F.linear(result, self.pointwise[index]).movedim(3, 1)
