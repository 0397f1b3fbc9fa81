"""Small float ONNX graphs."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper


def float_graph(operation: str = "Relu") -> onnx.ModelProto:
    """Convolution, depthwise convolution, addition, pooling and a linear layer: (N, 3, 8, 8) -> (N, 5)."""
    generator = np.random.default_rng(0)
    weights = {
        "w1": generator.normal(0, 0.4, (6, 3, 3, 3)),
        "b1": generator.normal(0, 0.3, 6),
        "w2": generator.normal(0, 0.4, (6, 1, 3, 3)),
        "b2": generator.normal(0, 0.3, 6),
        "w3": generator.normal(0, 0.4, (5, 6)),
        "b3": generator.normal(0, 0.3, 5),
    }
    nodes = [
        helper.make_node("Conv", ["images", "w1", "b1"], ["c1"], "n1", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node(operation, ["c1"], ["r1"], "n2"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "n3", pads=[1, 1, 1, 1], group=6),
        helper.make_node("Add", ["c2", "r1"], ["sum"], "n4"),
        helper.make_node("ReduceMean", ["sum", "axes"], ["mean"], "n5", keepdims=0),
        helper.make_node("Gemm", ["mean", "w3", "b3"], ["embeddings"], "n6", transB=1),
    ]
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    constants.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", float32, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("embeddings", float32, ["N", 5])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def endless_graph() -> onnx.ModelProto:
    """A loop without an end: (N, 3, 8, 8) -> (N, 3)."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Identity", ["v"], ["v2"])], "body",
        [info("i", onnx.TensorProto.INT64, []), info("c", onnx.TensorProto.BOOL, []), info("v", onnx.TensorProto.FLOAT, None)],
        [info("c2", onnx.TensorProto.BOOL, []), info("v2", onnx.TensorProto.FLOAT, None)],
    )  # fmt: skip
    nodes = [
        helper.make_node("Loop", ["", "go", "x"], ["y"], body=body),
        helper.make_node("ReduceMean", ["y"], ["e"], axes=[2, 3], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes, "endless", [info("x", onnx.TensorProto.FLOAT, ["N", 3, 8, 8])], [info("e", onnx.TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.array(True), "go")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
