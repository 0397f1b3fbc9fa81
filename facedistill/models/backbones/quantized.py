"""A student with 8-bit weights and activations, computed in float32: it can be trained, and written as an int8 graph."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.models.backbones.base import Backbone
from facedistill.models.qdq import QdqGraph, attributes, operation

if TYPE_CHECKING:
    import onnx

_SMALLEST_SCALE = 1e-6  # of weights; a bias in units of it and of the activations' scale fits into 32 bits


class RoundedActivation(nn.Module):
    """Rounds activations to the 256 values of 8 bits; the gradient passes where a value is within their range.

    "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (Jacob et al., 2018),
    equation 12; the gradient is the straight-through estimator.

    >>> RoundedActivation(scale=0.5, zero_point=1)(torch.tensor([-2.0, -0.4, 0.3, 0.9]))
    tensor([-0.5000, -0.5000,  0.5000,  1.0000])
    """

    def __init__(self, scale: float, zero_point: int) -> None:
        """Fixes the range: from -zero_point · scale to (255 - zero_point) · scale."""
        super().__init__()
        self.scale, self.zero_point, self.rounds = scale, zero_point, True

    def forward(self, values: Tensor) -> Tensor:
        """The rounded values, of the same shape; values of the range if it does not round."""
        if not self.rounds:
            return values.clamp(-self.zero_point * self.scale, (255 - self.zero_point) * self.scale)
        return torch.fake_quantize_per_tensor_affine(values, self.scale, self.zero_point, 0, 255)


def weight_scales(weight: Tensor) -> Tensor:
    """(K,) steps of the output channels of a (K, ...) weight: the largest element of each becomes ±127."""
    return (weight.detach().flatten(1).abs().amax(1) / 127).clamp_min(_SMALLEST_SCALE)


def rounded_weight(weight: Tensor) -> Tensor:
    """A (K, ...) weight rounded to 8 bits per output channel; its gradient is that of the result.

    >>> rounded_weight(torch.tensor([[1.27, 0.034], [-2.54, 0.05]]))
    tensor([[ 1.2700,  0.0300],
            [-2.5400,  0.0400]])
    """
    scales = weight_scales(weight)
    zeros = torch.zeros(len(scales), dtype=torch.int32, device=weight.device)
    return torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -127, 127)


def rounded_bias(bias: Tensor, scales: Tensor) -> Tensor:
    """A (K,) bias rounded to multiples of `scales`, 32-bit numbers; its gradient is that of the result.

    >>> rounded_bias(torch.tensor([0.34, -0.1]), torch.tensor([0.1, 0.25]))
    tensor([0.3000, 0.0000])
    """
    return bias + ((bias / scales).round() * scales - bias).detach()


class RoundedConv2d(nn.Conv2d):
    """A convolution with weights in 8 bits, and its bias in 32.

    Attributes:
        input_scale: Of the 8-bit input.
        rounds: False for a convolution in float32.
    """

    input_scale: float
    rounds = True

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K, H', W')."""
        return self._conv_forward(images, *_rounded(self))


class RoundedLinear(nn.Linear):
    """A linear layer with weights in 8 bits, and its bias in 32; see `RoundedConv2d`."""

    input_scale: float
    rounds = True

    def forward(self, features: Tensor) -> Tensor:
        """(N, C) -> (N, K)."""
        return F.linear(features, *_rounded(self))


def _rounded(layer: RoundedConv2d | RoundedLinear) -> tuple[Tensor, Tensor | None]:
    weight, bias = layer.weight, layer.bias
    if layer.rounds and bias is not None:
        bias = rounded_bias(bias, layer.input_scale * weight_scales(weight))
    return rounded_weight(weight) if layer.rounds else weight, bias


class Constant(nn.Module):
    """A constant of a graph."""

    def __init__(self, value: Tensor) -> None:
        """Keeps the value out of the state: the graph has it."""
        super().__init__()
        self.register_buffer("value", value, persistent=False)

    def forward(self) -> Tensor:
        """The value."""
        return self.get_buffer("value")


@dataclass(frozen=True)
class Step:
    """One operation, the names of its inputs, and the name of its output."""

    run: Callable[..., Tensor]
    inputs: tuple[str, ...]
    output: str


class QuantizedBackbone(Backbone):
    """A student after quantization, as ONNX Runtime's 8-bit kernels compute it, up to rounding.

    It has the operations of an ONNX graph with QuantizeLinear and DequantizeLinear nodes (QDQ), in which batch normalization
    is part of the convolutions. The weights are float32 parameters that are rounded in each forward pass; the ranges of
    activations are fixed. The gradient passes the rounding, so the student can be trained further.
    """

    def __init__(self, graph: str) -> None:
        """Builds the operations of a graph; the weights are drawn at random.

        Args:
            graph: Of `facedistill.models.qdq.QdqGraph.packed`.

        Raises:
            ConfigError: If the graph has an operation that is not supported.
        """
        super().__init__(graph=graph)
        parsed = QdqGraph.unpacked(graph)
        self.embedding_dim = parsed.width
        self.register_buffer("graph", torch.frombuffer(bytearray(graph.encode()), dtype=torch.uint8))
        self.layers, self.others = nn.ModuleDict(), nn.ModuleList()
        self._input, self._output = (
            part[0].name for part in (parsed.model.graph.input, parsed.model.graph.output)
        )
        self._steps = [*self._constants(parsed), *self._operations(parsed)]
        last = {name: step.output for step in self._steps for name in step.inputs}
        self._ended: dict[str, list[str]] = {}
        for name, user in last.items():
            self._ended.setdefault(user, []).append(name)

    def _constants(self, graph: QdqGraph) -> list[Step]:
        names = {
            name: None
            for node in graph.model.graph.node
            if node.op_type not in ("Conv", "Gemm", "QuantizeLinear", "DequantizeLinear")
            for name in node.input
            if graph.is_constant(name)
        }
        return [Step(self._kept(Constant(graph.value(name))), (), name) for name in names]

    def _operations(self, graph: QdqGraph) -> list[Step]:
        keys = {node.output[0]: key for key, node in graph.layers.items()}
        steps = []
        for node in graph.model.graph.node:
            inputs = tuple(node.input)
            run: Callable[..., Tensor] | None = None
            if node.output[0] in keys:
                self.layers[keys[node.output[0]]] = layer = _layer(graph, node)
                run, inputs = layer, inputs[:1]
            elif node.op_type == "QuantizeLinear":
                run, inputs = self._kept(RoundedActivation(*graph.step(node))), inputs[:1]
            elif node.op_type == "DequantizeLinear":
                if graph.is_constant(node.output[0]):
                    continue
                run, inputs = _same, inputs[:1]
            steps.append(Step(run or operation(node), inputs, node.output[0]))
        return steps

    def _kept(self, module: nn.Module) -> nn.Module:
        self.others.append(module)
        return module

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) faces in [-1, 1] as (N, D) un-normalized embeddings."""
        values = {self._input: images}
        for step in self._steps:
            values[step.output] = step.run(*(values[name] for name in step.inputs))
            for name in self._ended.get(step.output, ()):
                del values[name]
        return values[self._output]

    @torch.no_grad()
    def correct_biases(self, images: Tensor) -> QuantizedBackbone:
        """Changes each bias so that the mean output of its channel is that without rounding, and returns itself.

        "Data-Free Quantization Through Weight Equalization and Bias Correction" (Nagel et al., 2019), the empirical form of
        section 4.2 and appendix D: layer after layer, each with the inputs that the layers before it give.

        Args:
            images: (N, 3, 112, 112) faces in [-1, 1].
        """
        rounded, exact = {self._input: images}, {self._input: images}
        for step in self._steps:
            given = [rounded[name] for name in step.inputs]
            rounded[step.output] = step.run(*given)
            exact[step.output] = _unrounded(step.run)(*(exact[name] for name in step.inputs))
            layer: Any = step.run
            if isinstance(layer, RoundedConv2d | RoundedLinear) and layer.bias is not None:
                error = rounded[step.output] - exact[step.output]
                layer.bias -= error.transpose(0, 1).flatten(1).mean(1)
                rounded[step.output] = layer(*given)
            for name in self._ended.get(step.output, ()):
                del rounded[name], exact[name]
        return self

    @torch.no_grad()
    def load_float(self, weights: Mapping[str, Tensor]) -> QuantizedBackbone:
        """Takes over the weights of the float graph, by their names there, and returns itself."""
        for key, node in QdqGraph.unpacked(str(self.arguments["graph"])).layers.items():
            layer: Any = self.layers[key]
            names = [name.removesuffix("_DequantizeLinear_Output") for name in node.input[1:]]
            for parameter, name in zip((layer.weight, layer.bias), names, strict=False):
                parameter.copy_(weights[name])
        return self

    @torch.no_grad()
    def as_onnx(self) -> onnx.ModelProto:
        """The QDQ graph with the weights of this network."""
        graph = QdqGraph.unpacked(str(self.arguments["graph"]))
        for key, node in graph.layers.items():
            layer: Any = self.layers[key]
            weight, bias = layer.weight.cpu(), None if layer.bias is None else layer.bias.cpu()
            graph.fill(node, weight, bias, weight_scales(weight))
        return graph.model


def _unrounded(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
    if not hasattr(run, "rounds"):
        return run
    exact: Any = copy.copy(run)
    exact.rounds = False
    return exact


def _same(values: Tensor) -> Tensor:
    return values


def _layer(graph: QdqGraph, node: onnx.NodeProto) -> nn.Module:
    given, shape, has_bias = attributes(node), graph.shape(node.input[1]), len(node.input) > 2
    rounded = graph.is_rounded(node.input[1])
    layer: Any
    if node.op_type == "Gemm":
        assert given.get("transB") == 1, "torch's exporter keeps the layout of its linear layers"
        layer = (RoundedLinear if rounded else nn.Linear)(shape[1], shape[0], bias=has_bias)
    else:
        groups, pads = int(given.get("group", 1)), given.get("pads", [0, 0, 0, 0])
        assert pads[:2] == pads[2:], "torch's convolutions pad both sides equally"
        layer = (RoundedConv2d if rounded else nn.Conv2d)(
            shape[1] * groups,
            shape[0],
            shape[2:],  # type: ignore[arg-type]
            stride=tuple(given.get("strides", (1, 1))),
            padding=tuple(pads[:2]),
            dilation=tuple(given.get("dilations", (1, 1))),
            groups=groups,
            bias=has_bias,
        )
    if rounded:
        layer.input_scale = graph.input_scale(node)
    return layer
