"""A student in 8 bits: rounding against slow references, gradients, and equality with the file in ONNX Runtime."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor

from facedistill.errors import ConfigError
from facedistill.export import check_parity, export_onnx, load_student, save_student
from facedistill.export.int8 import _quantized, _with_weights_of, _without_batch_norm
from facedistill.export.onnx import onnx_model
from facedistill.models.backbones.quantized import (
    QuantizedBackbone,
    RoundedActivation,
    RoundedConv2d,
    rounded_bias,
    rounded_weight,
    weight_scales,
)
from facedistill.models.onnx_session import cpu_session
from facedistill.models.qdq import QdqGraph
from tests.contracts.backbone_cards import build
from tests.helpers.onnx_graphs import float_graph


def _run(model: onnx.ModelProto, images: Tensor) -> Tensor:
    session = cpu_session(model.SerializeToString())
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _images(number: int, seed: int = 1) -> Tensor:
    return torch.rand(number, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def network() -> QuantizedBackbone:
    model = float_graph()
    return _with_weights_of(model, _quantized(model, _images(16), method="MinMax", extra={})).eval()


def test_rounding_equals_a_slow_reference() -> None:
    values = torch.randn(50, generator=torch.Generator().manual_seed(3))
    scale, zero_point = 0.02, 100
    expected = [(min(255, max(0, round(float(v) / scale) + zero_point)) - zero_point) * scale for v in values]
    torch.testing.assert_close(RoundedActivation(scale, zero_point)(values), torch.tensor(expected))


def test_rounded_weights_equal_a_slow_reference() -> None:
    weight = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(4))
    expected = torch.empty_like(weight)
    for k, channel in enumerate(weight):
        step = float(channel.abs().max()) / 127
        for i, value in enumerate(channel.flatten()):
            expected[k].view(-1)[i] = round(float(value) / step) * step
    torch.testing.assert_close(rounded_weight(weight), expected)


def test_the_gradient_passes_the_rounding_within_the_range() -> None:
    values = torch.tensor([-3.0, -0.4, 0.3, 9.0], requires_grad=True)
    RoundedActivation(scale=0.01, zero_point=100)(values).backward(torch.arange(1.0, 5.0))
    assert values.grad is not None
    assert values.grad.tolist() == [0, 2, 3, 0]
    weight = torch.randn(2, 3, requires_grad=True)
    bias = torch.randn(2, requires_grad=True)
    (rounded_weight(weight).sum() + 2 * rounded_bias(bias, weight_scales(weight)).sum()).backward()
    assert weight.grad is not None
    assert bias.grad is not None
    assert weight.grad.unique().tolist() == [1]
    assert bias.grad.unique().tolist() == [2]


def test_a_channel_of_zeros_keeps_its_bias() -> None:
    layer = RoundedConv2d(1, 1, 1)
    layer.input_scale = 0.05
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.constant_(layer.bias, 3.0)  # type: ignore[arg-type]
    torch.testing.assert_close(layer(torch.ones(1, 1, 1, 1)), torch.full((1, 1, 1, 1), 3.0))


def test_the_file_embeds_as_the_network(network: QuantizedBackbone) -> None:
    images, graph = _images(32, seed=2), QdqGraph.unpacked(str(network.arguments["graph"]))
    last = next(
        n for n in graph.model.graph.node if n.op_type == "QuantizeLinear" and "embeddings" in n.input[0]
    )
    difference = (_run(network.as_onnx(), images) - network(images)).abs()
    assert float(difference.max().detach()) <= 1.01 * graph.step(last)[0]
    assert float((difference.detach() > 1e-4).float().mean()) < 0.02  # sums that lie between two steps


def test_it_is_still_equal_after_training(network: QuantizedBackbone) -> None:
    trained = QuantizedBackbone(**network.arguments)  # type: ignore[arg-type]
    trained.load_state_dict(network.state_dict())
    images, optimizer = _images(16), torch.optim.SGD(trained.parameters(), lr=0.05)
    before = float(trained(images).square().mean().detach())
    for _ in range(5):
        optimizer.zero_grad()
        (loss := trained(images).square().mean()).backward()
        optimizer.step()
    assert float(loss.detach()) < before
    cosine = torch.cosine_similarity(_run(trained.as_onnx(), images), trained(images))
    assert float(cosine.min().detach()) > 0.999


def test_rounding_costs_little_and_corrected_biases_less() -> None:
    model = float_graph()
    graph = _quantized(model, _images(16), method="MinMax", extra={})
    rounded, images = _with_weights_of(model, graph), _images(64, seed=5)
    with torch.no_grad():
        for layer in rounded.layers.values():
            layer.bias += 0.05
    expected = _run(model, images)
    before = (rounded(images) - expected).mean(0).abs().max()
    exact = _with_weights_of(model, graph)
    after = (exact(images) - expected).mean(0).abs().max()
    corrected = (exact.correct_biases(images)(images) - expected).mean(0).abs().max()
    assert corrected < 0.02
    assert corrected <= after < before


def test_a_student_file_holds_it(network: QuantizedBackbone, tmp_path: Path) -> None:
    save_student(network, tmp_path / "student.safetensors", {})
    loaded = load_student(tmp_path / "student.safetensors")
    assert torch.equal(loaded(_images(4)), network(_images(4)))


def test_a_graph_is_packed_without_its_weights(network: QuantizedBackbone) -> None:
    packed = QdqGraph.unpacked(str(network.arguments["graph"]))
    assert not packed.tensors["w1_quantized"].raw_data
    assert len(str(network.arguments["graph"])) < 4000


def test_an_operation_that_is_not_supported_is_named() -> None:
    model = float_graph("Softplus")
    graph = _quantized(model, _images(4), method="MinMax", extra={})
    with pytest.raises(
        ConfigError, match="the backbone has the operation Softplus, and only Conv, Gemm, Add"
    ):
        QuantizedBackbone(QdqGraph(graph).packed())


def test_a_graph_that_grows_without_end_is_refused() -> None:
    bomb = base64.b64encode(zlib.compress(bytes(70_000_000), 9)).decode()
    with pytest.raises(ValueError, match="too large"):
        QdqGraph.unpacked(bomb)


def test_student_onnx_is_the_int8_graph(network: QuantizedBackbone, tmp_path: Path) -> None:
    path = tmp_path / "student.onnx"
    export_onnx(network, path, {"run": "r"})
    assert check_parity(network, path, _images(8)) > 0.999
    written = onnx.load(path)
    assert [i.data_type for i in written.graph.initializer if i.name == "w1_quantized"] == [
        onnx.TensorProto.INT8
    ]
    assert "graph" not in written.metadata_props[-1].value
    with pytest.raises(ConfigError, match="takes --pixels float only"):
        export_onnx(network, path, {}, "rgb")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("mobilefacenet", 0.99),
        ("tinyfar_a", 0.99),
        ("iresnet18", 0.99),
        (
            "ghostfacenet_s1",
            0.98,
        ),  # 208 rounded activations: 8 bits move this untrained network to 0.982 of float32
    ],
)
def test_other_backbones_are_computed_as_onnxruntime_computes_them(name: str, least: float) -> None:
    torch.manual_seed(0)
    images = torch.rand(12, 3, 112, 112) * 2 - 1
    backbone = build(name, embedding_dim=32).eval()
    for parameter in backbone.parameters():
        if (
            parameter.dim() == 1
        ):  # equal ones would be one tensor of the graph, which session.x64quantprecision cannot split
            parameter.data.add_(0.001 * torch.randn(len(parameter)))
    model = _without_batch_norm(onnx_model(backbone, {}))
    network = _with_weights_of(model, _quantized(model, images[:8], method="MinMax", extra={})).eval()
    found = _run(network.as_onnx(), images)
    assert torch.cosine_similarity(found, network(images).detach()).min() > least
