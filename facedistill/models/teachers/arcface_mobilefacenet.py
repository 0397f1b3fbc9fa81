"""insightface's MobileFaceNet trained with ArcFace on WebFace600K (`w600k_mbf`), as a plain torch module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.errors import AssetError
from facedistill.models.teachers.onnx_file import initializers, read_onnx
from facedistill.system.machine import cpu_instructions, vectors_end_at_256_bits

if TYPE_CHECKING:
    import onnx

# Stages: (width, width inside the entry bottleneck, residual bottlenecks after it, width inside those).
STAGES = ((128, 128, 4, 128), (256, 256, 6, 256), (256, 512, 2, 256))


class ArcFaceMobileFaceNet(nn.Module):
    """The published graph: every batch norm is folded into the layer before it.

    3.4 M params, 0.44 GMACs; embedding norm about 24 on photographs.

    Attributes:
        embedding_dim: 512.
    """

    embedding_dim = 512

    def __init__(self) -> None:
        """Builds the network; its weights come from `convert`."""
        super().__init__()
        layers: list[nn.Module] = [*_conv(3, 128, 3, stride=2), *_conv(128, 128, 3, groups=64)]
        in_width = 128
        for width, entry_width, num_residual, inner_width in STAGES:
            layers.append(_bottleneck(in_width, entry_width, width, stride=2))
            layers += [_Residual(_bottleneck(width, inner_width, width)) for _ in range(num_residual)]
            in_width = width
        self.trunk = nn.Sequential(*layers, *_conv(in_width, 512, 1), *_conv(512, 64, 1))  # (N, 64, 7, 7)
        self.linear = nn.Linear(64 * 7 * 7, self.embedding_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) RGB faces in [-1, 1] as (N, 512) un-normalized embeddings."""
        return self.linear(self.trunk(images).flatten(1))


class _Residual(nn.Module):
    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.layers(maps)


class _GroupedConv2d(nn.Conv2d):
    """Fewer and wider groups where they are faster; the weight is zero between the groups that share one.

    One group on a GPU, and in bfloat16 on a CPU with AMX: cuDNN takes a kernel for each of the 64 groups of two channels, which were 8.6 of
    the teacher's 12.0 ms for 256 images on an H100; a core with AMX takes 0.46 instead of 0.92 ms an image. Groups of eight channels, a vector,
    on a CPU with AVX2: 1.6 to 1.8 instead of 2.8 to 3.7 ms.
    """

    has_matrix_units = "amx_bf16" in cpu_instructions()
    has_vectors_of_eight = vectors_end_at_256_bits()

    def forward(self, images: Tensor) -> Tensor:
        groups = self.groups
        if images.is_cuda or (self.has_matrix_units and images.dtype == torch.bfloat16):
            groups = 1
        elif self.has_vectors_of_eight and self.groups % (wide := max(1, self.in_channels // 8)) == 0:
            groups = wide
        weight = block_diagonal(self.weight, self.groups, groups)
        return F.conv2d(images, weight, self.bias, self.stride, self.padding, groups=groups)


def block_diagonal(weight: Tensor, groups: int, wider: int = 1) -> Tensor:
    """The (out, in / wider, H, W) weight of the convolution of `wider` groups that equals one of `groups`, (out, in / groups, H, W)."""
    out_width, width = weight.shape[:2]
    joined = groups // wider
    group = torch.arange(out_width, device=weight.device) * groups // out_width % joined
    own = group[:, None] == torch.arange(joined, device=weight.device)
    dense = own[:, :, None, None, None] * weight[:, None]
    return dense.reshape(out_width, joined * width, *weight.shape[2:])


def _conv(in_width: int, out_width: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    kind = _GroupedConv2d if 1 < groups < in_width else nn.Conv2d
    conv = kind(in_width, out_width, kernel, stride, kernel // 2, groups=groups)
    return [conv, nn.PReLU(out_width)]


def _bottleneck(in_width: int, inner_width: int, out_width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        *_conv(in_width, inner_width, 1),
        *_conv(inner_width, inner_width, 3, stride, inner_width),
        nn.Conv2d(inner_width, out_width, 1),
    )


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """Reads the published ONNX graph into the state of `ArcFaceMobileFaceNet`.

    Layers are read in order and checked for kind; the last batch norm is folded into the linear layer in float64.

    Args:
        members: `w600k_mbf.onnx` and its path.

    Raises:
        AssetError: If the file is not this network.
    """
    ((name, path),) = members.items()
    graph = read_onnx(path).graph
    values = initializers(graph)
    state: dict[str, Tensor] = {}
    nodes = _layers(graph, name)
    for key, module in ArcFaceMobileFaceNet().named_modules():
        if isinstance(module, nn.Conv2d):
            state[f"{key}.weight"], state[f"{key}.bias"] = _take(next(nodes), "Conv", values, name)
        elif isinstance(module, nn.PReLU):
            (slope,) = _take(next(nodes), "PRelu", values, name)
            state[f"{key}.weight"] = slope.flatten()
        elif isinstance(module, nn.Linear):
            linear, norm = next(nodes), next(nodes)
            (epsilon,) = (a.f for a in norm.attribute if a.name == "epsilon")
            state[f"{key}.weight"], state[f"{key}.bias"] = _fold(
                _take(linear, "Gemm", values, name), _take(norm, "BatchNormalization", values, name), epsilon
            )
    return state


def _layers(graph: onnx.GraphProto, name: str) -> Iterator[onnx.NodeProto]:
    yield from (node for node in graph.node if node.op_type not in ("Add", "Flatten"))
    raise AssetError(f"{name} has fewer layers than w600k_mbf; give the published file")


def _take(node: onnx.NodeProto, kind: str, values: Mapping[str, Tensor], name: str) -> list[Tensor]:
    if node.op_type != kind or any(key not in values for key in node.input[1:]):
        raise AssetError(f"{name} has a {node.op_type} where w600k_mbf has a {kind}; give the published file")
    return [values[key] for key in node.input[1:]]


def _fold(linear: Sequence[Tensor], norm: Sequence[Tensor], epsilon: float) -> tuple[Tensor, Tensor]:
    """Linear then batch norm as one: y = gain · (W x + b - mean) / sqrt(variance + epsilon) + offset."""
    weight, bias = (tensor.double() for tensor in linear)
    gain, offset, mean, variance = (tensor.double() for tensor in norm)
    factor = gain / (variance + epsilon).sqrt()
    return (factor[:, None] * weight).float(), (factor * (bias - mean) + offset).float()
