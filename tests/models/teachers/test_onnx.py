"""Any ONNX recognizer: its own answers, in batches of any size, whatever batch its exporter baked in."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from facedistill.errors import AssetError, ConfigError
from facedistill.models.teachers import FrozenTeacher, OnnxNetwork, onnx_network
from facedistill.models.teachers.golden import draw_faces
from facedistill.models.teachers.onnx_file import read_onnx
from facedistill.models.teachers.onnx_network import convert
from facedistill.models.weights import write_weights
from facedistill.types import InputSpec
from tests.helpers.assets import asset_or_skip
from tests.helpers.errors import error_message
from tests.helpers.onnx_graphs import endless_graph


def graph_file(path: Path, batch: int | str = "N", baked: bool = False, channels: int = 3) -> Path:
    """Convolution, pooling, linear layer to D = 4; `baked` reshapes to exactly one row on the way."""
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((5, channels, 4, 4)).astype(np.float32)
    weight = rng.standard_normal((5, 4)).astype(np.float32)
    shape = np.array([1, 5] if baked else [-1, 5], np.int64)
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], strides=[4, 4]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Reshape", ["p", "s"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    constants = [numpy_helper.from_array(a, n) for a, n in ((kernel, "k"), (shape, "s"), (weight, "w"))]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, channels, 112, 112])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def teacher_of(path: Path, spec: InputSpec | None = None, dim: int = 4) -> FrozenTeacher:
    weights = path.with_suffix(".safetensors")
    write_weights(weights, convert({path.name: path}), {})
    return FrozenTeacher(OnnxNetwork(dim), weights, spec or InputSpec())


@pytest.mark.parametrize(("batch", "baked"), [("N", False), (1, False), ("N", True), (1, True)])
def test_equals_the_graph_image_by_image(tmp_path: Path, batch: int | str, baked: bool) -> None:
    path = graph_file(tmp_path / "m.onnx", batch, baked)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = draw_faces(3)
    expected = torch.cat([torch.from_numpy(session.run(None, {"x": i[None].numpy()})[0]) for i in images])
    teacher = teacher_of(path)
    torch.testing.assert_close(teacher(images), expected, rtol=0, atol=1e-6)
    assert teacher.network._opened.get_inputs()[0].shape[0] == (1 if baked else "N")
    assert teacher(images[:1]).shape == (1, 4)


def test_is_frozen_copied_and_fingerprinted_as_any_teacher(tmp_path: Path) -> None:
    teacher = teacher_of(graph_file(tmp_path / "m.onnx"))
    images = draw_faces(2).requires_grad_()
    assert not teacher(images).requires_grad
    assert torch.equal(copy.deepcopy(teacher)(images), teacher(images))
    assert teacher_of(tmp_path / "m.onnx").fingerprint == teacher.fingerprint
    assert teacher_of(graph_file(tmp_path / "n.onnx", baked=True)).fingerprint != teacher.fingerprint
    assert teacher.state_dict() == {}


def test_feeds_it_as_the_input_spec_says(tmp_path: Path) -> None:
    path = graph_file(tmp_path / "m.onnx")
    images = draw_faces(2)
    raw = teacher_of(path, InputSpec(color="BGR", mean=0.0, std=1.0))(images)
    torch.testing.assert_close(raw, teacher_of(path)((images.flip(1) + 1) * 127.5), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("spec", "dim", "message"),
    [
        (
            InputSpec(size_px=96),
            4,
            "teacher.input_spec: the graph takes faces of shape [3, 112, 112], not [3, 96, 96]; fix size_px",
        ),
        (InputSpec(), 512, "teacher.embedding_dim: 512, but the graph's embeddings have shape (4,)"),
    ],
)
def test_a_yaml_that_does_not_fit_the_graph(tmp_path: Path, spec: InputSpec, dim: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        teacher_of(graph_file(tmp_path / "m.onnx"), spec, dim)(draw_faces(1))
    assert str(caught.value) == message


def test_refuses_what_is_no_recognizer(tmp_path: Path) -> None:
    path = tmp_path / "page.onnx"
    path.write_text("<html>")
    with pytest.raises(AssetError) as caught:
        convert({"page.onnx": path})
    assert str(caught.value) == "page.onnx is truncated or not an ONNX file (DecodeError); fetch it again"
    path = graph_file(tmp_path / "gray.onnx", channels=1)
    with pytest.raises(AssetError) as caught:
        convert({"gray.onnx": path})
    assert str(caught.value) == (
        "gray.onnx takes ['N', 1, 112, 112], not images (N, 3, H, W); it cannot be a teacher"
    )
    model = onnx.load(graph_file(tmp_path / "half.onnx"))
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(model, tmp_path / "half.onnx")
    with pytest.raises(
        AssetError, match=r"^half\.onnx takes images of float16; export it with an input of float32$"
    ):
        convert({"half.onnx": tmp_path / "half.onnx"})


@pytest.mark.assets
def test_refuses_weights_outside_and_values_that_are_no_numbers(tmp_path: Path) -> None:
    path = graph_file(tmp_path / "m.onnx")
    onnx.save(
        onnx.load(path),
        tmp_path / "ext.onnx",
        save_as_external_data=True,
        location="ext.data",
        size_threshold=0,
    )
    assert error_message(AssetError, read_onnx, tmp_path / "ext.onnx") == (
        "ext.onnx keeps weights outside, in ext.data; put all into one file: onnx.save(onnx.load('ext.onnx'), 'one.onnx')"
    )
    model = onnx.load(path)
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.full((5, 3, 4, 4), np.nan, np.float32), "k")
    )
    onnx.save(model, path)
    assert error_message(AssetError, read_onnx, path) == (
        "m.onnx holds values that are not numbers in k; fetch it again"
    )


def test_a_graph_that_never_ends_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_network, "_SECONDS_PER_FACE", 0.2)
    onnx.save(endless_graph(), tmp_path / "endless.onnx")
    with pytest.raises(
        AssetError, match=r"^endless\.onnx cannot be run by onnxruntime \(.*Loop node.*Exiting"
    ):
        convert({"endless.onnx": tmp_path / "endless.onnx"})


def test_sface_equals_its_published_graph() -> None:
    weights = asset_or_skip("sface")
    teacher = FrozenTeacher(OnnxNetwork(128), weights, InputSpec(color="BGR", mean=0.0, std=1.0))
    images = draw_faces(3)
    together = teacher(images)
    torch.testing.assert_close(
        together, torch.cat([teacher(image[None]) for image in images]), rtol=0, atol=1e-5
    )
    assert together.shape == (3, 128)
    assert teacher.network._opened.get_inputs()[0].shape[0] == "N"
