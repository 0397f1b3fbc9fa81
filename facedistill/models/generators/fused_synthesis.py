"""MobileStyleGAN's synthesis on a CPU: one pass over memory for a layer, by `fused_layers.cpp`.

torch needs three passes for what precedes a depthwise convolution (activation and scale, wavelet) and for the convolution, and
memory is the limit. In bfloat16 the matrix product that follows is torch's, which uses the CPU's tiles. In float32 it belongs to the
pass: a strip of rows is convolved and multiplied while the cache holds it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, get_num_threads

from facedistill.models.generators.mobilestylegan import StyledConvolution, SynthesisNetwork
from facedistill.models.generators.region import Window
from facedistill.models.generators.wavelet import doubled_inverse_haar
from facedistill.models.native_code import native_library
from facedistill.system.machine import cpu_instructions

LANES = 16  # the channels of every layer are a multiple
SMALL = 32  # pixels of the grid up to which a level is computed for all images at once
_SOURCE = Path(__file__).with_name("fused_layers.cpp")
_POINTER, _LONG = ctypes.c_void_p, ctypes.c_long


class _Features(ctypes.Structure):
    _fields_ = (("data", _POINTER), ("image", _LONG), ("row", _LONG), ("pixel", _LONG))


class _Noise(ctypes.Structure):
    _fields_ = (("data", _POINTER), ("row", _LONG))


class Layer(ctypes.Structure):
    """What `fused_layers.cpp` calls so."""

    _fields_ = (
        ("x", _Features),
        ("noise", _Noise),
        *((name, _POINTER) for name in ("bias", "scale")),
        ("scale_image", _LONG),
        ("kernel", _POINTER),
        *((name, _LONG) for name in ("count", "height", "width", "channels", "doubled", "threads")),
    )


def fused_layers(network: SynthesisNetwork) -> ctypes.CDLL | None:
    """The compiled library, or None where it does not serve: GPUs, CPUs without vectors of 256 bits (bfloat16: `avx512_bf16`),
    other widths, no compiler.
    """
    constant = network.constant
    needed = {"avx512_bf16"} if constant.dtype == torch.bfloat16 else {"avx2", "fma"}
    widths = [n for spec in network.specs for n in (spec.inner, spec.outer, spec.kept)]
    if constant.device.type != "cpu" or any(n % LANES for n in widths) or not needed <= cpu_instructions():
        return None
    return native_library(_SOURCE)


class FusedSynthesis:
    """`SynthesisNetwork.forward` with the planned windows, equal to it but for rounding."""

    def __init__(self, network: SynthesisNetwork, library: ctypes.CDLL) -> None:
        """Copies the constants in the layout that the library reads.

        Args:
            network: On the CPU; it must not change afterwards.
            library: From `fused_layers`.
        """
        self.network, self.library = network, library
        convolutions = [m for m in network.modules() if isinstance(m, StyledConvolution)]
        self.biases = [c.bias.flatten().float() for c in convolutions]
        self.noise = [noise.float() for noise in network.published_noise()]
        nothing = torch.zeros(9, network.head_weight.shape[1])
        nothing[4] = 1  # the image head has no depthwise convolution
        depthwise = [c.depthwise.flatten(1).T.float() for c in convolutions if c.depthwise is not None]
        self.depthwise = [kernel.contiguous() for kernel in (*depthwise, nothing)]
        self.pointwise = [c.weight.flatten(1) for c in convolutions[1:]] + [network.head_weight.flatten(1)]
        self.outputs = [len(weight) for weight in self.pointwise]
        if network.constant.dtype == torch.float32:
            self.pointwise = [in_blocks(weight, library.columns_of_a_block()) for weight in self.pointwise]

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
        layer = Layer(
            _Features(x.data_ptr(), x.stride(0), x.stride(2), x.stride(3)),
            _Noise(noise.data_ptr(), noise.stride(2)),
            self.biases[index].data_ptr(),
            scale.data_ptr(),
            scale.stride(0),
            self.depthwise[index].data_ptr(),
            *(count, height, width, channels, doubled, get_num_threads()),
        )
        return self._compute(index, layer, x.dtype).movedim(3, 1)

    def _compute(self, index: int, layer: Layer, dtype: torch.dtype) -> Tensor:
        size, weight = (layer.count, layer.height, layer.width), self.pointwise[index]
        if dtype == torch.bfloat16:
            convolved = torch.empty(*size, layer.channels, dtype=dtype)
            self.library.activate_and_convolve(ctypes.byref(layer), _POINTER(convolved.data_ptr()))
            return F.linear(convolved, weight)
        result = torch.empty(*size, weight.shape[0] * weight.shape[2])
        self.library.activate_convolve_and_multiply(
            ctypes.byref(layer),
            _POINTER(weight.data_ptr()),
            _LONG(result.shape[-1]),
            _POINTER(result.data_ptr()),
        )
        return result[..., : self.outputs[index]]


def in_blocks(weight: Tensor, columns: int) -> Tensor:
    """(K, C) to (blocks, C, columns), the order in which a product reads it; rows of zeros fill the last block.

    >>> in_blocks(torch.arange(6.0).reshape(3, 2), 2).tolist()
    [[[0.0, 2.0], [1.0, 3.0]], [[4.0, 0.0], [5.0, 0.0]]]
    """
    filled = F.pad(weight, (0, 0, 0, -len(weight) % columns))
    return filled.unflatten(0, (-1, columns)).transpose(1, 2).contiguous()
