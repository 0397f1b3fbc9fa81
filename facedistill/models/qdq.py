"""Reads ONNX graphs with QuantizeLinear and DequantizeLinear nodes (QDQ), and writes weights into them."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.errors import ConfigError

if TYPE_CHECKING:
    import onnx

LAYERS = ("Conv", "Gemm")
_LARGEST = 64_000_000  # bytes of a graph without weights
_OPERATIONS: dict[str, Callable[..., Any]] = {
    "Add": torch.add,
    "BatchNormalization": lambda x, weight, bias, mean, variance, epsilon=1e-5, **_: F.batch_norm(
        x, mean, variance, weight, bias, eps=epsilon
    ),
    "Clip": torch.clamp,
    "Concat": lambda *parts, axis: torch.cat(parts, axis),
    "GlobalAveragePool": lambda x: x.mean((2, 3), keepdim=True),
    "HardSigmoid": lambda x, alpha=0.2, beta=0.5: (alpha * x + beta).clamp(0, 1),
    "Mul": torch.mul,
    "PRelu": lambda x, slope: torch.where(x < 0, slope * x, x),
    "ReduceMean": lambda x, axes, keepdims=1, **_: x.mean(axes.tolist(), keepdim=bool(keepdims)),
    "Relu": torch.relu,
    "Reshape": lambda x, shape, **_: x.reshape(
        [x.shape[i] if side == 0 else side for i, side in enumerate(shape.tolist())]
    ),
    "Sigmoid": torch.sigmoid,
}  # of 8-bit students; attributes and constants of a node are arguments


class QdqGraph:
    """A QDQ graph and its constants.

    Attributes:
        model: The graph.
        layers: Its convolutions and linear layers by key.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        """Indexes a graph, which is not copied."""
        self.model = model
        self.tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._dequantized = {
            node.output[0]: node
            for node in model.graph.node
            if node.op_type == "DequantizeLinear" and node.input[0] in self.tensors
        }
        found = [node for node in model.graph.node if node.op_type in LAYERS]
        self.layers = {f"{i:03}": node for i, node in enumerate(found)}
        self._scales = {
            node.output[0]: node.input[1]
            for node in model.graph.node
            if node.op_type == "DequantizeLinear" and node.input[0] not in self.tensors
        }

    @property
    def width(self) -> int:
        """D of the output (N, D)."""
        return self.model.graph.output[0].type.tensor_type.shape.dim[1].dim_value

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a constant."""
        return tuple(self._stored(name).dims)

    def is_rounded(self, name: str) -> bool:
        """Whether a constant is stored in fewer bits."""
        return name in self._dequantized

    def is_constant(self, name: str) -> bool:
        """Whether a name is that of a constant."""
        return name in self._dequantized or name in self.tensors

    def value(self, name: str) -> Tensor:
        """A constant, dequantized."""
        if name not in self._dequantized:
            return self._read(name)
        stored, scale, zero_point = map(self._read, self._dequantized[name].input)
        return (stored.float() - zero_point) * scale  # one scale: layers are not read

    def step(self, node: onnx.NodeProto) -> tuple[float, int]:
        """Scale and zero point of a QuantizeLinear node."""
        return float(self._read(node.input[1])), int(self._read(node.input[2]))

    def input_scale(self, node: onnx.NodeProto) -> float:
        """The scale of the 8-bit input of a layer with rounded weights."""
        return float(self._read(self._scales[node.input[0]]))

    def fill(self, node: onnx.NodeProto, weight: Tensor, bias: Tensor | None, scales: Tensor) -> None:
        """Writes the weights of one layer, in 8 bits where the graph stores them so.

        Args:
            node: Of `layers`.
            weight: (K, ...) float32.
            bias: (K,) float32.
            scales: (K,) steps of the weight.
        """
        given = {1: weight, 2: bias}
        for i, name in enumerate(node.input):
            value = given.get(i)
            if value is None:
                continue
            if name not in self._dequantized:
                self._write(name, value)
                continue
            stored, scale_name, zero_name = self._dequantized[name].input
            scale = scales if i == 1 else scales * self.input_scale(node)
            kind, most = (torch.int8, 127) if i == 1 else (torch.int32, 2**31 - 1)
            each = scale.double().reshape(-1, *[1] * (value.ndim - 1))
            self._write(stored, (value.double() / each).round().clamp(-most, most).to(kind))
            self._write(scale_name, scale.float())
            self._write(zero_name, torch.zeros(len(scale), dtype=kind))

    def packed(self) -> str:
        """The graph without the weights of its layers, as text."""
        bare = type(self)(type(self.model).FromString(self.model.SerializeToString()))
        del bare.model.metadata_props[:], bare.model.graph.value_info[:]
        for node in bare.layers.values():
            for name in node.input[1:]:
                for stored in bare._dequantized[name].input if name in bare._dequantized else [name]:
                    for field in ("raw_data", "float_data", "int32_data"):
                        bare.tensors[stored].ClearField(field)
        return base64.b64encode(zlib.compress(bare.model.SerializeToString(deterministic=True), 9)).decode()

    @classmethod
    def unpacked(cls, text: str) -> QdqGraph:
        """The graph of `packed`.

        Raises:
            ValueError: If it is none, or has more than 64 MB.
        """
        import onnx

        unzip = zlib.decompressobj()
        content = unzip.decompress(base64.b64decode(text), _LARGEST)
        if unzip.unconsumed_tail:
            raise ValueError("the graph is too large")
        return cls(onnx.ModelProto.FromString(content))

    def _stored(self, name: str) -> onnx.TensorProto:
        return self.tensors[self._dequantized[name].input[0] if name in self._dequantized else name]

    def _read(self, name: str) -> Tensor:
        from onnx import numpy_helper

        return torch.from_numpy(numpy_helper.to_array(self.tensors[name]).copy())

    def _write(self, name: str, value: Tensor) -> None:
        from onnx import numpy_helper

        self.tensors[name].CopyFrom(numpy_helper.from_array(value.numpy(), name))


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node as plain values."""
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def operation(node: onnx.NodeProto) -> Callable[..., Tensor]:
    """The operation of a node that is no layer.

    Raises:
        ConfigError: If it is not supported.
    """
    if node.op_type not in _OPERATIONS:
        raise ConfigError(
            f"quantization: the backbone has the operation {node.op_type}, and only {', '.join((*LAYERS, *_OPERATIONS))} "
            "are trained in 8 bits; use another backbone, such as backbone=mobilenetv2"
        )
    function, given = _OPERATIONS[node.op_type], attributes(node)
    return lambda *inputs: function(*inputs, **given)
