"""int8 after training: layers return to float32 until the embeddings are close enough."""

from __future__ import annotations

import onnx
import pytest
import torch

from facedistill.export import int8
from facedistill.models.onnx_session import cpu_session
from tests.helpers.onnx_graphs import float_graph


def _float_layers(graph: onnx.ModelProto) -> int:
    rounded = {node.output[0] for node in graph.graph.node if node.op_type == "DequantizeLinear"}
    return sum(node.op_type in int8.LAYERS and node.input[1] not in rounded for node in graph.graph.node)


@pytest.mark.parametrize(("least", "expected"), [(0.5, 0), (2.0, 2)])
def test_layers_return_to_float_until_the_cosine_is_reached(
    least: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "LEAST_COSINE", least)
    monkeypatch.setattr(int8, "_STEP", 1)  # of the 3 layers, one at a time
    images = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    graph = int8.quantize(float_graph(), images[:16], images[16:])
    assert _float_layers(graph) == expected
    found, wanted = (
        torch.from_numpy(cpu_session(model.SerializeToString()).run(None, {"images": images.numpy()})[0])
        for model in (graph, float_graph())
    )
    assert torch.cosine_similarity(found, wanted).min() > 0.98
